# SPDX-License-Identifier: Apache-2.0
"""argosy-conformance as people run it: the agent in one process, the cases in another."""

import os
import re
import subprocess
import tempfile
import unittest

CONFORMANCE = "backends/argosy-conformance"
SIM = "sim/argosy-sim"


class Running:
    """A process that says one line when it is ready, and is killed at the end."""

    def __init__(self, *command):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, universal_newlines=True)
        self.line = self.process.stdout.readline()
        if not self.line:
            raise RuntimeError("%s did not start" % command[0])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()


def run(*arguments):
    return subprocess.run(
        [CONFORMANCE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, check=False
    )


class TwoProcesses:
    """check() is called with the arguments of a client whose server runs."""

    def setUp(self):
        # Short, because the path of a UNIX socket is.
        self.folder = tempfile.TemporaryDirectory(dir="/tmp", prefix="argosy-")
        self.addCleanup(self.folder.cleanup)

    def test_loopback(self):
        uri = "loopback:" + self.folder.name
        with Running(CONFORMANCE, "--server", uri, "--port", "7000"):
            self.check(uri, "local:7000")

    def test_sim(self):
        socket = os.path.join(self.folder.name, "sim.sock")
        with Running(SIM, "--socket", socket, "--log-level", "warn"):
            with Running(CONFORMANCE, "--server", "sim:%s?domain=dom0" % socket) as server:
                self.assertEqual(server.line, "argosy-conformance: serving at 2:6100\n")
                self.check("sim:%s?domain=dom1" % socket, "dom0")


class GibibyteTest(TwoProcesses, unittest.TestCase):
    def check(self, *arguments):
        cases = run("--client", *arguments, "--gtest_filter=*ALotOfDataBothWays*")
        self.assertEqual(cases.returncode, 0, cases.stdout)
        self.assertRegex(cases.stdout.splitlines()[-1], "2 passed, 0 skipped, 0 failed$")


class TwoProcessesTest(TwoProcesses, unittest.TestCase):
    def check(self, *arguments):
        cases = run("--client", *arguments, "--scale", "--behaviour", "docs/behaviour.md")
        self.assertEqual(cases.returncode, 0, cases.stdout)
        self.assertIn("behaviour: ", cases.stdout)
        last = cases.stdout.splitlines()[-1]
        self.assertRegex(last, r"^argosy-conformance: .* [1-9]\d* passed, \d+ skipped, 0 failed$")

    def test_another_behaviour_than_the_table_says_fails(self):
        with open("docs/behaviour.md") as f:
            page = f.read()
        wrong_page = os.path.join(self.folder.name, "wrong.md")
        with open(wrong_page, "w") as f:
            f.write(re.sub(r"(?m)^\| half close here \| STREAM \| .*", lambda row: row[0].replace("yes", "half_close"), page))
        uri = "loopback:" + self.folder.name
        case = "--gtest_filter=*/ConnectionTest.HalfCloseHere/stream"
        with Running(CONFORMANCE, "--server", uri):
            self.assertEqual(run("--client", uri, "local", case, "--behaviour", "docs/behaviour.md").returncode, 0)
            wrong = run("--client", uri, "local", case, "--behaviour", wrong_page)
        self.assertEqual(wrong.returncode, 1, wrong.stdout)
        self.assertIn("half close here (STREAM): 'yes', table: 'half_close'", wrong.stdout)
        self.assertRegex(wrong.stdout.splitlines()[-1], "1 passed, 0 skipped, 0 failed, not as the table says$")

    def test_failure_is_seen(self):
        # Nobody serves: one line, exit 1.
        nobody = run("--client", "loopback:" + self.folder.name, "local")
        self.assertEqual(nobody.returncode, 1, nobody.stdout)
        self.assertRegex(nobody.stdout, r"^argosy-conformance: no argosy-conformance --server: 1:6100: .*\n$")

    def test_usage(self):
        for arguments in [], ["--client", "loopback:"], ["--client", "nonsense:", "1"], ["--nonsense"]:
            wrong = run(*arguments)
            self.assertEqual(wrong.returncode, 2, wrong.stdout)
            self.assertRegex(wrong.stdout, r"^argosy-conformance: .*\n$")


if __name__ == "__main__":
    unittest.main()
