# SPDX-License-Identifier: Apache-2.0
"""@debian_xen: Xen's source package, Debian's Xen tools, and an sshd for dom0, which tools/setup --full fetches.

Without them every target is empty, so that the rest of the tree still builds; what needs Xen says what is missing.
"""

_BUILD = """
package(default_visibility = ["//visibility:public"])

# The source package, still packed: three files instead of some thousands.
filegroup(
    name = "source",
    srcs = glob(["source/*"], allow_empty = True),
)

# What dom0 runs, with Xen's libraries.
filegroup(
    name = "tools",
    srcs = glob(
        [
            "tools/usr/lib/xen-*/bin/libxl-save-helper",
            "tools/usr/lib/xen-*/bin/xen-init-dom0",
            "tools/usr/lib/xen-*/bin/xenconsole",
            "tools/usr/lib/xen-*/bin/xenconsoled",
            "tools/usr/lib/xen-*/bin/xenstored",
            "tools/usr/lib/xen-*/bin/xl",
            "tools/usr/bin/xenstore-*",
            "tools/usr/lib/x86_64-linux-gnu/*.so*",
        ],
        allow_empty = True,
        # A link to a script that is not taken.
        exclude = ["tools/usr/bin/xenstore-control"],
    ),
)

filegroup(
    name = "ssh_server",
    srcs = glob(
        [
            "dropbear/usr/sbin/dropbear",
            "dropbear/usr/lib/x86_64-linux-gnu/*.so*",
        ],
        allow_empty = True,
    ),
)
"""

def _debian_xen_impl(rctx):
    root = str(rctx.path(Label("//:WORKSPACE")).dirname)
    for folder, path in {"source": "xen/source", "tools": "xen/tools", "dropbear": "dropbear"}.items():
        tree = rctx.path(root + "/.deps/" + path)
        if tree.exists:
            rctx.symlink(tree, folder)
    rctx.file("BUILD.bazel", _BUILD)

debian_xen = repository_rule(
    implementation = _debian_xen_impl,
    local = True,  # look again whenever the Bazel server starts
    doc = "Xen of Debian, as tools/setup --full fetches it.",
)
