# SPDX-License-Identifier: Apache-2.0
"""nested-test/run --target: the host is dom0 of an emulated machine, with an sshd behind QEMU's network."""

import io
import os
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import unittest

import xen_nested
import xen_remote
import xen_rig
from machine import needed

HOST, TEST, SSH_SERVER = sys.argv[1:]
del sys.argv[1:]
ADDRESS = "127.0.0.1"

FAILING = """
check "has its data" test -d /data
guest_create alpha
check "fails" guest alpha false
check "warns" guest alpha 'echo "<4>WARNING: x" > /dev/kmsg'
"""


def free_port():
    with socket.socket() as s:
        s.bind((ADDRESS, 0))
        return s.getsockname()[1]


class Host:
    """The emulated host; `say` tells its script the client's verdict."""

    def __init__(self, folder):
        self.key = os.path.join(folder, "key")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)
        self.port = free_port()
        self._ready = threading.Event()
        self._folder = folder
        self.console = io.StringIO()
        self.wrong = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _add(self, ramfs):
        with open(self.key + ".pub", "rb") as f:
            ramfs.file("root/.ssh/authorized_keys", f.read())
        ramfs.file("etc/passwd", b"root::0:0:root:/root:/bin/sh\n")
        ramfs.file("etc/profile", b"")
        ramfs.folder("etc/dropbear")
        ramfs.symlink("usr/sbin/xl", "../lib/xen/bin/xl")  # where a Xen host has it
        with tarfile.open(SSH_SERVER) as tar:
            tar.extractall(self._folder)
        xen_rig.add_programs(ramfs, {"bin/dropbear": os.path.join(self._folder, "dropbear")}, [self._folder])

    def _run(self):
        host, machine = self, xen_rig.load(HOST)

        class Consoles(xen_rig.Consoles):
            def line(self, port, line):
                super().line(port, line)
                if line.startswith("the ssh server is process"):
                    host._ready.set()

        try:
            image = xen_rig.build_images(machine, self._folder, self._add)
            network = ["-netdev", f"user,id=net,restrict=on,hostfwd=tcp:{ADDRESS}:{self.port}-:22", "-device", "e1000,netdev=net"]
            consoles = Consoles(machine["allowed"], self.console)
            status = xen_rig.run(machine, image, consoles, network)
            self.wrong = xen_rig.verdict(status, consoles)
        finally:
            self._ready.set()

    def wait_until_ready(self):
        self._ready.wait()

    def ssh(self):
        return f"ssh -i {self.key} -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"

    def end(self, answer):
        command = [*self.ssh().split(), "-p", str(self.port), f"root@{ADDRESS}", f"echo {answer} > /tmp/enough"]
        subprocess.run(command, check=True)
        self._thread.join()


class XenRemoteTest(unittest.TestCase):
    def test_a_target_has_a_form(self):
        self.assertEqual(xen_remote.ssh_command("ssh:root@host")[:2], ["ssh", "root@host"])
        self.assertEqual(xen_remote.ssh_command("ssh:host:2222")[:4], ["ssh", "-p", "2222", "host"])
        for bad in ["host", "ssh:", "ssh:a:b", "ssh:root@host:22:3"]:
            with self.assertRaises(SystemExit):
                xen_remote.ssh_command(bad)

    def test_the_smoke_test_on_a_host_and_one_that_fails(self):
        needed(SSH_SERVER, "dropbear is not there")
        with tempfile.TemporaryDirectory(dir=os.environ.get("TEST_TMPDIR")) as folder:
            host = Host(folder)
            host.wait_until_ready()
            environment = {**os.environ, "ARGOSY_SSH_COMMAND": host.ssh()}
            command = [sys.executable, xen_nested.__file__, "--target", f"ssh:root@{ADDRESS}:{host.port}"]
            passing = subprocess.run([*command, TEST], env=environment, check=False).returncode

            failing = os.path.join(folder, "failing.sh")
            with open(failing, "w", encoding="utf-8") as f:
                f.write(FAILING)
            keep = io.StringIO()
            os.environ["ARGOSY_SSH_COMMAND"] = host.ssh()
            wrong = xen_remote.boot({**xen_rig.load(TEST), "script": failing}, command[-1], folder, keep)
            host.end("yes")
        self.assertEqual(passing, 0)
        self.assertEqual(len(wrong), 3, wrong)
        self.assertEqual(wrong[0], "the script did not pass (the script's or ssh's exit status: 1)")
        self.assertRegex(wrong[1], "^not ok 2 - fails")
        self.assertRegex(wrong[2], "^alarm on a console: alpha: .*WARNING: x$")
        self.assertIn(" ok 1 - has its data\n", keep.getvalue())
        # The host has seen the same warning on the console of its guest, and nothing else.
        self.assertEqual(host.wrong, wrong[2:])


if __name__ == "__main__":
    unittest.main()
