# SPDX-License-Identifier: Apache-2.0
"""tools/mutants: puts one fault after another into the protocol, link, ring and hypervisor, and says which test finds it.

docs/testing.md, "Mutation check", explains it.
"""

import argparse
import difflib
import os
import signal
import sys
import time

import faults
import workbench

ROOT = os.path.dirname(os.path.dirname(faults.HERE))
GENERATED = 100
# Verdicts on generated faults that are no faults: the next one takes the place.
VOID = ("does not compile", "same code")


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="tools/mutants",
        description="Puts one fault after another into a copy of the code, runs the tests, and says which test finds it.",
        epilog="Exit status: 0, 1 if a fault with a name survived, or a generated one without an argument, or something failed; "
        "2 for a wrong command line.",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--named", action="store_true", help="only the faults of tools/mutation/named.txt")
    which.add_argument("--generated", action="store_true", help="only the %d generated ones" % GENERATED)
    which.add_argument("--only", metavar="NAME", help="only this one, and show it")
    parser.add_argument("--seed", type=int, default=1, help="which faults are generated (default: 1)")
    parser.add_argument("--by", metavar="PROGRAM", choices=[p.name for p in workbench.PROGRAMS], help="look with this one only: %(choices)s")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many are tried at once (default: one for each core)")
    parser.add_argument("--markdown", action="store_true", help="print the tables of docs/testing.md before the last line")
    args = parser.parse_args()
    if args.jobs < 1:
        parser.error("--jobs: at least 1")
    return args


def try_all(bench, stream, jobs, wanted):
    """Yields (fault, verdict) in the order of the stream, until `wanted` were not void."""
    pending, stream = [], iter(stream)
    while wanted > 0:
        while len(pending) < 2 * jobs:
            fault = next(stream, None)
            if fault is None:
                break
            pending.append((fault, bench.pool.submit(bench.try_fault, fault)))
        if not pending:
            return
        fault, future = pending.pop(0)
        verdict = future.result()
        yield fault, verdict
        wanted -= verdict.kind not in VOID


def say(fault, verdict):
    words = verdict.kind + (" by " + verdict.by if verdict.by else "")
    print("%s  %s:%d  %s: %s" % (fault.name, fault.path, fault.line, fault.what, words), flush=True)


def show(fault):
    old, new = faults.read(ROOT, fault.path).splitlines(), fault.text.splitlines()
    print("\n".join(difflib.unified_diff(old, new, fault.path, fault.path, lineterm="")))


def row(*cells):
    return "| %s |" % " | ".join(cell.replace("|", "\\|") for cell in cells)


def code(text):
    return "`%s`" % text


def markdown(named, survivors, argued):
    print("\n| fault | what | found by |\n|---|---|---|")
    for fault, verdict in named:
        print(row(code(fault.name), fault.what, verdict.by or "**nobody**"))
    print("\n| generated fault | where | why no test needs to find it |\n|---|---|---|")
    for fault in survivors:
        where = "%s, %s" % (fault.path, code(fault.what))
        print(row(code(fault.name), where, argued.get(fault.name, "**not argued yet**")))
    print()


def run(args):
    named, wrong = faults.named(ROOT)
    for line in wrong:
        print("mutants: %s" % line, file=sys.stderr)
    if wrong:
        return 1
    generated = faults.generate(ROOT, args.seed)
    argued = faults.argued()
    wanted_generated = GENERATED
    if args.only:
        named = [f for f in named if f.name == args.only]
        generated = [f for f in generated if f.name == args.only]
        wanted_generated = len(generated)
        if not named and not generated:
            print("mutants: no fault %s with --seed %d" % (args.only, args.seed), file=sys.stderr)
            return 2
        for fault in named + generated:
            show(fault)
    if args.named:
        wanted_generated = 0
    if args.generated:
        named = []

    begin = time.monotonic()
    programs = [p for p in workbench.PROGRAMS if args.by in (None, p.name)]
    with workbench.Workbench(ROOT, args.jobs, programs) as bench:
        print("mutants: building without a fault", flush=True)
        bench.prepare()
        print("mutants: ready after %d s" % (time.monotonic() - begin), flush=True)
        named_results, generated_results, void = [], [], 0
        for fault, verdict in try_all(bench, named, args.jobs, len(named)):
            say(fault, verdict)
            named_results.append((fault, verdict))
        for fault, verdict in try_all(bench, generated, args.jobs, wanted_generated):
            if verdict.kind in VOID and not args.only:
                void += 1
                continue
            say(fault, verdict)
            generated_results.append((fault, verdict))

    survivors = [fault for fault, verdict in generated_results if verdict.kind != "found"]
    unargued = [fault.name for fault in survivors if fault.name not in argued]
    if args.markdown:
        markdown(named_results, survivors, argued)
    found_named = sum(verdict.kind == "found" for _, verdict in named_results)
    if named_results:
        print("named: found %d of %d" % (found_named, len(named_results)))
    if generated_results:
        print(
            "generated: found %d of %d; %d survived, %d of them argued; %d others made no other program"
            % (
                len(generated_results) - len(survivors), len(generated_results), len(survivors),
                len(survivors) - len(unargued), void,
            )  # fmt: skip
        )
        if unargued:
            print("mutants: neither found nor argued: " + " ".join(unargued), file=sys.stderr)
    print("%d s" % (time.monotonic() - begin))
    total = len(named_results) + len(generated_results)
    print("found %d of %d" % (found_named + len(generated_results) - len(survivors), total))
    complete = found_named == len(named_results) and len(generated_results) == wanted_generated
    return 0 if complete and not unargued else 1


def main():
    def interrupt(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGHUP, interrupt)
    try:
        return run(parse_arguments())
    except (faults.FaultError, workbench.WorkbenchError, OSError) as e:
        print("mutants: %s" % e, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("mutants: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
