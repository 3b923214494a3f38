# SPDX-License-Identifier: Apache-2.0
"""Which of Debian's modules machines may load, and what each kernel has."""

load("@debian_kernel_6_1//:modules.bzl", MODULES_6_1 = "MODULES")
load("@debian_kernel_6_12//:modules.bzl", MODULES_6_12 = "MODULES")

# Kernel to its modules to their files in the kernel's repository; no modules where tools/setup --full did not unpack it.
KERNEL_MODULES = {
    "6.1": MODULES_6_1,
    "6.12": MODULES_6_12,
}

GUEST_MODULES = [
    # AF_VSOCK.
    "vsock",
    "vsock_diag",
    "vsock_loopback",
    "vsockmon",
    "vmw_vsock_virtio_transport",
    "vmw_vsock_virtio_transport_common",
    "vhost",
    "vhost_iotlb",
    "vhost_vsock",
    # Virtio, and a network card that QEMU and the kernel both have.
    "virtio",
    "virtio_ring",
    "virtio_mmio",
    "virtio_pci",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_net",
    "failover",
    "net_failover",
    "e1000",
    # Xen: what the tools in dom0 need, and networks between domains.
    "xen-evtchn",
    "xen-gntalloc",
    "xen-gntdev",
    "xen-privcmd",
    "xenfs",
    "xen-netback",
    "xen-netfront",
]
