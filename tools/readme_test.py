# SPDX-License-Identifier: Apache-2.0
"""Runs the commands that README.md shows, and compares what they print.

A ```console block behind the line <!-- run --> is run: `$ ` starts a command, the lines under it are what the command and
the programs in the background print.  All blocks run in one shell, in a folder of its own.  A command that ends with & is
in the background: its lines are waited for.  Numbers that no two runs share are compared as such (VARIES).
"""

import collections
import os
import queue
import re
import signal
import subprocess
import tempfile
import threading
import unittest

# Only how long a hanging test takes to fail.
PATIENCE = 120

VARIES = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+|\b[0-9a-f]{64}\b|\d+\.\d+|(?<=pid )\d+")

# Commands come through descriptor 3, so that no program takes them for its input.
SHELL = 'while IFS= read -r line <&%d; do eval "$line" < /dev/null; echo "exit-code:$?"; done'

Step = collections.namedtuple("Step", "command output")


def read_steps(text):
    """The commands of all blocks that are marked, each with the lines that it prints."""
    steps = []
    for block in re.findall(r"<!-- run -->\n```console\n(.*?)```", text, re.S):
        for line in block.splitlines():
            if line.startswith("$ "):
                steps.append(Step(line[2:], []))
            else:
                steps[-1].output.append(line)
    return steps


def stable(line):
    return VARIES.sub("#", line.rstrip())


class Shell:
    """A shell whose output, and that of everything it starts, comes line by line."""

    def __init__(self, folder, path):
        os.makedirs(os.path.join(folder, "run"), mode=0o700)
        env = {"HOME": folder, "XDG_RUNTIME_DIR": os.path.join(folder, "run"), "PATH": path, "LC_ALL": "C"}
        commands, self._commands = os.pipe()
        self._process = subprocess.Popen(
            ["bash", "-c", SHELL % commands],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[commands],
            start_new_session=True,
        )
        os.close(commands)
        self._lines = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self._watchdog = threading.Timer(PATIENCE, self.kill)
        self._watchdog.start()

    def _read(self):
        with self._process.stdout as stream:
            for line in stream:
                self._lines.put(line.decode(errors="replace"))
        self._lines.put(None)

    def send(self, command):
        os.write(self._commands, command.encode() + b"\n")

    def line(self):
        """The next line, or None when the shell and all that it started have ended."""
        return self._lines.get()

    def kill(self):
        """Ends whatever of the shell's session still runs; True if there was something."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def close(self):
        """Ends the shell; True if it has left something running."""
        os.close(self._commands)
        self._process.wait()
        left = self.kill()
        self._reader.join()
        self._watchdog.cancel()
        return left


class ReadmeTest(unittest.TestCase):
    def test_the_tour_does_what_it_shows(self):
        with open("README.md") as f:
            steps = read_steps(f.read())
        self.assertGreater(len(steps), 5, "README.md has lost its commands")
        path = os.pathsep.join([os.path.abspath("sim"), os.path.abspath("hatch"), os.defpath])
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            shell = Shell(folder, path)
            try:
                for step in steps:
                    self.run_step(shell, step)
            finally:
                left = shell.close()
        self.assertFalse(left, "the tour leaves programs running")

    def run_step(self, shell, step):
        expected = [stable(line) for line in step.output]
        code = None
        shell.send(step.command)
        while code is None or expected:
            line = shell.line()
            self.assertIsNotNone(line, "'%s' has not printed %s" % (step.command, expected))
            if line.startswith("exit-code:"):
                code = int(line.split(":")[1])
                continue
            self.assertIn(stable(line), expected, "'%s' printed another line" % step.command)
            expected.remove(stable(line))
        self.assertEqual(code, 0, "'%s' failed" % step.command)


if __name__ == "__main__":
    unittest.main()
