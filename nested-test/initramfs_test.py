# SPDX-License-Identifier: Apache-2.0
"""The archive as cpio itself reads it."""

import os
import subprocess
import tempfile
import unittest

from initramfs import Initramfs


class InitramfsTest(unittest.TestCase):
    def test_cpio_lists_what_was_added(self):
        ramfs = Initramfs()
        ramfs.file("bin/tool", b"odd", executable=True)
        ramfs.symlink("bin/sh", "tool")
        ramfs.device("dev/console", 5, 1)
        ramfs.folder("tmp")
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "a.cpio")
            ramfs.write(path)
            with open(path, "rb") as f:
                listing = subprocess.run(["cpio", "-tv", "--quiet"], stdin=f, check=True, capture_output=True, text=True).stdout
            lines = {line.split()[-1] if "->" not in line else line.split()[-3]: line for line in listing.splitlines()}
            self.assertEqual(set(lines), {"bin", "bin/tool", "bin/sh", "dev", "dev/console", "tmp"})
            self.assertTrue(lines["bin/tool"].startswith("-rwxr-xr-x"))
            self.assertTrue(lines["bin/sh"].endswith("-> tool"))
            self.assertRegex(lines["dev/console"], r"^crw------- .* 5, +1 ")
            with open(path, "rb") as f:
                content = subprocess.run(["cpio", "-i", "--to-stdout", "--quiet", "bin/tool"], stdin=f, check=True, capture_output=True).stdout
            self.assertEqual(content, b"odd")

    def test_a_name_is_taken_once(self):
        ramfs = Initramfs()
        ramfs.file("a", b"")
        with self.assertRaises(ValueError):
            ramfs.file("a", b"")


if __name__ == "__main__":
    unittest.main()
