# SPDX-License-Identifier: Apache-2.0
"""What bench.sh prints, as tables."""

import json
import re
import statistics

MIB = 1 << 20
FIGURE = re.compile(r"(?:^|\s)figure (\d+) (\w+) (\w+) (\d+) ([\w-]+) (.*)$")
COUNTERS = ["sendv", "sendv_full", "notify", "register", "virqs"]
PATHS = ["argo", "tcp", "iperf3", "loopback"]
DIRECTIONS = {"out": "dom0 to guest", "in": "guest to dom0"}


class Figures:
    def __init__(self):
        # (path, direction, size) to figures, one for each round.
        self.throughput = {}  # MiB/s
        self.latency = {}  # p50 in microseconds
        self.counts = {}  # (direction, size) to {(end, counter): counts per MiB}
        self._before = {}

    def line(self, text):
        """Takes a line of a console; most say nothing here."""
        match = FIGURE.search(text)
        if not match:
            return
        _, path, direction, size, what, values = match.groups()
        key = (path, direction, int(size))
        if what == "throughput":
            result = json.loads(values)
            if path == "iperf3":
                result = result["end"]["sum_received"]
            self.throughput.setdefault(key, []).append(result["bytes"] / MIB / result["seconds"])
            self._carried = result["bytes"] / MIB
        elif what == "latency":
            self.latency.setdefault(path, []).append(json.loads(values)["round_trip_us"]["p50"])
        else:
            when, end = what.split("-")
            words = values.split()
            counters = dict(zip(words[::2], map(int, words[1::2])))
            if when == "before":
                self._before[end] = counters
                return
            per_mib = self.counts.setdefault(key[1:], {})
            for name in COUNTERS:
                value = (counters[name] - self._before[end][name]) / self._carried
                per_mib.setdefault((end, name), []).append(value)

    def sizes(self):
        return sorted({size for _, _, size in self.throughput}, reverse=True)

    def _ratio(self, one, other):
        """The median of the rounds' ratios, for what disturbs a round disturbs both."""
        return statistics.median(a / b for a, b in zip(one, other))

    def tables(self):
        lines = [
            "| writes of | direction | Argo, MiB/s | TCP | TCP by iperf3 | vsock_loopback | Argo / TCP | / iperf3 | / loopback |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for size in self.sizes():
            for direction, words in DIRECTIONS.items():
                argo, *others = (self.throughput[path, direction, size] for path in PATHS)
                medians = " | ".join(f"{statistics.median(path):.1f}" for path in [argo, *others])
                ratios = " | ".join(f"{self._ratio(argo, path):.2f}" for path in others)
                lines.append(f"| {size} | {words} | {medians} | {ratios} |")
        argo, tcp, loopback = (self.latency[path] for path in ["argo", "tcp", "loopback"])
        lines += [
            "",
            "| | Argo, us | TCP | vsock_loopback | Argo / TCP | / loopback |",
            "|---|---|---|---|---|---|",
            f"| round trip of 64 bytes, p50 | {statistics.median(argo):.0f} | {statistics.median(tcp):.0f} "
            f"| {statistics.median(loopback):.0f} | {self._ratio(argo, tcp):.2f} | {self._ratio(argo, loopback):.2f} |",
            "",
            "| per MiB over Argo: writes of | direction | end | " + " | ".join(COUNTERS) + " |",
            "|---|---|---|" + "---|" * len(COUNTERS),
        ]
        for size in self.sizes():
            for direction, words in DIRECTIONS.items():
                for end in ["dom0", "guest"]:
                    counts = (statistics.median(self.counts[direction, size][end, name]) for name in COUNTERS)
                    lines.append(f"| {size} | {words} | {end} | " + " | ".join(f"{count:.1f}" for count in counts) + " |")
        return "\n".join(lines) + "\n"
