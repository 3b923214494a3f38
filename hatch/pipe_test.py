# SPDX-License-Identifier: Apache-2.0
"""hatch as netcat: connect, listen, probe, datagrams, commands, and how each of them fails."""

import os
import random
import signal
import subprocess
import unittest

from hatch import testing


class PipeTest(testing.HatchTest):
    def test_both_ways(self):
        server = self.server("-l", self.port)
        client = self.a(self.peer, self.port)
        server.stdin.write(b"from server")
        server.close_input()
        self.assertEqual(self.check(client.finish(b"from client"), 0), b"from server")
        self.assertEqual(self.check(server.finish(), 0), b"from client")

    def test_much_both_ways_at_once(self):
        to_server = random.Random(1).randbytes(4 << 20)
        to_client = random.Random(2).randbytes(3 << 20)
        source = self.path("to_client")
        with open(source, "wb") as file:
            file.write(to_client)
        with open(source, "rb") as file:
            server = self.server("-l", "-p", self.port, stdin=file, stdout=self.open(self.path("out"), "wb"))
        client = self.a(self.peer, self.port)
        self.assertEqual(self.check(client.finish(to_server), 0), to_client)
        self.assertEqual(server.wait(), 0, server.errors)
        with open(self.path("out"), "rb") as file:
            self.assertEqual(file.read(), to_server)

    def test_half_close(self):
        self.server("-l", self.port, "-e", "cat; echo end")
        client = self.a(self.peer, self.port)
        self.assertEqual(self.check(client.finish(b"some\n"), 0), b"some\nend\n")

    def test_receive_form_of_the_argo_tool(self):
        server = self.server("-r", "-p", self.port, stdin=subprocess.DEVNULL)
        self.check(self.a(self.peer, self.port).finish(b"x" * 1000), 0)
        self.assertEqual(self.check(server.finish(), 0), b"x" * 1000)

    def test_receive_only_leaves_standard_input_alone(self):
        server = self.server("-l", self.port)
        client = self.a("--recv-only", self.peer, self.port)
        self.check(server.finish(b"data"), 0)
        self.assertEqual(client.wait(), 0)
        self.assertEqual(client.stdout.read(), b"data")

    def test_send_only_drops_what_comes(self):
        server = self.server("-l", self.port)
        client = self.a("--send-only", self.peer, self.port)
        server.stdin.write(b"not wanted")
        server.close_input()
        self.assertEqual(self.check(client.finish(b"wanted"), 0), b"")
        self.assertEqual(self.check(server.finish(), 0), b"wanted")

    def test_keep_listening(self):
        server = self.server("-l", "-k", self.port, stdin=subprocess.DEVNULL)
        for word in (b"one", b"two", b"three"):
            self.check(self.a(self.peer, self.port).finish(word), 0)
        self.assertEqual(server.read(11), b"onetwothree")
        server.process.terminate()
        self.check(server.finish(), 0)

    def test_commands_run_at_once(self):
        server = self.server("-l", "-k", self.port, "-e", "cat")
        clients = [self.a(self.peer, self.port) for _ in range(3)]
        for number, client in enumerate(clients):
            client.stdin.write(b"%d" % number)
        for number, client in enumerate(clients):
            self.assertEqual(client.read(1), b"%d" % number)
        for client in clients:
            self.check(client.finish(), 0)
        server.process.terminate()
        self.check(server.finish(), 0)

    def test_command_learns_its_peer(self):
        source = self.new_port()
        self.server("-l", self.port, "-e", "echo $HATCH_PEER_CID:$HATCH_PEER_PORT")
        client = self.a("-p", source, self.peer, self.port)
        cid, port = self.check(client.finish(), 0).decode().strip().split(":")
        self.assertEqual(port, source)
        self.assertTrue(cid.isdigit())

    def test_failing_command_is_an_error(self):
        server = self.server("-l", self.port, "-e", "exit 3")
        self.check(self.a(self.peer, self.port).finish(), 0)
        self.check(server.finish(), 1, "the command ended with exit code 3")

    def test_command_of_a_client(self):
        server = self.server("-l", self.port)
        client = self.a(self.peer, self.port, "-e", "read line; echo got $line")
        server.stdin.write(b"hello\n")
        self.assertEqual(server.read(10), b"got hello\n")
        self.check(client.finish(), 0)
        self.check(server.finish(), 0)

    def test_probe(self):
        self.check(self.a("-z", self.peer, self.port).finish(), 1, "nobody listens")
        server = self.server("-l", "-k", self.port, stdin=subprocess.DEVNULL)
        self.assertEqual(self.check(self.a("-z", self.peer, self.port).finish(), 0), b"")
        server.process.terminate()
        self.check(server.finish(), 0)

    def test_seqpacket(self):
        data = random.Random(3).randbytes(300_000)
        server = self.server("-l", "--seqpacket", self.port, stdin=subprocess.DEVNULL,
                             stdout=self.open(self.path("out"), "wb"))
        client = self.a("--seqpacket", self.peer, self.port)
        self.check(client.finish(data), 0)
        self.assertEqual(server.wait(), 0, server.errors)
        with open(self.path("out"), "rb") as file:
            self.assertEqual(file.read(), data)

    def test_stream_is_refused_by_seqpacket(self):
        self.server("-l", "--seqpacket", self.port)
        self.check(self.a(self.peer, self.port).finish(b"x"), 1, "hatch: ")

    def test_datagrams(self):
        server = self.server("-l", "-u", self.port)
        client = self.a("-u", self.peer, self.port)
        client.stdin.write(b"ping")
        self.assertEqual(server.read(4), b"ping")
        server.stdin.write(b"pong")
        self.assertEqual(client.read(4), b"pong")

    def test_datagrams_send_only_ends_with_its_input(self):
        server = self.server("-l", "-u", self.port)
        self.check(self.a("-u", "--send-only", self.peer, self.port).finish(b"last words"), 0)
        self.assertEqual(server.read(10), b"last words")
        server.process.terminate()
        self.check(server.finish(), 1, "stopped by a signal")

    def test_datagrams_end_after_idling(self):
        self.server("-l", "-u", self.port)
        self.check(self.a("-u", "-w", "2", self.peer, self.port).finish(b"x"), 0)


class FailureTest(testing.HatchTest):
    def test_nobody_listens(self):
        self.check(self.a(self.peer, self.port).finish(), 1, "nobody listens")

    def test_port_taken(self):
        self.server("-l", self.port)
        self.check(self.b("-l", self.port).finish(), 1, "another program listens there")

    def test_wrong_uri(self):
        self.check(self.start("bogus:", "3", "1").finish(), 2, "loopback:")
        self.check(self.a("-T", "bogus:", "3", "1").finish(), 2, "loopback:")

    def test_wrong_arguments(self):
        for args in (["3", "4294967295"], ["3", "-1"], ["dom99999", "1"], ["3"], ["--nonsense"], ["-k", "3", "1"]):
            self.check(self.a(*args).finish(), 2, "hatch --help")

    def test_unknown_domain(self):
        self.check(self.a("nobody-of-this-name", "1234").finish(), 1, "check the name")
        self.check(self.a("dom54321", "1234").finish(), 1, "CID 54323")

    def test_bare_zero_is_dom0(self):
        if not self.own_world:
            self.skipTest("there may be a dom0")
        self.check(self.a("0", self.port).finish(), 1, "CID 2")

    def test_help_and_version(self):
        self.assertIn(b"--listen", self.check(self.a("--help").finish(), 0))
        self.assertIn(b"hatch", self.check(self.a("--version").finish(), 0))
        self.check(self.a("--help", stdout=self.open("/dev/full", "wb")).finish(), 1, "No space left")

    def test_disk_full(self):
        server = self.server("-l", self.port, stdout=self.open("/dev/full", "wb"), stdin=subprocess.DEVNULL)
        self.a(self.peer, self.port).finish(b"x" * 1000)
        self.assertEqual(server.wait(), 1)
        self.assertIn("No space left on device", server.errors)

    def test_reader_of_the_output_goes(self):
        server = self.server("-l", "--send-only", self.port)
        client = self.a(self.peer, self.port)
        client.stdout.close()
        server.finish(b"x" * 100)
        self.assertEqual(client.wait(), 1)
        self.assertIn("Broken pipe", client.errors)

    def test_peer_closes_before_everything_was_sent(self):
        self.server("-l", self.port, "-e", "head -c 1 > /dev/null")
        client = self.a(self.peer, self.port, stdin=self.open("/dev/zero", "rb"))
        self.assertEqual(client.wait(), 1)
        self.assertRegex(client.errors, "closed the connection before|reset the connection")

    def test_peer_is_killed(self):
        server = self.server("-l", self.port)
        client = self.a(self.peer, self.port, stdin=self.open("/dev/zero", "rb"))
        self.assertEqual(len(server.read(100_000)), 100_000)
        server.process.kill()
        self.assertEqual(client.wait(), 1)
        self.assertRegex(client.errors, "closed the connection before|reset the connection")

    def test_input_that_never_ends_is_not_waited_for(self):
        self.server("-l", self.port, "-e", "echo bye")
        client = self.a(self.peer, self.port)
        self.assertEqual(client.read(4), b"bye\n")
        if "kernel:" in self.uri_a:
            self.skipTest("AF_VSOCK shows a closed peer only to who writes")
        self.assertEqual(client.wait(), 0, client.errors)

    def test_idle_time(self):
        server = self.server("-l", self.port)
        client = self.a("-w", "0.1", self.peer, self.port)
        self.assertEqual(client.wait(), 1)
        self.assertIn("within the time of -w", client.errors)
        self.check(server.finish(), 0)

    def test_signal_ends_a_connection(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            port = self.new_port()
            server = self.server("-l", port)
            client = self.a("-v", self.peer, port)
            client.wait_for("connected to")
            client.process.send_signal(number)
            self.assertEqual(client.wait(), 1)
            self.assertIn("stopped by a signal", client.errors)
            self.check(server.finish(), 0)

    def test_signal_ends_writing_to_a_full_pipe(self):
        self.server("-l", self.port, stdin=self.open("/dev/zero", "rb"))
        client = self.a("-v", self.peer, self.port)
        self.assertEqual(len(client.read(1)), 1)
        client.process.terminate()
        self.assertEqual(client.wait(), 1)

    def test_signal_frees_the_port(self):
        server = self.server("-l", self.port)
        server.process.terminate()
        self.check(server.finish(), 1, "stopped by a signal")
        self.server("-l", self.port)

    def test_missing_standard_streams(self):
        result = subprocess.run([testing.HATCH, "-T", self.uri_a, self.peer, self.port],
                                preexec_fn=lambda: [os.close(fd) for fd in range(3)], check=False)
        self.assertEqual(result.returncode, 1)


if __name__ == "__main__":
    unittest.main()
