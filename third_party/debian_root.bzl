# SPDX-License-Identifier: Apache-2.0
"""@debian_root: small Debian roots that tools/setup --full makes, in which tests try packages.

Without them every target is empty, so that the rest of the tree still builds; what needs a root says what is missing.
"""

_BUILD = """
package(default_visibility = ["//visibility:public"])

# With dkms and the headers of Debian's current kernel.
filegroup(
    name = "dkms",
    srcs = glob(["roots/dkms.tar"], allow_empty = True),
)
"""

def _debian_root_impl(rctx):
    roots = str(rctx.path(Label("//:WORKSPACE")).dirname) + "/.deps/roots"
    if rctx.path(roots).exists:
        rctx.symlink(roots, "roots")
    rctx.file("BUILD.bazel", _BUILD)

debian_root = repository_rule(
    implementation = _debian_root_impl,
    local = True,  # look again whenever the Bazel server starts
    doc = "Debian roots as archives.",
)
