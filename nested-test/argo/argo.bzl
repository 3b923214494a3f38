# SPDX-License-Identifier: Apache-2.0
"""argo_test: an xen_nested_test with the Argo modules loaded everywhere, and hatch."""

load("//nested-test:xen_nested.bzl", "xen_nested_test")
load("//tools:kernels.bzl", "KERNELS")

def argo_test(name, guests, script, kernel = KERNELS[0], module_parameters = {}, programs = [], data = [], **kwargs):
    """As xen_nested_test.

    Args:
      name: of the test.
      guests: name to guest(...).
      script: run in dom0; it sources /data/lib.sh.
      kernel: one of //tools:kernels.bzl.
      module_parameters: "argo_core" or "vsock_argo_transport" to what insmod gets behind it.
      programs: besides hatch.
      data: besides lib.sh.
      **kwargs: of xen_nested_test.
    """
    argo = {m: "//backends/argo/linux:%s/%s.ko" % (kernel, m) for m in ["argo_core", "vsock_argo_transport"]}
    modules = ["vsock", "vmw_vsock_virtio_transport_common"] + argo.values()
    xen_nested_test(
        name = name,
        data = ["lib.sh"] + data,
        dom0_modules = modules,
        guest_modules = modules,
        guests = guests,
        kernel = kernel,
        module_parameters = {argo[m]: module_parameters[m] for m in module_parameters},
        programs = ["//hatch"] + programs,
        script = script,
        **kwargs
    )
