#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stand-in for Bazel's lcov_merger: gcov JSON (gcc >= 9) and .dat -> one lcov file."""
import argparse, collections, glob, gzip, json, os, re, sys

p = argparse.ArgumentParser()
p.add_argument("--coverage_dir")
p.add_argument("--reports_file")          # coverage_report_generator mode
p.add_argument("--output_file", required=True)
p.add_argument("--filter_sources", action="append", default=[])
p.add_argument("--source_file_manifest")
a, _ = p.parse_known_args()

lines = collections.defaultdict(lambda: collections.defaultdict(int))
funcs = collections.defaultdict(dict)
filters = [re.compile(f) for f in a.filter_sources]
wanted = None
if a.source_file_manifest:
    with open(a.source_file_manifest) as f:
        wanted = {l.strip() for l in f}

def keep(name):
    return not any(f.fullmatch(name) for f in filters) and (wanted is None or name in wanted)

def read_gcov(path):
    with gzip.open(path, "rt") as f:
        doc = json.load(f)
    for entry in doc["files"]:
        name = entry["file"]
        for prefix in (doc.get("current_working_directory", "") + "/", "/proc/self/cwd/"):
            if name.startswith(prefix):
                name = name[len(prefix):]
        name = os.path.normpath(name)
        if not keep(name):
            continue
        for line in entry["lines"]:
            lines[name][line["line_number"]] += line["count"]
        for fn in entry["functions"]:
            old = funcs[name].get(fn["name"], (fn["start_line"], 0))
            funcs[name][fn["name"]] = (fn["start_line"], old[1] + fn["execution_count"])

def read_lcov(path):
    name = None
    with open(path) as f:
        for line in f:
            line = line.rstrip("\n")
            if line.startswith("SF:"):
                name = line[3:]
            elif line.startswith("DA:"):
                n, c = line[3:].split(",")[:2]
                lines[name][int(n)] += int(c)
            elif line.startswith("FN:"):
                n, fn = line[3:].split(",", 1)
                funcs[name].setdefault(fn, (int(n), 0))
            elif line.startswith("FNDA:"):
                c, fn = line[5:].split(",", 1)
                start, old = funcs[name].get(fn, (0, 0))
                funcs[name][fn] = (start, old + int(c))

if a.coverage_dir:
    for f in sorted(glob.glob(a.coverage_dir + "/**/*.gcov.json.gz", recursive=True)):
        read_gcov(f)
    for f in sorted(glob.glob(a.coverage_dir + "/**/*.dat", recursive=True)):
        if os.path.realpath(f) != os.path.realpath(a.output_file):
            read_lcov(f)
if a.reports_file:
    with open(a.reports_file) as f:
        for r in f.read().split():
            if r.endswith(".dat") and os.path.exists(r):
                read_lcov(r)

with open(a.output_file, "w") as out:
    for name in sorted(lines):
        out.write("SF:%s\n" % name)
        for fn, (start, _n) in sorted(funcs[name].items()):
            out.write("FN:%d,%s\n" % (start, fn))
        for fn, (_s, n) in sorted(funcs[name].items()):
            out.write("FNDA:%d,%s\n" % (n, fn))
        for n, c in sorted(lines[name].items()):
            out.write("DA:%d,%d\n" % (n, c))
        out.write("LH:%d\nLF:%d\nend_of_record\n" % (
            sum(c > 0 for c in lines[name].values()), len(lines[name])))
