# SPDX-License-Identifier: Apache-2.0
"""@debian_kernel: the kernel image and modules that tools/setup --full unpacks.

Without them every target is empty, so that the rest of the tree still builds; what needs a kernel says what is missing.
"""

_BUILD = """
package(default_visibility = ["//visibility:public"])

# boot/vmlinuz-*: one file, or none.
filegroup(
    name = "vmlinuz",
    srcs = glob(["boot/vmlinuz-*"], allow_empty = True),
)

# The modules of AF_VSOCK.
filegroup(
    name = "vsock_modules",
    srcs = glob(["lib/modules/*/kernel/net/vmw_vsock/*.ko"], allow_empty = True),
)
"""

def _debian_kernel_impl(rctx):
    root = str(rctx.path(Label("//:WORKSPACE")).dirname)
    for folder in ["boot", "lib"]:
        tree = rctx.path(root + "/" + rctx.attr.source_dir + "/" + folder)
        if tree.exists:
            rctx.symlink(tree, folder)
    rctx.file("BUILD.bazel", _BUILD)

debian_kernel = repository_rule(
    implementation = _debian_kernel_impl,
    attrs = {"source_dir": attr.string(default = ".deps/kernel")},
    local = True,  # look again whenever the Bazel server starts
    doc = "Debian's kernel package, unpacked.",
)
