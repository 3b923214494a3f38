# SPDX-License-Identifier: Apache-2.0
"""The kernels that modules are built for and that virtual machines boot.

tools/setup_kernels.sh fetches each into .deps/kernels/NAME; @debian_kernel_NAME (with _ for .) is made of that folder, and
//nested-test/kernels has what a machine boots with.  To add one: here, in tools/setup_kernels.sh, third_party/repositories.bzl
and MODULE.bazel.
"""

# The first is what tests use that name none.
KERNELS = [
    "6.1",
    "6.12",
]

# Linux with lockdep, kmemleak and others, built by //nested-test/kernels.  Its targets are "manual".
DEBUG_KERNEL = "debug"

def kernel_headers(kernel):
    """What modules for a kernel are built against."""
    if kernel == DEBUG_KERNEL:
        return "//nested-test/kernels:debug/headers.tar"
    return kernel_repository(kernel) + "//:headers"

def kernel_repository(kernel):
    """The repository of a kernel of KERNELS."""
    return "@debian_kernel_" + kernel.replace(".", "_")
