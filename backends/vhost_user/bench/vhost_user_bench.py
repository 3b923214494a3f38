# SPDX-License-Identifier: Apache-2.0
"""vhost-user-vsock beside another vhost-user vsock device, by the same guest and the same programs of the host, in turns.

Writes vhost-user.md and vhost-user.json.  A busy machine spoils the figures, and less so the ratios.
Exit 0 if our device was measured, 1 if not, 2 for a wrong command line.
"""

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys

HERE = "backends/vhost_user"
MEASURE = HERE + "/bench/vhost-user-measure"
OURS = HERE + "/vhost-user-vsock"
DIRECTIONS = {"host-to-guest": "host to guest", "guest-to-host": "guest to host"}
# Times the peer, and, where the AF_UNIX hop itself is the limit, times a plain pair with the same writes.
WANTED = {
    ("host-to-guest", 64): 3.5,
    ("host-to-guest", 4096): 3.5,
    ("host-to-guest", 65536): 2.2,
    ("guest-to-host", 64): 2.4,
    ("guest-to-host", 4096): 1.7,
    ("guest-to-host", 65536): 1.5,
}
WANTED_OF_PAIR = 0.8
# What else is measured: (what, figure, words, whether more is better).
OTHERS = [
    ("round-trip", "p50_us", "round trip of 64 bytes, p50, us", False),
    ("round-trip", "p99_us", "round trip of 64 bytes, p99, us", False),
    ("connections", "per_second", "connections per second", True),
    ("connections", "cpu_us_each", "device CPU for a connection, us", False),
]


class Failed(Exception):
    pass


def measure(device, what, size, seconds, count):
    """The figures that vhost-user-measure prints."""
    command = [MEASURE, "--what", what, "--seconds", str(seconds), "--count", str(count)]
    if size:
        command += ["--size", str(size)]
    if device:
        command += ["--device", device]
    try:
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120 + 10 * seconds, check=False)
    except subprocess.TimeoutExpired:
        raise Failed("hangs") from None
    if run.returncode != 0:
        raise Failed(run.stderr.strip() or f"vhost-user-measure ended with {run.returncode}")
    return {name: float(value) for name, value in (line.split() for line in run.stdout.splitlines())}


class Results:
    """The figures of all rounds: by what and size, then by who: ours, peer or pair."""

    def __init__(self):
        self.rounds = {}
        self.failures = {}

    def add(self, what, size, who, figures):
        self.rounds.setdefault((what, size), {}).setdefault(who, []).append(figures)

    def fail(self, what, size, who, reason):
        self.failures[what, size, who] = reason

    def has(self, what, size, who):
        return (what, size, who) not in self.failures and who in self.rounds.get((what, size), {})

    def values(self, what, size, who, name):
        return [figures[name] for figures in self.rounds[what, size][who]]

    def median(self, what, size, who, name):
        return statistics.median(self.values(what, size, who, name)) if self.has(what, size, who) else None

    def ratio(self, what, size, over, under, name):
        """The median of the rounds' ratios, for what disturbs a round disturbs both."""
        if not self.has(what, size, over) or not self.has(what, size, under):
            return None
        return statistics.median(a / b for a, b in zip(self.values(what, size, over, name), self.values(what, size, under, name)))


def cell(value, digits=2):
    return "-" if value is None else f"{value:.{digits}f}" if value < 1000 else f"{value:.0f}"


def busy_cell(results, what, size, who):
    if not results.has(what, size, who):
        return "-"
    return ", ".join(f"{results.median(what, size, who, name):.0%}" for name in ["device_busy", "guest_busy", "program_busy"])


def met(results):
    return "yes" if any(results) else "no"


def throughput_table(results):
    lines = [
        "| writes of | direction | ours, MiB/s | peer | of the peer | wanted | AF_UNIX pair | of the pair | or wanted | met |"
        " CPU s/GiB | peer | peer / ours | busy: device, guest, program | peer |",
        "|---" * 15 + "|",
    ]
    for what, size in WANTED:
        key = (what, size)
        median = functools.partial(results.median, *key)
        ratio = functools.partial(results.ratio, *key)
        busy = functools.partial(busy_cell, results, *key)
        of_peer, of_pair = ratio("ours", "peer", "mib_per_second"), ratio("ours", "pair", "mib_per_second")
        cells = [
            str(size),
            DIRECTIONS[what],
            cell(median("ours", "mib_per_second"), 1),
            cell(median("peer", "mib_per_second"), 1),
            cell(of_peer),
            str(WANTED[key]),
            cell(median("pair", "mib_per_second"), 1),
            cell(of_pair),
            str(WANTED_OF_PAIR),
            met([of_peer is not None and of_peer >= WANTED[key], of_pair is not None and of_pair >= WANTED_OF_PAIR]),
            cell(median("ours", "cpu_seconds_per_gib"), 3),
            cell(median("peer", "cpu_seconds_per_gib"), 3),
            cell(ratio("peer", "ours", "cpu_seconds_per_gib")),
            busy("ours"),
            busy("peer"),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def other_table(results, count):
    lines = ["| figure | ours | peer | times better | wanted | met |", "|---" * 6 + "|"]
    for what, name, words, more in OTHERS:
        who = [results.median(what, 0, w, name) for w in ["ours", "peer"]]
        better = results.ratio(what, 0, *(["ours", "peer"] if more else ["peer", "ours"]), name)
        verdict = met([better is not None and better > 1])
        lines.append(f"| {words} | {cell(who[0], 1)} | {cell(who[1], 1)} | {cell(better)} | more than 1 | {verdict} |")
    for name, words, limit, wanted in [
        ("kib_each", f"RssAnon for each of {count} idle connections, KiB", 4, "at most 4"),
        # What the clock of a process says of one that slept: its look at a signal, at most.
        ("idle_cpu_ms", "device CPU while they idle, ms", 1, "0 (less than 1)"),
    ]:
        who = [results.median("idle", 0, w, name) for w in ["ours", "peer"]]
        verdict = met([who[0] is not None and who[0] <= limit])
        lines.append(f"| {words} | {cell(who[0])} | {cell(who[1])} | | {wanted} | {verdict} |")
    return lines


def main():
    parser = argparse.ArgumentParser(prog="tools/bench vhost-user", description=__doc__)
    parser.add_argument("--out", default="bench-out/vhost-user", help="folder of the figures (default %(default)s)")
    parser.add_argument("--device", default=OURS, help="program that is measured (default: vhost-user-vsock of this tree)")
    parser.add_argument("--peer", help="program that it is compared with; tools/fetch_peer.sh gets vhost-device-vsock (default: none)")
    parser.add_argument("--rounds", type=int, default=5, help="medians of how many (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=1, help="for each figure of a round (default %(default)s)")
    parser.add_argument("--idle", type=int, default=1000, help="idle connections (default %(default)s)")
    args = parser.parse_args()
    if args.rounds < 1 or args.seconds <= 0 or args.idle < 1:
        parser.error("--rounds, --seconds and --idle take more than 0")
    devices = {"ours": args.device}
    # bazel run starts programs elsewhere.
    caller = os.environ.get("BUILD_WORKING_DIRECTORY", "")
    args.out = os.path.join(caller, args.out)
    if args.device != OURS:
        devices["ours"] = os.path.join(caller, args.device)
    if args.peer:
        devices["peer"] = os.path.join(caller, args.peer)
    for program in devices.values():
        if not os.access(program, os.X_OK):
            parser.error(f"{program} is no program")
    os.makedirs(args.out, exist_ok=True)

    results = Results()

    def take(what, size, who, seconds):
        if (what, size, who) in results.failures:
            return
        print(f"bench: {what} {size or ''} {who}", file=sys.stderr)
        try:
            results.add(what, size, who, measure(devices.get(who), what if who in devices else who, size, seconds, args.idle))
        except Failed as failed:
            print(f"bench: {who}: {failed}", file=sys.stderr)
            results.fail(what, size, who, str(failed))

    for number in range(args.rounds):
        print(f"bench: round {number + 1} of {args.rounds}", file=sys.stderr)
        # Who begins is none's advantage.
        order = list(devices)[:: -1 if number % 2 else 1]
        for what, size in WANTED:
            for who in [*order, "pair"]:
                take(what, size, who, args.seconds)
        for what in ["round-trip", "connections"]:
            for who in order:
                take(what, 0, who, args.seconds)
    for who in devices:
        take("idle", 0, who, 3 * args.seconds)

    lines = [f"Medians of {args.rounds} rounds, {args.seconds:g} s each; ratios are medians of the rounds' ratios.", ""]
    lines += [*throughput_table(results), "", *other_table(results, args.idle)]
    for (what, size, who), reason in results.failures.items():
        lines += ["", f"{who}, {what} {size or ''}: {reason}"]
    text = "\n".join(lines) + "\n"
    with open(os.path.join(args.out, "vhost-user.md"), "w", encoding="utf-8") as f:
        f.write(text)
    with open(os.path.join(args.out, "vhost-user.json"), "w", encoding="utf-8") as f:
        rows = [{"what": what, "size": size, **rounds} for (what, size), rounds in results.rounds.items()]
        failures = [{"what": what, "size": size, "who": who, "reason": reason} for (what, size, who), reason in results.failures.items()]
        json.dump({"rounds": args.rounds, "seconds": args.seconds, "figures": rows, "failures": failures}, f, indent=1)
    print("\n" + text, end="")
    sys.exit(1 if any(who == "ours" for _, _, who in results.failures) else 0)


if __name__ == "__main__":
    main()
