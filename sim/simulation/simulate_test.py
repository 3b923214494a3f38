# SPDX-License-Identifier: Apache-2.0
"""simulate as a person runs it: a search, a replay, and wrong arguments."""

import re
import subprocess
import sys
import unittest

SIMULATE = "sim/simulation/simulate"
SEEDS = "2000"


def run(*arguments):
    return subprocess.run([SIMULATE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, check=False)


class SimulateTest(unittest.TestCase):
    def test_many_seeds_find_nothing_and_miss_nothing(self):
        result = run("--seeds", SEEDS, "--jobs", "2")
        print(result.stdout)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertEqual(result.stdout.splitlines()[-1], f"{SEEDS} seeds, 0 findings")
        counts = re.findall(r"^ +(\d+)  (.+)$", result.stdout, re.MULTILINE)
        self.assertEqual(len(counts), 29 + 14, "every fault and every oracle has its line")
        for count, name in counts:
            self.assertGreater(int(count), 0, name)

    def test_a_seed_is_replayed_with_its_timeline(self):
        first, second = run("--seed", "7"), run("--seed", "7")
        self.assertEqual(first.returncode, 0, first.stderr)
        self.assertEqual(first.stdout, second.stdout)
        self.assertRegex(first.stdout, r"^    0\.000000  seed 7: \d domains")
        self.assertIn("REQUEST", first.stdout)
        self.assertIn("-- the faults stop", first.stdout)

    def test_wrong_arguments(self):
        for arguments in (["--seeds", "0"], ["--seeds", "x"], ["--seed", "1", "--seeds", "2"], ["7"],
                          ["--jobs", "0"]):
            result = run(*arguments)
            self.assertEqual(result.returncode, 2, arguments)
            self.assertEqual(result.stdout, "")
            self.assertNotEqual(result.stderr, "")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        SEEDS = sys.argv.pop(1)
    unittest.main()
