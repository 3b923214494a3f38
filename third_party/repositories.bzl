# SPDX-License-Identifier: Apache-2.0
"""All external repositories of the WORKSPACE (Debian, offline) build."""

load("//third_party:debian_absl.bzl", "debian_absl")
load("//third_party:debian_kernel.bzl", "debian_kernel")
load("//third_party:debian_root.bzl", "debian_root")
load("//third_party:debian_xen.bzl", "debian_xen")
load("//tools:kernels.bzl", "KERNELS", "kernel_repository")

def third_party_repositories():
    # Names that Bazel 4's DEFAULT.WORKSPACE.SUFFIX would otherwise download.
    for name in ["platforms", "rules_cc", "rules_java", "rules_python", "rules_shell", "remote_coverage_tools"]:
        native.local_repository(
            name = name,
            path = "third_party/bazel_shims/" + name,
        )

    native.local_repository(
        name = "bazel_skylib",
        path = "/usr/share/bazel/tools/skylib",
    )
    debian_absl(name = "com_google_absl")
    for kernel in KERNELS:
        debian_kernel(
            name = kernel_repository(kernel)[1:],
            kernel = kernel,
        )
    debian_root(name = "debian_root")
    debian_xen(name = "debian_xen")

    native.new_local_repository(
        name = "com_google_googletest",
        path = "/usr/src/googletest",
        build_file = "//third_party:googletest.BUILD",
    )
    native.new_local_repository(
        name = "com_google_benchmark",
        path = "/usr/include/benchmark",
        build_file = "//third_party:benchmark.BUILD",
    )
