# SPDX-License-Identifier: Apache-2.0
"""What the virtual machines of this folder have in common."""

import os
import shutil
import subprocess
import sys

# QEMU's isa-debug-exit: the guest's byte b at this port ends QEMU with the exit status 2 * b + 1.
EXIT_PORT = 0xF4
PASSED, FAILED = 0x10, 0x01
PASSED_STATUS = 2 * PASSED + 1


def needed(path, how):
    if not path or not os.path.exists(path) or os.path.getsize(path) == 0:
        sys.exit(f"{how}; run: tools/setup --full")
    return path


def qemu():
    return needed(shutil.which("qemu-system-x86_64"), "qemu-system-x86 is not installed")


def add_busybox(ramfs):
    """Busybox under the names of all its commands, and what a root file system begins with."""
    busybox = needed(shutil.which("busybox"), "busybox-static is not installed")
    ramfs.device("dev/console", 5, 1)
    for name in ["proc", "sys", "tmp"]:
        ramfs.folder(name)
    ramfs.copy("bin/busybox", busybox)
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True)
    for applet in sorted(set(applets.stdout.split()) - {"busybox"}):
        ramfs.symlink("bin/" + applet, "busybox")
