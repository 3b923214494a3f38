# SPDX-License-Identifier: Apache-2.0
"""What must fail a nested test does: each case boots a machine with a script that does it.  And the shell for a person."""

import io
import os
import subprocess
import sys
import tempfile
import unittest

import xen_nested
import xen_rig

MACHINE, ARGO_MACHINE = sys.argv[1:]
del sys.argv[1:]


class XenRigTest(unittest.TestCase):
    def boot(self, script, time_limit=240):
        with tempfile.TemporaryDirectory(dir=os.environ.get("TEST_TMPDIR")) as folder:
            path = os.path.join(folder, "script")
            with open(path, "w", encoding="utf-8") as f:
                f.write(script)
            machine = {**xen_rig.load(MACHINE), "script": path, "time_limit": time_limit}
            console = io.StringIO()
            return xen_rig.boot(machine, folder, console), console.getvalue()

    def test_a_warning_of_a_guests_kernel(self):
        # The script passes.  The kernel prints what is written to /dev/kmsg like anything else of its own.
        wrong, _ = self.boot("""
            guest_create alpha
            check "fine" guest alpha 'echo "<4>WARNING: CPU: 0 PID: 1 at nowhere.c:1" > /dev/kmsg'
        """)
        self.assertEqual(len(wrong), 1, wrong)
        self.assertRegex(wrong[0], r"^alarm on a console: alpha: .*WARNING: CPU: 0 PID: 1 at nowhere.c:1$")

    def test_a_command_that_fails_in_a_guest_and_a_leak_of_its_kernel(self):
        wrong, console = self.boot("""
            guest_create alpha
            check "fine" guest alpha true
            check "not fine" guest alpha false
            # Debian's kernel has no kmemleak; what is there tells of a leak.
            guest alpha 'mount -t tmpfs tmpfs /sys/kernel/debug; echo "unreferenced object" > /sys/kernel/debug/kmemleak'
        """)
        reason = "the script did not pass (QEMU's exit status: 3)"
        self.assertEqual(wrong, [reason, "not ok 2 - not fine # 'guest alpha false' ended with 1", "not ok 3 - alpha leaks no memory"])
        self.assertIn("1..3\n", console)

    def test_a_guest_that_crashes_by_itself(self):
        wrong, console = self.boot("""
            guest_create alpha
            guest alpha 'echo c > /proc/sysrq-trigger'
            pass "nothing looked at it"
        """)
        self.assertIn("the script did not pass (QEMU's exit status: 3)", wrong)
        self.assertTrue(any("alarm on a console: alpha: " in line and "Kernel panic" in line for line in wrong), wrong)
        self.assertIn("not ok 2 - alpha is still there at the end\n", console)

    def test_a_hang(self):
        wrong, _ = self.boot("pass 'so far'; mkfifo never; cat never", time_limit=30)
        self.assertEqual(wrong, ["the time limit struck"])

    def test_a_script_that_ends_before_its_end(self):
        wrong, _ = self.boot("pass 'so far'; exit 0; fail 'never reached'")
        self.assertEqual(wrong, ["the script did not pass (QEMU's exit status: 3)"])

    def test_a_script_that_checks_nothing(self):
        wrong, _ = self.boot("true")
        self.assertEqual(wrong, ["the script did not pass (QEMU's exit status: 3)", "Bail out! the test has checked nothing"])

    def test_a_person_gets_a_shell_with_a_guest(self):
        # As docs/nested-xen.md shows it.
        command = [sys.executable, xen_nested.__file__, "--shell", ARGO_MACHINE]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:

            def until(text):
                seen = ""
                while not seen.endswith(text):
                    byte = shell.stdout.read(1)
                    self.assertTrue(byte, seen)
                    seen += byte.decode(errors="replace")
                return seen

            def type_in(line):
                shell.stdin.write(line.encode() + b"\n")
                shell.stdin.flush()

            self.assertIn("To leave: exit", until("\ndom0# "))
            type_in("hatch -v echo 5000 &")
            until("hatch: listening on 5000\r\n")
            type_in("guest alpha 'hatch ping --count 3 dom0 5000'")
            until("3 round trips of 64 bytes to CID 2 port 5000, 0 lost\r\n")
            type_in("exit")
            shell.stdin.close()
            shell.stdout.read()
            self.assertEqual(shell.wait(), 0)


if __name__ == "__main__":
    unittest.main()
