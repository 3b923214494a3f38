# SPDX-License-Identifier: Apache-2.0
"""hatch send and hatch recv: a file arrives whole, or does not arrive."""

import hashlib
import os
import pty
import random
import resource
import subprocess
import time
import unittest

from hatch import testing

MIB = 1 << 20


class TransferTest(testing.HatchTest):
    def setUp(self):
        super().setUp()
        self.out = self.path("out")

    def make(self, size, name="in"):
        data = random.Random(size).randbytes(size)
        with open(self.path(name), "wb") as file:
            file.write(data)
        return data

    def received(self):
        with open(self.out, "rb") as file:
            return file.read()

    def check_nothing_left(self):
        self.assertEqual([n for n in os.listdir(self.directory) if n.startswith("out")], [])

    def wait_for_part(self, size):
        deadline = time.monotonic() + testing.PATIENCE
        while os.stat(self.out + ".part").st_size < size:
            self.assertLess(time.monotonic(), deadline, "the file does not grow")
            time.sleep(0.005)

    def test_large_file_with_digest(self):
        data = self.make(20 * MIB)
        server = self.server("recv", self.port, self.out)
        sender = self.a("send", "-v", self.peer, self.port, self.path("in"))
        digest = "sha256 %s, %d bytes" % (hashlib.sha256(data).hexdigest(), len(data))
        self.check(sender.finish(), 0, digest)
        self.check(server.finish(), 0, digest)
        self.assertTrue(self.received() == data)
        self.assertFalse(os.path.exists(self.out + ".part"))

    def test_silent_in_a_pipe(self):
        self.make(MIB)
        self.server("recv", self.port, self.out)
        result = self.a("send", self.peer, self.port, self.path("in")).finish()
        self.assertEqual(result, (0, b"", ""))

    def test_standard_streams_and_unknown_size(self):
        data = self.make(3 * MIB + 1)
        server = self.server("recv", self.port, stdin=subprocess.DEVNULL, stdout=self.open(self.out, "wb"))
        self.check(self.a("send", self.peer, self.port).finish(data), 0)
        self.assertEqual(server.wait(), 0, server.errors)
        self.assertTrue(self.received() == data)

    def test_standard_input_in_the_middle_of_a_file(self):
        data = self.make(1000)
        self.server("recv", self.port, self.out)
        with open(self.path("in"), "rb") as file:
            os.lseek(file.fileno(), 400, os.SEEK_SET)
            self.assertEqual(self.a("send", self.peer, self.port, stdin=file).wait(), 0)
        self.assertEqual(self.received(), data[400:])

    def test_empty_file(self):
        self.make(0)
        server = self.server("recv", self.port, self.out)
        self.check(self.a("send", self.peer, self.port, self.path("in")).finish(), 0)
        self.check(server.finish(), 0)
        self.assertEqual(self.received(), b"")

    def test_existing_file_is_kept_unless_forced(self):
        data = self.make(10)
        with open(self.out, "wb") as file:
            file.write(b"precious")
        self.check(self.b("recv", self.port, self.out).finish(), 2, "-f to replace it")
        self.assertEqual(self.received(), b"precious")
        server = self.server("recv", "-f", self.port, self.out)
        self.check(self.a("send", self.peer, self.port, self.path("in")).finish(), 0)
        self.check(server.finish(), 0)
        self.assertEqual(self.received(), data)

    def test_file_that_cannot_be_read(self):
        self.check(self.a("send", self.peer, self.port, self.path("missing")).finish(), 2, "No such file")
        self.check(self.a("send", self.peer, self.port, self.directory).finish(), 2, "is a directory")

    def test_sender_is_killed(self):
        server = self.server("recv", self.port, self.out)
        sender = self.a("send", self.peer, self.port)
        sender.stdin.write(bytes(MIB))
        self.wait_for_part(MIB // 2)
        sender.process.kill()
        self.check(server.finish(), 1, "the sender went away")
        self.check_nothing_left()

    def test_sender_is_stopped(self):
        server = self.server("recv", self.port, self.out)
        sender = self.a("send", self.peer, self.port)
        sender.stdin.write(bytes(MIB))
        self.wait_for_part(MIB // 2)
        sender.process.terminate()
        self.check(sender.finish(), 1, "stopped by a signal")
        self.check(server.finish(), 1, "the sender went away")
        self.check_nothing_left()

    def test_receiver_is_killed(self):
        server = self.server("recv", self.port, self.out)
        sender = self.a("send", self.peer, self.port)
        sender.stdin.write(bytes(MIB))
        self.wait_for_part(MIB // 2)
        server.process.kill()
        self.check(sender.finish(bytes(MIB)), 1, "the receiver went away")
        self.assertFalse(os.path.exists(self.out))

    def test_receiver_is_stopped(self):
        server = self.server("recv", self.port, self.out)
        sender = self.a("send", self.peer, self.port)
        sender.stdin.write(bytes(MIB))
        self.wait_for_part(MIB // 2)
        server.process.terminate()
        self.check(server.finish(), 1, "stopped by a signal")
        self.check(sender.finish(), 1, "the receiver gave up: stopped by a signal")
        self.check_nothing_left()

    def test_disk_full(self):
        server = self.server("recv", self.port, "-", stdout=self.open("/dev/full", "wb"))
        sender = self.a("send", self.peer, self.port)
        self.check(sender.finish(bytes(8 * MIB)), 1, "the receiver gave up: No space left on device")
        self.assertEqual(server.wait(), 1)
        self.assertIn("No space left on device", server.errors)

    def test_file_cannot_grow(self):
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB))
        server = self.server("recv", self.port, self.out, preexec_fn=limit)
        sender = self.a("send", self.peer, self.port)
        self.check(sender.finish(bytes(8 * MIB)), 1, "the receiver gave up: File too large")
        self.check(server.finish(), 1, "File too large")
        self.check_nothing_left()

    def test_file_that_is_altered_on_the_way(self):
        if not self.own_world:
            self.skipTest("the one in the middle is on side B and needs to reach it, too")
        server = self.server("recv", self.port, self.out)
        middle = self.new_port()
        self.server("-l", middle, "-e", "stdbuf -o0 tr z y | %s -T %s local %s" % (testing.HATCH, self.uri_b, self.port))
        sender = self.a("send", self.peer, middle)
        self.check(sender.finish(b"a" + b"z" * 1000), 1, "digests differ")
        self.check(server.finish(), 1, "digests differ")
        self.check_nothing_left()

    def test_file_that_is_cut_on_the_way(self):
        if not self.own_world:
            self.skipTest("the one in the middle is on side B and needs to reach it, too")
        server = self.server("recv", self.port, self.out)
        middle = self.new_port()
        self.server("-l", middle, "-e", "head -c 500 | %s -T %s local %s" % (testing.HATCH, self.uri_b, self.port))
        sender = self.a("send", self.peer, middle)
        self.check(sender.finish(b"z" * 1000), 1, "hatch: ")
        self.check(server.finish(), 1, "the file is not whole")
        self.check_nothing_left()

    def test_receiver_refuses_what_is_no_transfer(self):
        server = self.server("recv", self.port, self.out)
        self.a(self.peer, self.port).finish(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        self.check(server.finish(), 1, "is 'hatch send' on the other side?")
        self.check_nothing_left()

    def test_sender_notices_that_nobody_takes_files(self):
        self.server("echo", self.port)
        self.make(10)
        sender = self.a("send", self.peer, self.port, self.path("in"))
        self.check(sender.finish(), 1, "start 'hatch recv' there")

    def test_sender_that_falls_silent(self):
        server = self.server("recv", "-w", "0.1", self.port, self.out)
        sender = self.a("send", self.peer, self.port)
        self.check(server.finish(), 1, "the sender is silent")
        self.check(sender.finish(), 1, "the sender is silent")
        self.check_nothing_left()

    def test_digest_on_a_terminal(self):
        data = self.make(MIB)
        self.server("recv", self.port, self.out)
        master, slave = pty.openpty()
        process = subprocess.Popen([testing.HATCH, "-T", self.uri_a, "send", self.peer, self.port, self.path("in")],
                                   stderr=slave)
        os.close(slave)
        shown = b""
        try:
            while part := os.read(master, 4096):
                shown += part
        except OSError:  # how a terminal ends
            pass
        os.close(master)
        self.assertEqual(process.wait(testing.PATIENCE), 0)
        self.assertIn(hashlib.sha256(data).hexdigest().encode(), shown)


if __name__ == "__main__":
    unittest.main()
