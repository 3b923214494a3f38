#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""vhost-user-vsock as a program: its command line, what it says when that is wrong, its start and end."""

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

PROGRAM = sys.argv.pop(1)


class DaemonTest(unittest.TestCase):
    def setUp(self):
        # Not TEST_TMPDIR: a socket's path has 107 characters.
        self.folder = tempfile.mkdtemp(prefix="argosy-vhost.", dir="/tmp")
        self.addCleanup(shutil.rmtree, self.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def refused(self, *arguments):
        """The one line that it says before it exits with 2."""
        done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=30, check=False)
        lines = [l for l in done.stderr.splitlines() if "[info]" not in l]
        self.assertEqual((done.returncode, len(lines)), (2, 1), done.stderr)
        return lines[0]

    def start(self, *arguments):
        daemon = subprocess.Popen([PROGRAM, *arguments], stderr=subprocess.PIPE, text=True)
        self.addCleanup(self.stop, daemon)
        for line in daemon.stderr:
            if "ready" in line:
                return daemon
        self.fail("the daemon ended early")

    @staticmethod
    def stop(daemon):
        if daemon.poll() is None:
            daemon.send_signal(signal.SIGTERM)
        daemon.wait(timeout=30)
        daemon.stderr.close()

    def test_serves_one_machine_and_cleans_up(self):
        daemon = self.start("--guest-cid", "4", "--socket", self.path("vmm"), "--uds-path", self.path("host"))
        self.assertEqual(
            sorted(os.listdir(self.folder)),
            ["host", "host.lock", "host_seqpacket", "host_seqpacket.lock", "vmm", "vmm.lock"],
        )
        self.stop(daemon)
        self.assertEqual(daemon.returncode, 0)
        self.assertEqual(os.listdir(self.folder), [])

    def test_serves_several_by_vm_and_by_file(self):
        vms = ["guest-cid=%d,socket=%s" % (cid, self.path("vmm%d" % cid)) for cid in (3, 4)]
        self.stop(self.start("--vm", vms[0], "--vm", vms[1]))
        with open(self.path("vms.yaml"), "w", encoding="utf-8") as f:
            f.write("vms:\n")
            for cid in (3, 4):
                f.write("  - guest_cid: %d\n    socket: %s\n" % (cid, self.path("vmm%d" % cid)))
        daemon = self.start("--config", self.path("vms.yaml"))
        for cid in (3, 4):
            with socket.socket(socket.AF_UNIX) as vmm:
                vmm.connect(self.path("vmm%d" % cid))
        self.stop(daemon)
        self.assertEqual(daemon.returncode, 0)

    def test_a_socket_of_a_dead_daemon_is_replaced(self):
        daemon = self.start("--socket", self.path("vmm"))
        daemon.kill()
        daemon.wait()
        self.assertTrue(os.path.exists(self.path("vmm")))
        self.stop(self.start("--socket", self.path("vmm")))

    def test_a_socket_in_use(self):
        self.start("--socket", self.path("vmm"))
        self.assertIn("another process serves", self.refused("--socket", self.path("vmm")))

    def test_a_path_that_is_no_socket(self):
        with open(self.path("file"), "w", encoding="utf-8"):
            pass
        self.assertIn("is no socket", self.refused("--socket", self.path("file")))

    def test_a_missing_folder(self):
        self.assertIn("No such file or directory", self.refused("--socket", self.path("missing/vmm")))

    def test_a_cid_twice(self):
        line = self.refused("--vm", "socket=%s" % self.path("a"), "--vm", "socket=%s" % self.path("b"))
        self.assertIn("two machines have CID 3", line)

    def test_a_path_twice(self):
        vm = "guest-cid=%d,socket=" + self.path("a")
        self.assertIn("given twice", self.refused("--vm", vm % 3, "--vm", vm % 4))

    def test_a_path_among_anothers(self):
        for other in ["uds-path=%s_17", "uds-path=%s_seqpacket", "socket=%s_17"]:
            other = "guest-cid=4," + other % self.path("host") + ("" if "socket" in other else ",socket=" + self.path("vmm4"))
            vm = "guest-cid=3,socket=%s,uds-path=%s" % (self.path("vmm3"), self.path("host"))
            self.assertIn("belongs to the uds-path", self.refused("--vm", vm, "--vm", other), other)

    def test_bad_numbers(self):
        for option, value in [
            ("--guest-cid", "2"),
            ("--guest-cid", "x"),
            ("--guest-cid", "4294967295"),
            ("--guest-cid", "4294967299"),
            ("--tx-buffer-size", "0"),
            ("--queue-size", "1000"),
            ("--queue-size", "-1"),
            ("--max-connections", "0"),
        ]:
            line = self.refused("--socket", self.path("vmm"), option, value)
            self.assertIn(option.lstrip("-"), line)

    def test_bad_forwards(self):
        for value in ["0", "4294967295", "4294967297", "-1", "1+x", "x"]:
            line = self.refused("--socket", self.path("vmm"), "--forward-cid", value)
            self.assertIn("forward-cid must be a number from 1 to 4294967294", line)
        for value in ["0", "4294967295", "4294967296", "9001+x", "9001+", "+9001", "9001 9002", "9001,9002"]:
            line = self.refused("--socket", self.path("vmm"), "--forward-cid", "1", "--forward-listen", value)
            self.assertIn("a port of forward-listen must be a number from 1 to 4294967294", line)
        vm = "socket=%s,forward-cid=1,forward-listen=" % self.path("vmm")
        self.assertIn("a port of forward-listen must be", self.refused("--vm", vm))
        self.assertIn("port 9001 twice", self.refused("--vm", vm + "9001+9002+9001"))
        self.assertIn("forward-cid must be", self.refused("--vm", "socket=a,forward_cid="))

    def test_forwards_that_do_not_fit(self):
        both = ["--socket", self.path("vmm"), "--forward-cid", "1", "--uds-path", self.path("host")]
        self.assertIn("both uds-path and forward-cid", self.refused(*both))
        alone = ["--socket", self.path("vmm"), "--forward-listen", "9001"]
        self.assertIn("no forward-cid", self.refused(*alone))
        vm = "guest-cid=%d,socket=" + self.path("vmm") + "%d,forward-cid=1,forward-listen=%s"
        line = self.refused("--vm", vm % (3, 3, "9001+9002"), "--vm", vm % (4, 4, "9002"))
        self.assertIn("two machines have port 9002", line)

    def test_a_forward_to_this_host(self):
        # Both spellings of the keys, as files of vhost-device-vsock have them.
        with open(self.path("vms.yaml"), "w", encoding="utf-8") as f:
            f.write("vms:\n")
            f.write("  - guest_cid: 3\n    socket: %s\n" % self.path("vmm3"))
            f.write("    forward_cid: 1\n    forward_listen: 49001+49002\n")
            f.write("  - guest_cid: 4\n    socket: %s\n" % self.path("vmm4"))
            f.write("    forward-cid: 1\n    forward-listen: 49003\n")
        try:
            with socket.socket(socket.AF_VSOCK) as probe:
                probe.bind((1, socket.VMADDR_PORT_ANY))
            expected = None
        except OSError as error:
            missing = {errno.EAFNOSUPPORT: "no AF_VSOCK", errno.EADDRNOTAVAIL: "modprobe vsock_loopback"}
            expected = missing.get(error.errno, "forward-cid")
        if expected:
            self.assertIn(expected, self.refused("--config", self.path("vms.yaml")))
        else:
            daemon = self.start("--config", self.path("vms.yaml"))
            self.stop(daemon)
            self.assertEqual(daemon.returncode, 0)

    def test_what_is_missing_or_too_much(self):
        self.assertIn("no machine", self.refused())
        self.assertIn("no socket", self.refused("--guest-cid", "3"))
        self.assertIn("exclude each other", self.refused("--socket", self.path("a"), "--vm", "socket=b"))
        self.assertIn("not KEY=VALUE", self.refused("--vm", "socket"))
        self.assertIn("unknown key 'sockets'", self.refused("--vm", "sockets=a"))
        self.assertIn("twice", self.refused("--vm", "socket=a,socket=b"))
        self.assertIn("--help", self.refused("--nonsense"))
        self.assertIn("not expected: socket=b", self.refused("--vm", "socket=a", "socket=b"))

    def test_an_empty_value_is_not_the_default(self):
        def refused(*arguments):
            return self.refused("--socket", self.path("vmm"), *arguments)

        self.assertIn("socket must be a path", self.refused("--socket", ""))
        self.assertIn("uds-path must be a path", refused("--uds-path", ""))
        self.assertIn("guest-cid must be a number", refused("--guest-cid", ""))
        self.assertIn("groups must be names", refused("--groups", ""))

    def test_help_and_version(self):
        for option, expected in [("--help", "--guest-cid CID"), ("-h", "--vm KEY=VALUE"), ("--version", "0.1"), ("-V", "0.1")]:
            done = subprocess.run([PROGRAM, option], capture_output=True, text=True, timeout=30, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertIn(expected, done.stdout)

    def test_groups_and_rules(self):
        def refused(*arguments):
            return self.refused("--socket", self.path("vmm"), *arguments)

        self.assertIn("groups must be names", refused("--groups", "a+"))
        self.assertIn("'allow up': no direction", refused("--allow", "up"))
        self.assertIn("'deny in:3:x': no port", refused("--deny", "in:3:x"))
        self.assertIn("'deny in:x': no CID", self.refused("--vm", "socket=a,deny=in:x,deny=in"))
        self.assertIn("outbound-only must be true or false", self.refused("--vm", "socket=a,outbound-only=perhaps"))
        vm = "groups=a+b,allow=in:4:22,deny=in,allow=out,socket=" + self.path("vmm")
        self.stop(self.start("--vm", vm))
        self.stop(self.start("--socket", self.path("vmm"), "--groups", "a+b", "--deny", "in:2", "--allow", "in", "--outbound-only"))

    def refused_client(self, port, *arguments):
        """What the daemon says of a client of the host that is refused by a rule (else for want of a guest)."""
        daemon = self.start(*arguments or ["--config", self.path("vms.yaml")])
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(self.path("host"))
            client.sendall(b"CONNECT %d\n" % port)
            self.assertEqual(client.recv(100), b"")
        daemon.send_signal(signal.SIGTERM)
        return [line for line in daemon.stderr if "refused by" in line]

    def test_the_first_rule_on_the_command_line_decides(self):
        one = ["--socket", self.path("vmm"), "--uds-path", self.path("host")]
        lines = self.refused_client(22, *one, "--allow", "in:2:23", "--deny", "in:2:22", "--allow", "in", "--deny", "out")
        self.assertEqual(len(lines), 1, lines)
        self.assertIn("CID 3: connection from CID 2 to port 22 refused by 'deny in:2:22' (1 so far)", lines[0])
        self.assertEqual(self.refused_client(22, *one, "--allow", "in:2:22", "--deny", "in:2:22"), [])

    def test_rules_of_a_file(self):
        with open(self.path("vms.yaml"), "w", encoding="utf-8") as f:
            f.write("vms:\n  - socket: %s\n    uds_path: %s\n" % (self.path("vmm"), self.path("host")))
            f.write("    groups: a+b\n    outbound_only: true\n    rules:\n      - allow in:2:23\n")
        self.assertIn("refused by 'outbound-only'", self.refused_client(22)[0])
        self.assertEqual(self.refused_client(23), [])

    def test_bad_files(self):
        self.assertIn("cannot read", self.refused("--config", self.path("missing.yaml")))
        for text, expected in [
            ("", "line 1: expected 'vms:'"),
            ("vms: 3\n", "line 1: expected 'vms:'"),
            ("vms:\n  - guest_cid: 1\n", "line 2: guest-cid must be"),
            ("vms:\n  - socket: a\n    uds: b\n", "line 3: unknown key 'uds'"),
            ("vms:\n  - socket: [a]\n", "line 2: socket: a value"),
            ("vms:\n  - groups:\n", "line 2: groups: a value"),
            ("vms: []\n", "'vms' has no machine"),
            ("vms:\n  - socket: a\nlog_level: info\n", "line 3: unknown key 'log_level' beside 'vms'"),
            ("vms:\n  - {\n", "line"),
            ("vms:\n  - rules: deny in\n", "line 2: rules must be a list"),
            ("vms:\n  - rules:\n      - deny in\n      - permit in\n", "line 4: 'permit in'"),
            ("vms:\n  - deny: in\n", "line 2: rules are a list"),
            ("vms:\n  - groups: a++b\n", "line 2: groups"),
        ]:
            with open(self.path("bad.yaml"), "w", encoding="utf-8") as f:
                f.write(text)
            self.assertIn(expected, self.refused("--config", self.path("bad.yaml")), text)


if __name__ == "__main__":
    unittest.main()
