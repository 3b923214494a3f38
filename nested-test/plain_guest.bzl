# SPDX-License-Identifier: Apache-2.0
"""plain_guest_test: a command in a virtual machine that has Debian's kernel and nothing else."""

load("@rules_python//python:defs.bzl", "py_test")

# AF_VSOCK with vsock_loopback, in the order in which they are loaded.
VSOCK_MODULES = [
    "modules/vsock.ko",
    "modules/vmw_vsock_virtio_transport_common.ko",
    "modules/vsock_loopback.ko",
]

def plain_guest_test(
        name,
        command,
        programs,
        modules = ["//nested-test:" + m for m in VSOCK_MODULES],
        data = [],
        tags = []):
    """Boots a guest, loads modules, runs a shell command in it; passes if the command exits with 0.

    Args:
      name: of the test.
      command: busybox shell, with $$ for $.  It runs as root in /tmp, with the programs in its PATH.
      programs: static executables, put into /bin by their own names.
      modules: kernel modules (.ko files of Debian's kernel or built for it), in the order in which they are loaded.
      data: other files, put into /data by their own names.
      tags: more tags; "vm" is always one.
    """
    args = ["--kernel=$(rootpath //nested-test:vmlinux)"]
    args += ["--module=$(rootpath %s)" % m for m in modules]
    args += ["--program=$(rootpath %s)" % p for p in programs]
    args += ["--data=$(rootpath %s)" % d for d in data]
    args += ["--command='%s'" % command.replace("'", "'\\''")]
    py_test(
        name = name,
        timeout = "moderate",
        srcs = ["//nested-test:plain_guest.py"],
        main = "//nested-test:plain_guest.py",
        args = args,
        data = ["//nested-test:vmlinux"] + modules + programs + data,
        tags = ["vm", "cpu:2"] + tags,
        deps = ["//nested-test:initramfs"],
    )
