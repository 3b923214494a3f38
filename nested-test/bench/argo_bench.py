# SPDX-License-Identifier: Apache-2.0
"""Argo against TCP over netfront/netback and against vsock_loopback in dom0, in one boot of an emulated machine for each kind of guest.

Writes a table and the consoles.  An emulated CPU says nothing about absolute figures, and a busy host spoils the ratios, too.
Exit 0 if everything was measured, 1 if not, 2 for a wrong command line.
"""

import argparse
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile

import xen_rig
from figures import Figures
from machine import needed

HERE = "nested-test/bench"
TYPES = ["pv", "pvh"]
SIZES = "65536 4096 512"


def iperf3():
    """The program and the libraries that it loads, the loader among them."""
    program = needed(shutil.which("iperf3"), "iperf3 is not installed")
    loaded = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    return [program, *re.findall(r"(?:=> |^\s*)(/\S+) \(0x", loaded, re.M)]


class Watch:
    """Keeps the consoles, and takes the figures."""

    def __init__(self, figures, keep):
        self._figures = figures
        self._keep = keep

    def write(self, line):
        self._keep.write(line)
        self._figures.line(line.rstrip("\n"))


def measure(args, type, folder):
    """The figures of one boot, and what was wrong with it, line by line."""
    machine = xen_rig.load(os.path.join(HERE, type + ".json"))
    settings = os.path.join(folder, "bench.env")
    with open(settings, "w", encoding="utf-8") as f:
        f.write(f'rounds={args.rounds} seconds={args.seconds} pings={args.pings} sizes="{args.sizes}"\n')
        # It takes whole seconds only.
        f.write(f"iperf3_seconds={math.ceil(args.seconds)}\n")
    machine["data"] += [settings, *iperf3()]
    if args.pin:
        # The guest's CPU and dom0's, each on one of the machine's two; of a PVH guest xen_rig.py sees to that.
        machine["xen_args"] += " dom0_vcpus_pin"
        if type == "pv":
            machine["guests"]["guest"]["config"].append('cpus = "1"')
    if args.native_tsc:
        machine["guests"]["guest"]["config"].append('tsc_mode = "native"')
    figures = Figures()
    # Eight measurements for each size, and round trips of some milliseconds, on a host that may be ten times slower than usual.
    round_seconds = 8 * len(args.sizes.split()) * (args.seconds + 1) + 3 * args.pings * 0.01
    machine["time_limit"] = int(240 + 10 * args.rounds * round_seconds)
    with open(os.path.join(args.out, type + ".log"), "w", encoding="utf-8") as keep:
        wrong = xen_rig.boot(machine, folder, Watch(figures, keep))
    return figures, wrong


def main():
    parser = argparse.ArgumentParser(prog="tools/bench argo", description=__doc__)
    parser.add_argument("--out", default="bench-out/argo", help="folder for argo.md and the consoles (default %(default)s)")
    parser.add_argument("--guests", default="pv,pvh", help="kinds of guests (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="medians of how many (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=1, help="for each throughput (default %(default)s)")
    parser.add_argument("--pings", type=int, default=1000, help="for each round trip (default %(default)s)")
    parser.add_argument("--sizes", default=SIZES, help="bytes in each write (default '%(default)s')")
    parser.add_argument("--pin", action="store_true", help="dom0 and the guest each on a CPU of its own")
    parser.add_argument("--native-tsc", action="store_true", help="the guest reads the time stamp counter itself, as where that is invariant")
    args = parser.parse_args()
    types = args.guests.split(",")
    if not set(types) <= set(TYPES) or args.rounds < 1 or args.seconds <= 0 or args.pings < 1:
        parser.error("--guests takes pv, pvh or both; --rounds, --seconds and --pings take more than 0")
    # bazel run starts programs elsewhere.
    args.out = os.path.join(os.environ.get("BUILD_WORKING_DIRECTORY", ""), args.out)
    os.makedirs(args.out, exist_ok=True)
    text, failed = "", False
    for type in types:
        with tempfile.TemporaryDirectory(dir=os.environ.get("TEST_TMPDIR")) as folder:
            figures, wrong = measure(args, type, folder)
        for line in wrong:
            print(f"bench: {type}: {line}", file=sys.stderr)
        if wrong:
            failed = True
            continue
        how = (", pinned" if args.pin else "") + (", native TSC" if args.native_tsc else "")
        text += f"## {type.upper()} guest: medians of {args.rounds}, {args.seconds:g} s each{how}\n\n{figures.tables()}\n"
    with open(os.path.join(args.out, "argo.md"), "w", encoding="utf-8") as f:
        f.write(text)
    print("\n" + text, end="")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
