# SPDX-License-Identifier: Apache-2.0
"""Runs a command in a virtual machine with Debian's kernel, under QEMU's software emulation.

The guest says how the command ended by a byte to QEMU's isa-debug-exit device, which makes it QEMU's exit status.  Only the
byte for "passed" passes: a panic, a reboot or a hang ends QEMU otherwise.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile

from initramfs import Initramfs
from machine import EXIT_PORT, FAILED, PASSED, PASSED_STATUS, add_busybox, needed, qemu

TIME_LIMIT = 180  # seconds; a run takes 10 to 20, the conformance suite 60 to 110

INIT = """#!/bin/sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
ip link set lo up

end() {
  echo "guest: $1"
  printf "\\\\x$2" | dd of=/dev/port bs=1 seek=%(port)d count=1 2> /dev/null
  poweroff -f
}

for module in %(modules)s; do
  insmod /lib/modules/$module || end "cannot load $module" %(failed)02x
done
cd /tmp
(
%(command)s
)
status=$?
if [ $status = 0 ]; then end "passed" %(passed)02x; fi
end "the command ended with $status" %(failed)02x
"""


def build_initramfs(args, command, path):
    ramfs = Initramfs()
    add_busybox(ramfs)
    for module in args.module:
        needed(module, f"there is no {os.path.basename(module)}")
        ramfs.copy("lib/modules/" + os.path.basename(module), module)
    for program in args.program:
        ramfs.copy("bin/" + os.path.basename(program), program)
    for file in args.data:
        ramfs.copy("data/" + os.path.basename(file), file)
    init = INIT % {
        "command": command,
        "failed": FAILED,
        "modules": " ".join(map(os.path.basename, args.module)),
        "passed": PASSED,
        "port": EXIT_PORT,
    }
    ramfs.file("init", init.encode(), executable=True)
    ramfs.write(path)


def qemu_command(kernel, initramfs, devices):
    """A machine whose console is standard output."""
    return [
        *[qemu(), "-accel", "tcg,thread=multi", "-cpu", "qemu64,+rdrand", "-smp", "2", "-m", "512"],
        *["-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"],
        *["-device", f"isa-debug-exit,iobase={EXIT_PORT:#x},iosize=4"],
        *["-kernel", kernel, "-initrd", initramfs],
        *["-append", "console=ttyS0 quiet panic=-1 oops=panic"],
        *devices,
    ]


def run_guest(kernel, initramfs, devices):
    """QEMU's exit status; the console goes to our output."""
    sys.stdout.flush()
    try:
        return subprocess.run(qemu_command(kernel, initramfs, devices), stdin=subprocess.DEVNULL, timeout=TIME_LIMIT, check=False).returncode
    except subprocess.TimeoutExpired:
        print(f"plain_guest: no end within {TIME_LIMIT} seconds")
        return None


def start_device(command):
    """A vhost-user-vsock that is ready."""
    daemon = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in daemon.stderr:
        if "ready" in line:
            return daemon
    sys.exit("the vsock device ended early")


def vsock_device(path):
    """The device behind the socket at `path`, for qemu_command(): it works in memory that is shared with it."""
    return [
        *["-object", "memory-backend-memfd,id=memory,size=512M,share=on", "-machine", "pc,memory-backend=memory"],
        *["-chardev", f"socket,id=vsock,path={path}", "-device", "vhost-user-vsock-pci,chardev=vsock"],
    ]


class VsockDevice:
    """A vhost-user device for the guest, and what talks to it on the host."""

    def __init__(self, program, host):
        # Not TEST_TMPDIR: a socket's path has 107 characters.
        self.folder = tempfile.mkdtemp(prefix="argosy-guest.", dir="/tmp")
        vmm, self.uds = os.path.join(self.folder, "vmm"), os.path.join(self.folder, "host")
        self.daemon = start_device([program, "--guest-cid=3", f"--socket={vmm}", f"--uds-path={self.uds}"])
        self.host = subprocess.Popen([sys.executable, host, self.uds])
        self.qemu_arguments = vsock_device(vmm)

    def end(self, passed):
        """Whether the device and the host's script ended well; a script is not waited for after a failure."""
        if not passed:
            self.host.terminate()
        host = self.host.wait()
        self.daemon.terminate()
        print(self.daemon.stderr.read(), end="")
        daemon = self.daemon.wait()
        shutil.rmtree(self.folder)
        print(f"plain_guest: the host's script ended with {host}, the device with {daemon}")
        return host == 0 and daemon == 0


def add_guest_arguments(parser):
    """What a guest is made of."""
    parser.add_argument("--kernel", required=True)
    parser.add_argument("--module", action="append", default=[], help="kernel module (.ko) to load")
    parser.add_argument("--program", action="append", default=[], help="executable to put into /bin")
    parser.add_argument("--data", action="append", default=[], help="file to put into /data")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    add_guest_arguments(parser)
    parser.add_argument("--vsock-device", help="vhost-user-vsock, for a device of the guest's")
    parser.add_argument("--host", help="Python script that runs beside it")
    parser.add_argument("--command", required=True, help="shell command to run")
    args = parser.parse_args()
    needed(args.kernel, "Debian's kernel is not there")

    with tempfile.TemporaryDirectory(dir=os.environ.get("TEST_TMPDIR")) as folder:
        initramfs = os.path.join(folder, "initramfs.cpio")
        build_initramfs(args, args.command, initramfs)
        device = VsockDevice(args.vsock_device, args.host) if args.vsock_device else None
        status = run_guest(args.kernel, initramfs, device.qemu_arguments if device else [])
        if device and not device.end(status == PASSED_STATUS) and status == PASSED_STATUS:
            sys.exit("plain_guest: failed on the host's side")
    if status != PASSED_STATUS:
        sys.exit(f"plain_guest: failed (QEMU's exit status: {status})")


if __name__ == "__main__":
    main()
