# SPDX-License-Identifier: Apache-2.0
"""hatch ping, echo and perf."""

import json
import subprocess
import unittest

from hatch import testing


class PingTest(testing.HatchTest):
    def test_stream(self):
        server = self.server("echo", self.port)
        out = self.check(self.a("ping", "-c", "20", "-s", "5000", self.peer, self.port).finish(), 0).decode()
        self.assertIn("20 round trips of 5000 bytes", out)
        self.assertIn(" 0 lost", out)
        self.assertRegex(out, r"min [\d.]+ us  p50 [\d.]+ us  p99 [\d.]+ us  max [\d.]+ us")
        server.process.terminate()
        self.check(server.finish(), 0)

    def test_datagrams(self):
        self.server("echo", "-u", self.port)
        out = self.check(self.a("ping", "-u", "-c", "20", self.peer, self.port).finish(), 0).decode()
        self.assertIn("20 round trips of 64 bytes", out)

    def test_lost_datagrams(self):
        self.server("-l", "-u", self.port)
        result = self.a("ping", "-u", "-c", "2", "-w", "0.05", self.peer, self.port).finish()
        self.assertIn(b"2 lost", self.check(result, 1, "answers nothing"))

    def test_nobody_listens(self):
        self.check(self.a("ping", self.peer, self.port).finish(), 1, "nobody listens")

    def test_peer_is_no_echo(self):
        self.server("-l", self.port, "-e", "yes")
        self.check(self.a("ping", self.peer, self.port).finish(), 1, "is no echo")

    def test_peer_goes(self):
        self.server("-l", self.port, "-e", "head -c 64")
        self.check(self.a("ping", "-c", "100000", self.peer, self.port).finish(), 1, "hatch: ")


class PerfTest(testing.HatchTest):
    def setUp(self):
        super().setUp()
        self.service = self.server("perf", "--server", self.port)

    def measure(self, *args):
        out = self.check(self.a("perf", self.peer, self.port, "--json", *args).finish(), 0)
        result = json.loads(out)
        trips = result["round_trip_us"]
        self.assertEqual((trips["count"], trips["lost"]), (1000, 0))
        self.assertTrue(0 < trips["min"] <= trips["p50"] <= trips["p90"] <= trips["p99"] <= trips["max"])
        self.assertGreater(result["gbit_per_second"], 0)
        self.assertEqual(result["transport"], self.uri_a)
        return result

    def test_bytes_in_both_directions(self):
        there = self.measure("--bytes", "3M", "--size", "1000")
        self.assertEqual((there["direction"], there["bytes"], there["write_size"]), ("send", 3 << 20, 1000))
        back = self.measure("--bytes", "3M", "--reverse")
        self.assertEqual((back["direction"], back["bytes"]), ("receive", 3 << 20))

    def test_by_time(self):
        self.assertGreater(self.measure("--seconds", "0.05")["bytes"], 0)
        self.assertGreater(self.measure("--seconds", "0.05", "--reverse")["bytes"], 0)

    def test_text(self):
        out = self.check(self.a("perf", self.peer, self.port, "--bytes", "1M").finish(), 0)
        self.assertIn(b"sent 1.0 MiB in ", out)
        self.assertIn(b"round trip of 64 bytes: ", out)

    def test_without_pings(self):
        arguments = ["perf", self.peer, self.port, "--bytes", "1M", "--pings", "0"]
        out = self.check(self.a(*arguments).finish(), 0)
        self.assertIn(b"sent 1.0 MiB in ", out)
        self.assertNotIn(b"round trip", out)
        result = json.loads(self.check(self.a(*arguments, "--json").finish(), 0))
        self.assertEqual((result["bytes"], result["peer"]["port"]), (1 << 20, int(self.port)))
        self.assertEqual(result["round_trip_us"]["count"], 0)

    def test_server_outlives_bad_clients(self):
        self.a(self.peer, self.port).finish(b"nonsense" * 10)
        client = self.a(self.peer, self.port, stdin=subprocess.PIPE)
        client.process.kill()
        self.measure("--bytes", "1K")
        self.service.process.terminate()
        self.check(self.service.finish(), 0)


if __name__ == "__main__":
    unittest.main()
