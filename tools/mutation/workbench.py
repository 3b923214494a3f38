# SPDX-License-Identifier: Apache-2.0
"""Builds the tests once, then again and again with one fault, in a folder of its own, and runs them.

It calls the compiler itself: one changed file is compiled and one program linked in about a second, and several faults
are tried at once, which one Bazel workspace cannot do.
"""

import collections
import concurrent.futures
import glob
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time

# A program that finds faults, by an exit status that is not 0: its sources (patterns; of a file that matches twice the
# last place counts), and its arguments.  What the sources include is linked with them.
Program = collections.namedtuple("Program", "name sources arguments")

# In the order in which they are run; another is another entry here.  Tests of one program run in the order of its
# sources: those of the smaller parts first.
PROGRAMS = [
    Program(
        "unit tests",
        (
            "backends/argo/core/*_test.cc",
            "backends/argo/core/link_test.cc",
            "backends/argo/core/link_flow_test.cc",
            "sim/argo_hypercall*_test.cc",
            "sim/simulated_bed.cc",
            "sim/guest_memory_test.cc",
            "sim/hypervisor_test.cc",
            "transport/packet/*_test.cc",
            "sim/machine_test.cc",
            "transport/packet/random_test.cc",
        ),
        ("--gtest_fail_fast",),
    ),
    Program("simulation", ("sim/simulation/simulate.cc",), ("--seeds", "300", "--jobs", "1")),
]

COPIED = ["backends", "sim", "transport"]
ABSEIL = ".deps/abseil"
ABSEIL_PARTS = "base container debugging hash numeric profiling status strings synchronization time types".split()
NOT_ABSEIL = re.compile(r"_test|_benchmark|test_|testing|mock|benchmarks|print_hash")
GOOGLETEST = "/usr/src/googletest"
GOOGLETEST_SOURCES = ["googletest/src/gtest-all.cc", "googlemock/src/gmock-all.cc", "googlemock/src/gmock_main.cc"]

# What a program with a fault may take: 6 GiB of addresses, 1 GiB in a file (a domain's memory is one), no core.
LIMITS = 'ulimit -v %d && ulimit -f %d && ulimit -c 0 && exec "$0" "$@"' % (6 << 20, 1 << 21)
# The time is this many times what the program takes without a fault, and some seconds for a busy machine.
SLOWER = 20
GRACE = 10

# Of what a program prints, its end is looked at.
LAST_BYTES = 1 << 20

INCLUDE = re.compile(r'^#include "([^"]+)"', re.MULTILINE)


class WorkbenchError(Exception):
    """The tree without a fault cannot be built, or its tests fail."""


class Stopped(Exception):
    """stop() was called."""


# kind: "found", "survived", "does not compile" or "same code" (as without the fault); by: the test, and how.
Verdict = collections.namedtuple("Verdict", "kind by")


class Workbench:
    """Use as a context manager: on leaving, processes end and the folder goes."""

    def __init__(self, root, jobs, programs):
        self.root = root
        self.programs = programs
        self.pool = concurrent.futures.ThreadPoolExecutor(jobs)
        self.folder = tempfile.mkdtemp(prefix="argosy-mutants-")
        self.base = os.path.join(self.folder, "base")
        self.objects = {}  # source -> object without a fault
        self.includes = {}  # source -> files of the tree that it includes, directly or not
        self.sources = {}  # program -> its sources
        self.limits = {}  # program -> seconds
        self.lock = threading.Lock()
        self.running = set()
        self.stopped = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with self.lock:
            self.stopped = True
            for process in self.running:
                kill_group(process)
        self.pool.shutdown(cancel_futures=True)
        shutil.rmtree(self.folder)

    def run(self, command, cwd, seconds=None):
        """(exit status or None after `seconds`, the end of its output).  Whatever it started ends with it."""
        with tempfile.TemporaryFile(dir=self.folder) as output:
            with self.lock:
                if self.stopped:
                    raise Stopped()
                process = subprocess.Popen(
                    command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
                )
                self.running.add(process)
            try:
                status = process.wait(seconds)
            except subprocess.TimeoutExpired:
                status = None
            with self.lock:
                kill_group(process)
                process.wait()
                self.running.remove(process)
                if self.stopped:
                    raise Stopped()
            output.seek(0, os.SEEK_END)
            output.seek(max(0, output.tell() - LAST_BYTES))
            return status, output.read().decode(errors="replace")

    # ---- building ----

    def compile(self, source, tree, overlay=None):
        """Compiles a file of `tree` into a folder of its own; files in `overlay` stand for those of the tree.

        Returns (object or None, what the compiler said).
        """
        folder = tempfile.mkdtemp(dir=self.folder)
        made = os.path.join(folder, os.path.basename(source) + ".o")
        roots = [root for root in (overlay, tree) if root]
        path = next(p for p in (os.path.join(root, source) for root in roots) if os.path.exists(p))
        compiler = ["gcc", "-std=gnu11"] if source.endswith(".c") else ["g++", "-std=c++20"]
        command = compiler + ["-O1", "-w", "-D_GLIBCXX_ASSERTIONS", "-MMD", "-c", path, "-o", made]
        for root in roots:
            # The object is the same wherever the source lay.
            command += ["-I" + root, "-ffile-prefix-map=%s/=" % root]
        for system in [os.path.join(self.root, ABSEIL)] + [
            os.path.join(GOOGLETEST, p) for p in ("googletest/include", "googlemock/include", "googletest", "googlemock")
        ]:
            command += ["-isystem", system]
        status, output = self.run(command, folder)
        return made if status == 0 else None, output

    def must_compile(self, source, tree):
        made, output = self.compile(source, tree)
        if made is None:
            raise WorkbenchError("%s does not compile:\n%s" % (source, output))
        return made

    def link(self, objects, program):
        status, output = self.run(["g++", "-o", program, *objects, self.support, "-pthread"], self.folder)
        if status != 0:
            raise WorkbenchError("cannot link:\n" + output)

    def closure(self, sources):
        """The sources, and those that belong to what they include."""
        todo, wanted = list(sources), list(sources)
        seen = set()
        while todo:
            with open(os.path.join(self.base, todo.pop()), encoding="utf-8") as f:
                headers = INCLUDE.findall(f.read())
            for header in headers:
                if header in seen or not os.path.exists(os.path.join(self.base, header)):
                    continue
                seen.add(header)
                todo.append(header)
                for source in (header[:-2] + ".cc", header[:-2] + ".c"):
                    if source not in wanted and os.path.exists(os.path.join(self.base, source)):
                        wanted.append(source)
                        todo.append(source)
        return wanted

    def prepare(self):
        """Builds everything without a fault, and runs it."""
        for part in COPIED:
            shutil.copytree(os.path.join(self.root, part), os.path.join(self.base, part))
        abseil = os.path.join(self.root, ABSEIL)
        support = [(source, GOOGLETEST) for source in GOOGLETEST_SOURCES]
        for part in ABSEIL_PARTS:
            for path in sorted(glob.glob(os.path.join(abseil, "absl", part, "**/*.cc"), recursive=True)):
                source = os.path.relpath(path, abseil)
                if not NOT_ABSEIL.search(source):
                    support.append((source, abseil))
        if len(support) < 50 or not os.path.exists(os.path.join(GOOGLETEST, GOOGLETEST_SOURCES[0])):
            raise WorkbenchError("no sources of abseil or googletest: run tools/setup")
        for program in self.programs:
            matched = []
            for pattern in program.sources:
                for path in sorted(glob.glob(os.path.join(self.base, pattern))):
                    matched.append(os.path.relpath(path, self.base))
            last = {source: i for i, source in enumerate(matched)}
            self.sources[program] = self.closure(sorted(last, key=last.get))
        own = sorted({source for sources in self.sources.values() for source in sources})

        libraries = [self.pool.submit(self.must_compile, *s) for s in support]
        compiled = [self.pool.submit(self.must_compile, source, self.base) for source in own]
        self.support = os.path.join(self.folder, "support.a")
        status, output = self.run(["ar", "rcs", self.support] + [f.result() for f in libraries], self.folder)
        if status != 0:
            raise WorkbenchError("cannot make an archive:\n" + output)
        for source, future in zip(own, compiled):
            self.objects[source] = future.result()
            with open(self.objects[source][:-2] + ".d", encoding="utf-8") as f:
                self.includes[source] = {os.path.relpath(word, self.base) for word in f.read().split() if word.startswith(self.base)}

        for program in self.programs:
            path = os.path.join(self.folder, "without-fault")
            self.link([self.objects[s] for s in self.sources[program]], path)
            begin = time.monotonic()
            status, output = self.execute(program, path, self.folder, 600)
            if status != 0:
                raise WorkbenchError("%s: fails without any fault:\n%s" % (program.name, output[-4000:]))
            self.limits[program] = GRACE + SLOWER * (time.monotonic() - begin)

    def execute(self, program, path, cwd, seconds):
        return self.run(["sh", "-c", LIMITS, path, *program.arguments], cwd, seconds)

    # ---- one fault ----

    def try_fault(self, fault):
        """A Verdict; may be called by several threads."""
        folder = tempfile.mkdtemp(dir=self.folder)
        made = []
        try:
            changed = os.path.join(folder, "overlay", fault.path)
            os.makedirs(os.path.dirname(changed))
            with open(changed, "w", encoding="utf-8") as f:
                f.write(fault.text)
            objects, same = dict(self.objects), True
            # What includes it, the file itself first: most of what does not compile fails there.
            for source in sorted((s for s in self.objects if fault.path in self.includes[s]), key=lambda s: s.endswith("_test.cc")):
                objects[source], _ = self.compile(source, self.base, os.path.join(folder, "overlay"))
                if objects[source] is None:
                    return Verdict("does not compile", "")
                made.append(os.path.dirname(objects[source]))
                same = same and contents(objects[source]) == contents(self.objects[source])
            if same:
                return Verdict("same code", "")
            for program in self.programs:
                path = os.path.join(folder, "with-fault")
                self.link([objects[s] for s in self.sources[program]], path)
                status, output = self.execute(program, path, folder, self.limits[program])
                if status != 0:
                    return Verdict("found", blame(program, status, output))
            return Verdict("survived", "")
        finally:
            for path in [folder, *made]:
                shutil.rmtree(path, ignore_errors=True)


def kill_group(process):
    # Once it was waited for, its number may be another's.
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)


def contents(path):
    with open(path, "rb") as f:
        return f.read()


def blame(program, status, output):
    """The test that failed, or the one that ran last, and how if not by a failed check."""
    failed = re.search(r"^\[  FAILED  \] (\w+\.\w+)", output, re.MULTILINE)
    begun = re.findall(r"^\[ RUN      \] (\w+\.\w+)", output, re.MULTILINE)
    test = failed.group(1) if failed else begun[-1] if begun else program.name
    if status is None:
        return test + " (time-out)"
    return test if failed or not begun else test + " (crash)"
