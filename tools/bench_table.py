#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a Markdown table of Google Benchmark's JSON files, and copies the figures of other text files below it."""
import json
import sys

# Fields of a benchmark that are no counters of ours.
STANDARD = {
    "name", "family_index", "per_family_instance_index", "run_name", "run_type", "repetitions", "repetition_index",
    "threads", "iterations", "real_time", "cpu_time", "time_unit", "aggregate_name", "aggregate_unit",
}


def main():
    contexts, rows, notes = set(), [], []
    for path in sys.argv[1:]:
        with open(path) as f:
            if not path.endswith(".json"):
                notes += [line.strip() for line in f if line.startswith("idle connection")]
                continue
            report = json.load(f)
        context = report["context"]
        contexts.add("%d CPUs at %d MHz, %s" % (context["num_cpus"], context["mhz_per_cpu"], context["date"][:10]))
        for b in report["benchmarks"]:
            counters = ", ".join("%s %.4g" % (k, v) for k, v in b.items() if k not in STANDARD)
            rows.append("| %s | %.4g %s | %s |" % (b["name"], b["real_time"], b["time_unit"], counters))
    print("; ".join(sorted(contexts)), "\n\n| benchmark | time | figures |\n|---|---|---|\n" + "\n".join(rows))
    for note in notes:
        print("\n" + note)


main()
