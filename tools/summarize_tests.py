#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints 'N passed, N failed' as the last line for one or more 'bazel test' runs, and 'N skipped' before it.

Usage: bazel test --build_event_json_file=BEP.json //... ; tools/summarize_tests.py BEP.json [MORE.json ...]

The build event file is read, rather than bazel-testlogs/**/test.xml, because
bazel-testlogs keeps the results of earlier runs.  gtest cases are counted one
by one; a target without cases counts as one.  How the log of a run that failed
ends is shown: who reads only the end of a long output learns why.  Exits 1 if
anything failed or nothing ran.
"""
import json
import sys
import urllib.parse
import xml.etree.ElementTree as ET

LAST_LINES = 12


def cases(path):
    """Yields (name, state) for each case of a test.xml."""
    for c in ET.parse(path).getroot().iter("testcase"):
        kinds = {e.tag for e in c}
        if kinds & {"failure", "error"}:
            state = "failed"
        elif "skipped" in kinds or c.get("status") == "notrun" or c.get("result") == "skipped":
            state = "skipped"
        else:
            state = "passed"
        yield "%s.%s" % (c.get("classname", ""), c.get("name")), state


def local(uri):
    return urllib.parse.unquote(urllib.parse.urlparse(uri).path)


def last_lines(path):
    with open(path, errors="replace") as f:
        return "".join(f.readlines()[-LAST_LINES:])


def read_events(path):
    """Returns ({(label, shard, run): (status, {name: path of an output})} of the last attempts, {label: state or None})."""
    runs = {}
    tests = {}
    with open(path) as f:
        for line in f:
            event = json.loads(line)
            ident = event.get("id", {})
            if "testResult" in ident:
                i, r = ident["testResult"], event.get("testResult")
                if r:
                    outputs = {o["name"]: local(o["uri"]) for o in r.get("testActionOutput", []) if "uri" in o}
                    runs[i["label"], i.get("shard", 1), i.get("run", 1)] = (r["status"], outputs)
            elif "targetConfigured" in ident and "configured" in event:
                if event["configured"].get("targetKind", "").endswith("_test rule"):
                    tests[ident["targetConfigured"]["label"]] = None
            elif "targetCompleted" in ident:
                label = ident["targetCompleted"]["label"]
                if label not in tests:
                    continue
                if event.get("aborted", {}).get("reason") == "SKIPPED":
                    tests[label] = "skipped"
                elif not event.get("completed", {}).get("success"):
                    tests[label] = "failed"      # did not build
    return runs, tests


def main():
    count = {"passed": 0, "failed": 0, "skipped": 0}

    def note(name, state):
        count[state] += 1
        if state == "failed":
            print("FAILED", name)

    for path in sys.argv[1:]:
        try:
            runs, tests = read_events(path)
        except (OSError, ValueError):
            runs, tests = {}, {}
        if not tests:
            note("bazel ran nothing (%s)" % path, "failed")
        for label, state in tests.items():
            if state and not any(k[0] == label for k in runs):
                note(label, state)
        note_runs(runs, note)

    if count["skipped"]:
        print("%(skipped)d skipped" % count)
    print("%(passed)d passed, %(failed)d failed" % count)
    return 1 if count["failed"] or not count["passed"] else 0


def note_runs(runs, note):
    for (label, _shard, _run), (status, outputs) in sorted(runs.items()):
        found = []
        if "test.xml" in outputs:
            try:
                found = list(cases(outputs["test.xml"]))
            except (ET.ParseError, OSError):
                pass
        if status in ("PASSED", "FLAKY"):
            for name, state in found or [(label, "passed")]:
                note("%s %s" % (label, name), state)
        else:
            if not any(state == "failed" for _, state in found):
                note("%s (%s)" % (label, status), "failed")  # crash, time-out
            for name, state in found:
                note("%s %s" % (label, name), state)
            if "test.log" in outputs:
                print(last_lines(outputs["test.log"]))


sys.exit(main())
