#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints 'N passed, N failed' as the last line for one or more 'bazel test' runs, and 'N skipped' before it.

Usage: bazel test --build_event_json_file=BEP.json //... ; tools/summarize_tests.py BEP.json [MORE.json ...]

The build event file is read, rather than bazel-testlogs/**/test.xml, because
bazel-testlogs keeps the results of earlier runs.  gtest cases are counted one
by one; a target without cases counts as one.  Exits 1 if anything failed or
nothing ran.
"""
import json
import sys
import urllib.parse
import xml.etree.ElementTree as ET


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


def read_events(path):
    """Returns ({(label, shard, run): (status, [test.xml])} of the last attempts, {label: state or None}) of one bazel run."""
    runs = {}
    tests = {}
    with open(path) as f:
        for line in f:
            event = json.loads(line)
            ident = event.get("id", {})
            if "testResult" in ident:
                i, r = ident["testResult"], event.get("testResult")
                if r:
                    xml = [o["uri"] for o in r.get("testActionOutput", []) if o["name"] == "test.xml"]
                    runs[i["label"], i.get("shard", 1), i.get("run", 1)] = (r["status"], xml)
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
    for (label, _shard, _run), (status, xml) in sorted(runs.items()):
        found = []
        if xml:
            try:
                found = list(cases(urllib.parse.unquote(urllib.parse.urlparse(xml[0]).path)))
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


sys.exit(main())
