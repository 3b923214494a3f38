# SPDX-License-Identifier: Apache-2.0
"""hatch over uds:, the host's side of one guest.  Here the guest is another hatch, which listens as the host of a second device."""

import os
import socket
import subprocess
import threading
import unittest

from hatch import testing


class Device:
    """Serves `here`: who asks for a port is joined with `there`_port.  Ends with the process."""

    def __init__(self, here, there):
        self._there = there
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(here)
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            client, _ = self._listener.accept()
            threading.Thread(target=self._join, args=(client,), daemon=True).start()

    def _join(self, client):
        line = b""
        while not line.endswith(b"\n"):
            line += client.recv(1)
        port = int(line.split()[1])
        with client, socket.socket(socket.AF_UNIX) as guest:
            try:
                guest.connect("%s_%d" % (self._there, port))
            except OSError:
                return  # refused, by an end-of-file
            # As Firecracker does, another number than the one that was asked for.
            client.sendall(b"OK 1073741824\n")
            back = threading.Thread(target=self._carry, args=(guest, client))
            back.start()
            self._carry(client, guest)
            back.join()

    @staticmethod
    def _carry(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            sink.shutdown(socket.SHUT_RDWR)


class UdsTest(testing.HatchTest):
    def setUp(self):
        super().setUp()
        Device(self.path("a"), self.path("b"))
        self.uri_a, self.uri_b = "uds:" + self.path("a"), "uds:" + self.path("b")

    def test_a_port_is_enough(self):
        server = self.server("-l", self.port)
        client = self.a("-v", self.port)
        server.stdin.write(b"from server")
        server.close_input()
        result = client.finish(b"from client")
        self.assertEqual(self.check(result, 0, "connected to port " + self.port), b"from server")
        self.assertEqual(self.check(server.finish(), 0, "connection from the other machine"), b"from client")
        self.assertFalse(os.path.exists(self.path("b_" + self.port)))

    def test_a_port_is_not_enough_elsewhere(self):
        client = self.start("loopback:" + self.path("world"), self.port)
        self.check(client.finish(), 2, "a CID and a port are needed over loopback:")

    def test_every_guests_cid_is_the_guest(self):
        for cid in "3", "77":
            server = self.server("-r", "-p", self.port, stdin=subprocess.DEVNULL)
            self.check(self.a(cid, self.port).finish(b"x"), 0)
            self.assertEqual(self.check(server.finish(), 0), b"x")

    def test_the_host_is_not_the_guest(self):
        for cid in "0", "host", "local":
            self.check(self.a(cid, self.port).finish(), 1, "is not the guest's")

    def test_a_name_is_nobody(self):
        self.check(self.a("web", self.port).finish(), 1, "'web' is not known to uds:")

    def test_nobody_listens(self):
        self.check(self.a("-z", self.port).finish(), 1, "nobody listens at port " + self.port)
        self.check(self.a("-z", self.port).finish(), 1, "the guest is not up")
        server = self.server("-l", self.port)
        self.check(self.a("-z", self.port).finish(), 0)
        self.check(server.finish(), 0)

    def test_a_file(self):
        with self.open(self.path("sent"), "wb") as file:
            file.write(os.urandom(1 << 20))
        server = self.server("recv", self.port, self.path("got"))
        self.check(self.a("send", "3", self.port, self.path("sent")).finish(), 0)
        self.check(server.finish(), 0)
        with self.open(self.path("sent"), "rb") as sent, self.open(self.path("got"), "rb") as got:
            self.assertEqual(sent.read(), got.read())

    def test_round_trips(self):
        self.server("echo", self.port)
        self.check(self.a("ping", "-c", "3", self.port).finish(), 0)

    def test_what_a_device_does_not_have(self):
        self.check(self.a("--seqpacket", self.port).finish(), 1, "has no SEQPACKET sockets")
        self.check(self.b("--seqpacket", "-l", self.port).finish(), 1, "has no SEQPACKET sockets")
        self.check(self.a("-u", self.port).finish(), 1, "has no datagrams")
        self.check(self.a("-p", "5000", self.port).finish(), 1, "the device chooses the host's port")

    def test_no_device(self):
        client = self.start("uds:" + self.path("none"), self.port)
        self.check(client.finish(), 1, "is the machine's vsock device running?")


if __name__ == "__main__":
    unittest.main()
