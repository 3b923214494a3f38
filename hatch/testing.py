# SPDX-License-Identifier: Apache-2.0
"""Runs hatch for tests: one program on side A (it connects), one on side B (it listens).

ARGOSY_TEST_URI_A, ARGOSY_TEST_URI_B: the transports of both sides; ARGOSY_TEST_PEER: B's CID as A writes it.  Without them
both sides are in a loopback: directory of their own.
"""

import itertools
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import unittest

HATCH = os.path.abspath(os.environ.get("ARGOSY_TEST_HATCH", "hatch/hatch"))
# Only how long a hanging test takes to fail.
PATIENCE = 60

_ports = itertools.count(20000)


class Program:
    """A running hatch.  Its standard error is collected line by line."""

    def __init__(self, uri, args, **popen):
        env = dict(os.environ, ARGOSY_TRANSPORT=uri)
        popen.setdefault("stdin", subprocess.PIPE)
        popen.setdefault("stdout", subprocess.PIPE)
        self.process = subprocess.Popen([HATCH, *args], stderr=subprocess.PIPE, env=env, bufsize=0, **popen)
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        self.errors = ""
        self._lines = queue.Queue()
        self._reader = threading.Thread(target=self._read_errors)
        self._reader.start()
        # A hatch that hangs fails its test, wherever that waits.
        self._watchdog = threading.Timer(PATIENCE, self.process.kill)
        self._watchdog.start()

    def _read_errors(self):
        with self.process.stderr as stream:
            for line in stream:
                self._lines.put(line.decode(errors="replace"))
        self._lines.put(None)

    def wait_for(self, text):
        """Waits until a line of standard error contains `text`."""
        while True:
            line = self._lines.get()
            if line is None:
                raise AssertionError("hatch ended without saying %r: %s" % (text, self.errors))
            self.errors += line
            if text in line:
                return

    def read(self, size):
        """Exactly `size` bytes of standard output, or what there is before it ends."""
        data = b""
        while len(data) < size:
            part = self.stdout.read(size - len(data))
            if not part:
                break
            data += part
        return data

    def close_input(self):
        if self.stdin and not self.stdin.closed:
            self.stdin.close()

    def wait(self):
        """Waits without touching its standard input."""
        code = self.process.wait()
        self._reader.join()
        while not self._lines.empty():
            self.errors += self._lines.get() or ""
        return code

    def finish(self, data=b""):
        """Gives it `data` and end of input; returns exit code, standard output and standard error."""
        feeder = threading.Thread(target=self._feed, args=(data,))
        feeder.start()
        out = self.stdout.read() if self.stdout else b""
        code = self.wait()
        feeder.join()
        return code, out, self.errors

    def _feed(self, data):
        view = memoryview(data)
        try:
            while view:
                view = view[self.stdin.write(view):]
        except BrokenPipeError:
            pass
        self.close_input()

    def stop(self):
        """For cleaning up."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._watchdog.cancel()
        self._reader.join()
        for stream in (self.stdin, self.stdout):
            if stream:
                stream.close()


class HatchTest(unittest.TestCase):
    def setUp(self):
        # Not TEST_TMPDIR: the addresses of UNIX sockets are short.
        self.directory = tempfile.mkdtemp(prefix="hatch")
        self.addCleanup(shutil.rmtree, self.directory)
        own = "loopback:" + self.path("world")
        self.uri_a = os.environ.get("ARGOSY_TEST_URI_A", own)
        self.uri_b = os.environ.get("ARGOSY_TEST_URI_B", own)
        self.peer = os.environ.get("ARGOSY_TEST_PEER", "local")
        self.own_world = self.uri_a == own
        self.port = str(next(_ports))

    def path(self, name):
        return os.path.join(self.directory, name)

    def open(self, name, mode):
        file = open(name, mode)
        self.addCleanup(file.close)
        return file

    def new_port(self):
        return str(next(_ports))

    def start(self, uri, *args, **popen):
        program = Program(uri, args, **popen)
        self.addCleanup(program.stop)
        return program

    def a(self, *args, **popen):
        return self.start(self.uri_a, *args, **popen)

    def b(self, *args, **popen):
        return self.start(self.uri_b, *args, **popen)

    def server(self, *args, **popen):
        """Starts hatch on side B and waits until it listens; the port is part of `args`."""
        program = self.b("-v", *args, **popen) if args[0].startswith("-") else self.b(args[0], "-v", *args[1:], **popen)
        program.wait_for("hatch: listening on")
        return program

    def check(self, result, code, message=None):
        """`result` of Program.finish(): the exit code, and with a message that it is said in a line of its own."""
        self.assertEqual(result[0], code, result[2])
        if message is not None:
            lines = [line for line in result[2].splitlines() if message in line]
            self.assertTrue(lines, "%r is not in %r" % (message, result[2]))
            self.assertTrue(lines[0].startswith("hatch: "), lines[0])
        return result[1]
