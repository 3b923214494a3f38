# SPDX-License-Identifier: Apache-2.0
"""@debian_kernel_6_1 and others: a kernel of Debian's that tools/setup --full unpacks, with its modules and headers.

Without it every target is empty, so that the rest of the tree still builds; what needs a kernel says what is missing.
"""

load("//tools:kernels.bzl", "KERNELS")

_BUILD = """
package(default_visibility = ["//visibility:public"])

# boot/vmlinuz-*: one file, or none.
filegroup(
    name = "vmlinuz",
    srcs = glob(["boot/vmlinuz-*"], allow_empty = True),
)

# The headers are far too many files for an action's inputs.  These three stand for them: they lie at the top of the tree
# (linux-headers-*-amd64), and change with every build of the kernel.
filegroup(
    name = "headers",
    srcs = glob([
        "usr/src/linux-headers-*/Module.symvers",
        "usr/src/linux-headers-*/include/generated/utsrelease.h",
        "usr/src/linux-headers-*/include/generated/autoconf.h",
    ], allow_empty = True),
)

# Of linux-source, the scripts that check kernel code, and Linux's own test of AF_VSOCK.
filegroup(
    name = "checkpatch",
    srcs = glob(["source/scripts/*"], allow_empty = True),
)

filegroup(
    name = "vsock_test_sources",
    srcs = glob(["source/tools/testing/vsock/*"], allow_empty = True),
)

# The whole of linux-source, packed.
filegroup(
    name = "linux_source",
    srcs = glob(["usr/src/linux-source-*.tar.xz"], allow_empty = True),
)
"""

def _debian_kernel_impl(rctx):
    root = str(rctx.path(Label("//:WORKSPACE")).dirname)
    tree = root + "/.deps/kernels/" + rctx.attr.kernel
    modules = {}
    if rctx.path(tree).exists:
        for folder in ["boot", "lib", "source", "usr/src"]:
            if rctx.path(tree + "/" + folder).exists:
                rctx.symlink(tree + "/" + folder, folder)
        found = rctx.execute(["find", "lib/modules/", "-name", "*.ko*"])
        if found.return_code != 0:
            fail("cannot list the modules below %s: %s" % (tree, found.stderr))
        for path in found.stdout.splitlines():
            modules[path.rpartition("/")[2].partition(".ko")[0]] = path
    # //nested-test/kernels offers the ones that machines load.
    rctx.file("modules.bzl", "# Module to file.\nMODULES = %r\n" % modules)
    rctx.file("BUILD.bazel", _BUILD + "\nexports_files(%r)\n" % modules.values())

debian_kernel = repository_rule(
    implementation = _debian_kernel_impl,
    attrs = {"kernel": attr.string(mandatory = True, values = KERNELS)},
    local = True,  # look again whenever the Bazel server starts
    doc = "A Debian kernel package with its headers, unpacked.",
)
