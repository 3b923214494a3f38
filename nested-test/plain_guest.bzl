# SPDX-License-Identifier: Apache-2.0
"""plain_guest_test: a command in a virtual machine that has a kernel of Debian's and nothing else."""

load("@rules_python//python:defs.bzl", "py_test")
load("//tools:kernels.bzl", "KERNELS")

# AF_VSOCK with vsock_loopback, in the order in which they are loaded.
VSOCK_MODULES = [
    "vsock",
    "vmw_vsock_virtio_transport_common",
    "vsock_loopback",
]

def plain_guest_test(
        name,
        command,
        programs = [],
        kernel = KERNELS[0],
        modules = VSOCK_MODULES,
        data = [],
        vsock_device = None,
        host = None,
        tags = []):
    """Boots a guest, loads modules, runs a shell command in it; passes if the command exits with 0.

    Args:
      name: of the test.
      command: busybox shell, with $$ for $.  It runs as root in /tmp, with the programs in its PATH.
      programs: static executables, put into /bin by their own names.
      kernel: one of //tools:kernels.bzl.
      modules: kernel modules, in the order in which they are loaded: names of //nested-test/kernels:modules.bzl, or labels of
        .ko files that were built for this kernel.
      data: other files, put into /data by their own names.
      vsock_device: a program that takes --guest-cid, --socket and --uds-path, as vhost-user-vsock does: the guest gets its device, and
        CID 3.
      host: with it, a Python script that runs on the host at the same time, with the --uds-path as its argument; must exit with 0, too.
      tags: more tags; "vm" is always one.
    """
    args, needed = _guest(kernel, modules, programs, data)
    if vsock_device:
        args += ["--vsock-device=$(rootpath %s)" % vsock_device, "--host=$(rootpath %s)" % host]
        needed += [vsock_device, host]
    args.append(_shell("--command", command))
    py_test(
        name = name,
        timeout = "moderate",
        srcs = ["//nested-test:plain_guest.py"],
        main = "//nested-test:plain_guest.py",
        args = args,
        data = needed,
        tags = ["vm", "cpu:2"] + tags,
        deps = [
            "//nested-test:initramfs",
            "//nested-test:machine",
        ],
    )

def sibling_guests_test(name, a, b, vsock_device, programs = [], kernel = KERNELS[0], modules = [], data = [], tags = []):
    """Boots two guests with devices of one vhost-user-vsock, and a network; passes if both commands exit with 0.

    Args:
      name: of the test.
      a: as the command of plain_guest_test, for the guest with CID 3; $$OWN and $$PEER are the CIDs, 10.0.0.$$OWN an address.
      b: for the guest with CID 4.
      vsock_device: vhost-user-vsock.
      programs: as there.
      kernel: as there.
      modules: as there, of which one drives an e1000.
      data: as there.
      tags: as there.
    """
    args, needed = _guest(kernel, modules, programs, data)
    args += ["--vsock-device=$(rootpath %s)" % vsock_device, _shell("--a", a), _shell("--b", b)]
    py_test(
        name = name,
        timeout = "long",
        srcs = ["//nested-test:sibling_guests.py"],
        main = "//nested-test:sibling_guests.py",
        args = args,
        data = needed + [vsock_device],
        tags = ["vm", "cpu:2"] + tags,
        deps = [
            "//nested-test:machine",
            "//nested-test:plain_guest",
        ],
    )

def _guest(kernel, modules, programs, data):
    """The arguments that say what a guest is made of, and the files they name."""
    vmlinux = "//nested-test/kernels:%s/vmlinux.elf" % kernel
    modules = [m if ":" in m else "//nested-test/kernels:%s/%s.ko" % (kernel, m) for m in modules]
    args = ["--kernel=$(rootpath %s)" % vmlinux]
    args += ["--module=$(rootpath %s)" % m for m in modules]
    args += ["--program=$(rootpath %s)" % p for p in programs]
    args += ["--data=$(rootpath %s)" % d for d in data]
    return args, [vmlinux] + modules + programs + data

def _shell(option, command):
    return "%s='%s'" % (option, command.replace("'", "'\\''"))
