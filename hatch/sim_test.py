# SPDX-License-Identifier: Apache-2.0
"""hatch between two domains of a simulated machine: all that the other tests check, and what happens when domains die."""

import os
import subprocess
import sys
import tempfile
import unittest

from hatch import measure_test, pipe_test, testing, transfer_test

ARGOSY_SIM = os.path.abspath("sim/argosy-sim")


class Machine:
    """A running argosy-sim with dom0, dom1 and dom2."""

    def __init__(self):
        self._directory = tempfile.TemporaryDirectory(prefix="hatch")
        self.socket = os.path.join(self._directory.name, "sim")
        self.process = subprocess.Popen([ARGOSY_SIM, "--socket", self.socket, "--domains", "3", "--log-level", "error"],
                                        stdout=subprocess.PIPE)
        if b"ready" not in self.process.stdout.readline():
            raise AssertionError("argosy-sim does not start")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self._directory.cleanup()

    def uri(self, domain):
        return "sim:%s?domain=%s" % (self.socket, domain)

    def kill_domain(self, domain):
        subprocess.run([ARGOSY_SIM, "--socket", self.socket, "kill", domain], check=True, stdout=subprocess.DEVNULL)


class DomainDeathTest(testing.HatchTest):
    """Side A is dom1, side B is dom2, of a machine of its own."""

    LOST = "this side's domain, device or daemon is gone"
    GONE = "the carrier is gone"  # of a listener or a datagram socket
    RESET = "reset the connection"

    def setUp(self):
        super().setUp()
        self.machine = Machine()
        self.addCleanup(self.machine.__exit__)
        self.uri_a, self.uri_b, self.peer = self.machine.uri("dom1"), self.machine.uri("dom2"), "dom2"

    def connected(self, *args, client=()):
        """A server with `args` and a client, past the first byte, both with input that stays open."""
        server = self.server(*args, self.port)
        client = self.a(*client, self.peer, self.port)
        client.stdin.write(b"x")
        self.assertEqual(server.read(1), b"x")
        return server, client

    def check_end(self, program, message):
        self.assertEqual(program.wait(), 1, program.errors)
        self.assertIn(message, program.errors)

    def test_peer_domain_dies(self):
        server, client = self.connected("-l")
        self.machine.kill_domain("dom2")
        self.check_end(client, self.RESET)
        self.check_end(server, self.LOST)

    def test_own_domain_dies(self):
        server, client = self.connected("-l")
        self.machine.kill_domain("dom1")
        self.check_end(client, self.LOST)
        self.check_end(server, self.RESET)

    def test_receive_only(self):
        server, client = self.connected("-r", "-p")
        self.machine.kill_domain("dom1")
        self.check_end(client, self.LOST)
        self.check_end(server, self.RESET)

    def test_daemon_dies(self):
        server, client = self.connected("-l")
        self.machine.process.kill()
        self.check_end(client, self.LOST)
        self.check_end(server, self.LOST)

    def test_messages(self):
        for domain, of_client, of_server in (("dom1", self.LOST, self.RESET), ("dom2", self.RESET, self.LOST)):
            with self.subTest(domain), Machine() as machine:
                self.uri_a, self.uri_b = machine.uri("dom1"), machine.uri("dom2")
                server, client = self.connected("-l", "--seqpacket", client=["--seqpacket"])
                machine.kill_domain(domain)
                self.check_end(client, of_client)
                self.check_end(server, of_server)

    def test_datagrams(self):
        # Whether anybody is left to receive them no sender can know.
        server, client = self.connected("-l", "-u", client=["-u"])
        self.machine.kill_domain("dom1")
        self.check_end(client, self.GONE)
        self.machine.kill_domain("dom2")
        self.check_end(server, self.GONE)

    def test_datagrams_when_the_daemon_dies(self):
        server, client = self.connected("-l", "-u", client=["-u"])
        self.machine.process.kill()
        self.check_end(client, self.GONE)
        self.check_end(server, self.GONE)

    def test_command(self):
        server = self.server("-l", self.port, "-e", "cat")
        client = self.a(self.peer, self.port)
        client.stdin.write(b"x")
        self.assertEqual(client.read(1), b"x")
        self.machine.kill_domain("dom1")
        self.check_end(client, self.LOST)
        self.check_end(server, self.RESET)

    def test_commands_of_many(self):
        server = self.server("-l", "-k", self.port, "-e", "cat")
        client = self.a(self.peer, self.port)
        client.stdin.write(b"x")
        self.assertEqual(client.read(1), b"x")
        self.machine.kill_domain("dom1")
        self.check_end(client, self.LOST)
        server.wait_for(self.RESET)
        # It goes on with others, until its own domain dies.
        other = self.start(self.machine.uri("dom0"), self.peer, self.port)
        self.assertEqual(self.check(other.finish(b"y"), 0), b"y")
        other = self.start(self.machine.uri("dom0"), self.peer, self.port)
        other.stdin.write(b"z")
        self.assertEqual(other.read(1), b"z")
        self.machine.kill_domain("dom2")
        self.check_end(other, self.RESET)
        self.check_end(server, self.GONE)

    def long_ping(self):
        client = self.a("ping", "-v", "-c", "10000000", self.peer, self.port)
        client.wait_for("connected to")
        return client

    def test_ping_and_echo(self):
        server = self.server("echo", self.port)
        client = self.long_ping()
        server.wait_for("connection from")
        self.machine.kill_domain("dom1")
        self.check_end(client, self.LOST)
        server.wait_for("hatch: CID 3 port ")
        other = self.start(self.machine.uri("dom0"), "ping", "-c", "3", self.peer, self.port)
        self.check(other.finish(), 0)
        self.machine.kill_domain("dom2")
        self.check_end(server, self.GONE)

    def test_ping_of_a_dying_domain(self):
        server = self.server("echo", self.port)
        client = self.long_ping()
        self.machine.kill_domain("dom2")
        self.check_end(client, "hatch: CID 4 port " + self.port)
        self.check_end(server, self.GONE)

    def test_ping_and_echo_when_the_daemon_dies(self):
        server = self.server("echo", self.port)
        client = self.long_ping()
        self.machine.process.kill()
        self.check_end(client, self.LOST)
        self.check_end(server, self.GONE)

    def test_datagram_echo(self):
        server = self.server("echo", "-u", self.port)
        self.machine.kill_domain("dom2")
        self.check_end(server, self.GONE)

    def check_perf(self, direction, victim, of_client):
        with Machine() as machine:
            self.uri_a, self.uri_b = machine.uri("dom1"), machine.uri("dom2")
            server = self.server("perf", "--server", self.port)
            client = self.a("perf", "-v", self.peer, self.port, "--seconds", "1000", *direction)
            for _ in range(2):  # The first connection measures round trips.
                server.wait_for("connection from")
                client.wait_for("connected to")
            if victim:
                machine.kill_domain(victim)
            else:
                machine.process.kill()
            self.check_end(client, of_client)
            if victim == "dom1":
                server.wait_for("hatch: CID 3 port ")
                server.process.terminate()
                self.check(server.finish(), 0)
            else:
                self.check_end(server, self.GONE)

    def test_perf(self):
        for direction in ([], ["--reverse"]):
            for victim, of_client in (("dom1", self.LOST), ("dom2", "hatch: CID 4 port "), (None, self.LOST)):
                with self.subTest(direction=direction, victim=victim):
                    self.check_perf(direction, victim, of_client)

    def test_listener(self):
        server = self.server("-l", "-k", self.port)
        self.machine.kill_domain("dom2")
        self.assertEqual(server.wait(), 1, server.errors)

    def test_transfer(self):
        out = self.path("out")
        server = self.server("recv", self.port, out)
        sender = self.a("send", "-v", self.peer, self.port)
        sender.wait_for("connected")
        sender.stdin.write(bytes(1 << 20))
        self.machine.kill_domain("dom1")
        self.check_end(sender, self.LOST)
        self.check_end(server, "the file is not whole")
        self.assertFalse(os.path.exists(out) or os.path.exists(out + ".part"))

    def test_receiver_of_a_transfer(self):
        server = self.server("recv", self.port, self.path("out"))
        sender = self.a("send", "-v", self.peer, self.port)
        sender.wait_for("connected")
        sender.stdin.write(bytes(1 << 20))
        self.machine.kill_domain("dom2")
        self.check_end(sender, "the receiver went away")
        self.check_end(server, self.LOST)

    def test_transfer_when_the_daemon_dies(self):
        out = self.path("out")
        server = self.server("recv", self.port, out)
        sender = self.a("send", "-v", self.peer, self.port)
        sender.wait_for("connected")
        sender.stdin.write(bytes(1 << 20))
        self.machine.process.kill()
        self.check_end(sender, self.LOST)
        self.check_end(server, self.LOST)
        self.assertFalse(os.path.exists(out) or os.path.exists(out + ".part"))

    def test_connecting_to_a_dead_domain(self):
        self.machine.kill_domain("dom2")
        self.assertEqual(self.a(self.peer, self.port).finish()[0], 1)

    def test_says_which_domain_a_cid_is(self):
        self.server("-l", "-k", self.port, stdin=subprocess.DEVNULL)
        self.check(self.a("-v", "4", self.port).finish(), 0, "CID 4 = dom2")
        self.assertNotIn("dom2", self.a("4", self.port).finish()[2])


def load_tests(loader, tests, _):
    for module in (pipe_test, transfer_test, measure_test):
        tests.addTests(loader.loadTestsFromModule(module))
    return tests


if __name__ == "__main__":
    with Machine() as machine:
        os.environ.update(ARGOSY_TEST_URI_A=machine.uri("dom1"), ARGOSY_TEST_URI_B=machine.uri("dom2"),
                          ARGOSY_TEST_PEER="dom2")
        program = unittest.main(exit=False)
    sys.exit(not program.result.wasSuccessful())
