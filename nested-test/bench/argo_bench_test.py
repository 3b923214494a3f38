# SPDX-License-Identifier: Apache-2.0
"""tools/bench argo, with as little as gives figures."""

import os
import re
import subprocess
import unittest

PROGRAM = "nested-test/bench/argo_bench"
OUT = os.environ["TEST_UNDECLARED_OUTPUTS_DIR"]


class ArgoBenchTest(unittest.TestCase):
    def test_tables(self):
        small = ["--guests", "pv", "--rounds", "1", "--seconds", "0.1", "--pings", "20", "--sizes", "65536 512"]
        subprocess.run([PROGRAM, "--out", OUT, *small], check=True)
        with open(os.path.join(OUT, "argo.md"), encoding="utf-8") as f:
            tables = f.read()
        self.assertRegex(tables, r"^## PV guest: medians of 1, 0.1 s each\n")
        rows = re.findall(r"^\| (65536|512) \| (dom0 to guest|guest to dom0)((?: \| [\d.]+){7}) \|$", tables, re.M)
        self.assertEqual(len(rows), 4, tables)
        for row in rows:
            # The ratios may be rounded to 0.00 on a busy host.
            self.assertTrue(all(float(figure) > 0 for figure in row[2].split(" | ")[1:5]), row)
        self.assertRegex(tables, r"\n\| round trip of 64 bytes, p50 \| [1-9]\d* \| [1-9]\d* \| [1-9]\d* \|")
        # One write is one message, but for those that find the ring full.
        sent = re.search(r"^\| 512 \| dom0 to guest \| dom0 \| ([\d.]+) \|", tables, re.M)
        self.assertGreaterEqual(float(sent[1]), 2048)

    def test_a_wrong_command_line(self):
        for wrong in [["--guests", "hvm"], ["--rounds", "0"], ["nonsense"]]:
            run = subprocess.run([PROGRAM, "--out", OUT, *wrong], stderr=subprocess.PIPE, check=False)
            self.assertEqual(run.returncode, 2, wrong)


if __name__ == "__main__":
    unittest.main()
