# SPDX-License-Identifier: Apache-2.0
"""Runs a command in each of two virtual machines at the same time, whose vsock devices are of one vhost-user-vsock.

In the guests $OWN and $PEER are the CIDs.  They have a network, too: 10.0.0.$OWN.  Passes if both commands exit with 0.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading

from machine import PASSED_STATUS, needed
from plain_guest import add_guest_arguments, build_initramfs, qemu_command, start_device, vsock_device

TIME_LIMIT = 600  # seconds; a run takes 20 to 150
CIDS = {"a": 3, "b": 4}
PREAMBLE = """export OWN=%(own)s PEER=%(peer)s
ip address add 10.0.0.$OWN/24 dev eth0 && ip link set eth0 up || exit 1
"""


class Guest:
    def __init__(self, args, folder, name, network):
        self.name = name
        own, peer = CIDS[name], sum(CIDS.values()) - CIDS[name]
        initramfs = os.path.join(folder, f"{name}.cpio")
        command = PREAMBLE % {"own": own, "peer": peer} + getattr(args, name)
        build_initramfs(args, command, initramfs)
        devices = [
            *vsock_device(f"{folder}/vmm{own}"),
            *["-netdev", f"socket,id=net,fd={network.fileno()}"],
            *["-device", f"e1000,netdev=net,mac=52:54:00:00:00:{own:02x},romfile="],
        ]
        self.process = subprocess.Popen(
            qemu_command(args.kernel, initramfs, devices),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[network.fileno()],
        )
        self._reader = threading.Thread(target=self._show)
        self._reader.start()

    def _show(self):
        for line in self.process.stdout:
            print(f"{self.name}| {line.decode(errors='replace').rstrip()}", flush=True)

    def end(self):
        """Its exit status, once it has one."""
        status = self.process.wait()
        self._reader.join()
        return status


def run(args, folder):
    """What is wrong, line by line."""
    vms = [f"--vm=guest-cid={cid},socket={folder}/vmm{cid}" for cid in CIDS.values()]
    daemon = start_device([args.vsock_device, *vms])
    ends = socket.socketpair()
    guests = [Guest(args, folder, name, end) for name, end in zip(CIDS, ends)]
    for end in ends:
        end.close()
    limit = threading.Timer(TIME_LIMIT, lambda: [g.process.kill() for g in guests])
    limit.start()
    # One that failed leaves the other waiting.
    threading.Thread(target=lambda: guests[1].end() == PASSED_STATUS or guests[0].process.kill()).start()
    if guests[0].end() != PASSED_STATUS:
        guests[1].process.kill()
    wrong = [f"guest {g.name} failed (QEMU's exit status: {g.end()})" for g in guests if g.end() != PASSED_STATUS]
    limit.cancel()
    daemon.terminate()
    print(daemon.stderr.read(), end="")
    return wrong + ([f"the device ended with {daemon.returncode}"] if daemon.wait() else [])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    add_guest_arguments(parser)
    parser.add_argument("--vsock-device", required=True, help="vhost-user-vsock")
    for name in CIDS:
        parser.add_argument(f"--{name}", required=True, help="shell command to run in that guest")
    args = parser.parse_args()
    needed(args.kernel, "Debian's kernel is not there")
    # Not TEST_TMPDIR: a socket's path has 107 characters.
    folder = tempfile.mkdtemp(prefix="argosy-siblings.", dir="/tmp")
    try:
        wrong = run(args, folder)
    finally:
        shutil.rmtree(folder)
    for line in wrong:
        print(f"sibling_guests: {line}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
