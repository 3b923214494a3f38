# SPDX-License-Identifier: Apache-2.0
"""kernel_module: Linux modules built by kbuild against every kernel of kernels.bzl."""

load("@rules_shell//shell:sh_test.bzl", "sh_test")
load("//tools:kernels.bzl", "DEBUG_KERNEL", "KERNELS", "kernel_headers", "kernel_repository")

def _kernel_module_build_impl(ctx):
    folder = ctx.label.package
    outs = ctx.outputs.outs
    args = ctx.actions.args()
    args.add_all("--headers", ctx.files.headers)
    args.add_all("--sources", ctx.files.srcs)
    args.add("--folder", folder)
    args.add_all("--outs", outs)
    ctx.actions.run(
        executable = ctx.executable._build,
        arguments = [args],
        inputs = ctx.files.srcs + ctx.files.headers,
        outputs = outs,
        mnemonic = "KernelModule",
        progress_message = "Building modules of //%s for Linux %s" % (folder, ctx.attr.kernel),
        use_default_shell_env = True,
    )

    # Bazel 4 gives a test only the files that are runfiles.
    return [DefaultInfo(files = depset(outs), runfiles = ctx.runfiles(outs))]

_kernel_module_build = rule(
    implementation = _kernel_module_build_impl,
    attrs = {
        "headers": attr.label(mandatory = True, allow_files = True),
        "kernel": attr.string(mandatory = True),
        "outs": attr.output_list(mandatory = True),
        "srcs": attr.label_list(mandatory = True, allow_files = True),
        "_build": attr.label(
            default = "//tools:build_kernel_module",
            executable = True,
            cfg = "exec",
        ),
    },
)

def kernel_module(name, modules, srcs, deps = [], visibility = None, testonly = False, tags = []):
    """Builds modules against every kernel.

    Makes :KERNEL/MODULE.ko for each kernel (the debug kernel, too) and module, without debugging information, and :NAME_KERNEL for all modules of one
    kernel; e.g. //backends/argo/linux:6.1/argo_core.ko and :modules_6.1.  Where tools/setup --full did not unpack the headers,
    the files are empty and the build says so; tests refuse them.  A warning of the compiler, of sparse or of kbuild's own checks
    ends the build, and :NAME_checkpatch_test holds the package's C files to the kernel's style.

    Args:
      name: of the targets for all modules of a kernel.
      modules: what the package's Kbuild file makes, without .ko.
      srcs: Kbuild and everything else that it needs from this package.
      deps: files of other packages, by labels; they keep their place in the tree.
      visibility: the usual.
      testonly: the usual.
      tags: the usual.
    """
    for kernel in KERNELS + [DEBUG_KERNEL]:
        _kernel_module_build(
            name = name + "_" + kernel,
            kernel = kernel,
            headers = kernel_headers(kernel),
            srcs = srcs + deps,
            outs = ["%s/%s.ko" % (kernel, m) for m in modules],
            visibility = visibility,
            testonly = testonly,
            tags = tags + (["manual"] if kernel == DEBUG_KERNEL else []),
        )

    checkpatch = kernel_repository(KERNELS[0]) + "//:checkpatch"
    sh_test(
        name = name + "_checkpatch_test",
        size = "small",
        srcs = ["//tools:checkpatch_test.sh"],
        args = [kernel_repository(KERNELS[0])[1:]] + ["$(rootpaths %s)" % s for s in srcs],
        data = srcs + [checkpatch],
        tags = ["vm"],
    )
