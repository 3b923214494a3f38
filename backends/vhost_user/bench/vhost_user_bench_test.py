# SPDX-License-Identifier: Apache-2.0
"""tools/bench vhost-user, with as little as gives figures, our device in both places."""

import json
import os
import re
import subprocess
import unittest

PROGRAM = "backends/vhost_user/bench/vhost_user_bench"
OURS = os.path.abspath("backends/vhost_user/vhost-user-vsock")
OUT = os.environ["TEST_UNDECLARED_OUTPUTS_DIR"]
SMALL = ["--rounds", "1", "--seconds", "0.05", "--idle", "20"]


def read(name):
    with open(os.path.join(OUT, name), encoding="utf-8") as f:
        return f.read()


class VhostUserBenchTest(unittest.TestCase):
    def test_tables(self):
        subprocess.run([PROGRAM, "--out", OUT, "--peer", OURS, *SMALL], check=True)
        table = read("vhost-user.md")
        rows = re.findall(r"^\| (64|4096|65536) \| (host to guest|guest to host) \| (.*) \|$", table, re.M)
        self.assertEqual(len(rows), 6, table)
        for row in rows:
            cells = row[2].split(" | ")
            self.assertEqual(len(cells), 13, row)
            # MiB/s of both and of the pair; the ratios may be rounded to 0.00 on a busy host.
            self.assertTrue(all(float(cells[i]) > 0 for i in (0, 1, 4)), row)
        for words in ["p50, us", "p99, us", "connections per second", "device CPU for a connection, us"]:
            row = re.search(rf"^\| .*{words} \| ([\d.]+) \| ([\d.]+) \| [\d.]+ \| more than 1 \| (yes|no) \|$", table, re.M)
            self.assertTrue(row and float(row[1]) > 0 and float(row[2]) > 0, table)
        self.assertRegex(table, r"\n\| RssAnon for each of 20 idle connections, KiB \| [\d.]+ \| [\d.]+ \|")
        self.assertRegex(table, r"\n\| device CPU while they idle, ms \| [\d.]+ \| [\d.]+ \|")
        figures = json.loads(read("vhost-user.json"))
        self.assertEqual(len(figures["figures"]), 9)
        self.assertEqual(figures["failures"], [])

    def test_a_peer_that_fails_has_no_figures(self):
        run = subprocess.run([PROGRAM, "--out", OUT, "--peer", "/bin/false", *SMALL], check=False)
        self.assertEqual(run.returncode, 0)
        self.assertRegex(read("vhost-user.md"), r"\npeer, round-trip : .*it has ended")

    def test_a_device_that_fails(self):
        run = subprocess.run([PROGRAM, "--out", OUT, "--device", "/bin/false", *SMALL], check=False)
        self.assertEqual(run.returncode, 1)

    def test_a_wrong_command_line(self):
        for wrong in [["--rounds", "0"], ["--peer", "/nonsense"], ["nonsense"]]:
            run = subprocess.run([PROGRAM, "--out", OUT, *wrong], stderr=subprocess.PIPE, check=False)
            self.assertEqual(run.returncode, 2, wrong)


if __name__ == "__main__":
    unittest.main()
