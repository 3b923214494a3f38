# SPDX-License-Identifier: Apache-2.0
"""Tables of figures that a person can check."""

import json
import unittest

from figures import MIB, Figures


def perf(mib_per_second, seconds=2.0):
    return json.dumps({"bytes": int(mib_per_second * seconds * MIB), "seconds": seconds})


def counters(end, when, round, **counts):
    values = " ".join(f"{name} {value}" for name, value in counts.items())
    return f"  12.3 figure {round} argo out 4096 {when}-{end} domid 0 {values}\n".rstrip("\n")


class FiguresTest(unittest.TestCase):
    def test_medians_and_ratios(self):
        figures = Figures()
        zero = {"virqs": 5, "register": 1, "sendv": 100, "sendv_full": 0, "notify": 7}
        # In round 2 the host was ten times slower; what it did to all paths alike leaves the ratios alone.
        for round, speed in [(1, 1.0), (2, 0.1), (3, 1.0)]:
            for end in ["dom0", "guest"]:
                figures.line(counters(end, "before", round, **zero))
            figures.line(f"  20.0 figure {round} argo out 4096 throughput {perf(100 * speed)}")
            # 200 MiB, or 20.
            after = dict(zero, sendv=100 + int(200 * speed) * 256, virqs=5 + int(200 * speed) * 2)
            for end in ["dom0", "guest"]:
                figures.line(counters(end, "after", round, **after))
            figures.line(f"  20.0 figure {round} tcp out 4096 throughput {perf(50 * speed)}")
            figures.line(f"  20.0 figure {round} loopback out 4096 throughput {perf(200 * speed)}")
            received = {"end": {"sum_received": {"bytes": int(80 * speed * MIB), "seconds": 1.0}}}
            figures.line(f"  20.0 figure {round} iperf3 out 4096 throughput {json.dumps(received)}")
            for path, p50 in [("argo", 400), ("tcp", 800), ("loopback", 1600)]:
                figures.line(f" 9.9 figure {round} {path} both 64 latency " + json.dumps({"round_trip_us": {"p50": p50 / speed}}))
        for key in [key for key in figures.throughput]:
            figures.throughput[(key[0], "in", key[2])] = figures.throughput[key]
        figures.counts["in", 4096] = figures.counts["out", 4096]
        tables = figures.tables()
        self.assertIn("| 4096 | dom0 to guest | 100.0 | 50.0 | 80.0 | 200.0 | 2.00 | 1.25 | 0.50 |\n", tables)
        self.assertIn("| round trip of 64 bytes, p50 | 400 | 800 | 1600 | 0.50 | 0.25 |\n", tables)
        self.assertIn("| 4096 | guest to dom0 | dom0 | 256.0 | 0.0 | 0.0 | 0.0 | 2.0 |\n", tables)

    def test_other_lines_say_nothing(self):
        figures = Figures()
        figures.line("   7.2 ok 1 - figure it out")
        figures.line("   7.2 guest| rig: runs grep -v figure")
        self.assertEqual((figures.throughput, figures.latency, figures.counts), ({}, {}, {}))


if __name__ == "__main__":
    unittest.main()
