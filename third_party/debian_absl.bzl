# SPDX-License-Identifier: Apache-2.0
"""@com_google_absl: the source of Debian's abseil, which tools/setup unpacks."""

def _debian_absl_impl(rctx):
    root = rctx.path(Label("//:WORKSPACE")).dirname
    source = rctx.path(str(root) + "/.deps/abseil")
    if not source.exists:
        fail("%s is missing: run tools/setup" % source)

    # Its own BUILD.bazel files are used.
    for path in source.readdir():
        rctx.symlink(path, path.basename)

debian_absl = repository_rule(
    implementation = _debian_absl_impl,
    local = True,  # look again whenever the Bazel server starts
)
