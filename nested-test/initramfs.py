# SPDX-License-Identifier: Apache-2.0
"""An initramfs (cpio, newc format), written without root: device nodes are entries like any other."""

import os
import stat


class Initramfs:
    """Add what is wanted, then write().  Folders on the way to an entry are made."""

    def __init__(self):
        self._entries = []
        self._names = set()

    def file(self, name, content, executable=False):
        self._parents(name)
        self._add(name, stat.S_IFREG | (0o755 if executable else 0o644), content)

    def copy(self, name, source):
        with open(source, "rb") as f:
            self.file(name, f.read(), executable=os.access(source, os.X_OK))

    def symlink(self, name, target):
        self._parents(name)
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def folder(self, name):
        if name not in self._names:
            self._parents(name)
            self._add(name, stat.S_IFDIR | 0o755, b"")

    def device(self, name, major, minor):
        """A character device."""
        self._parents(name)
        self._add(name, stat.S_IFCHR | 0o600, b"", major, minor)

    def has(self, name):
        return name in self._names

    def write(self, path):
        with open(path, "wb") as out:
            for number, entry in enumerate(self._entries, start=1):
                self._write_entry(out, number, *entry)
            self._write_entry(out, 0, "TRAILER!!!", 0, b"", 0, 0)

    def _parents(self, name):
        parent = os.path.dirname(name)
        if parent:
            self.folder(parent)

    def _add(self, name, mode, content, major=0, minor=0):
        if name in self._names:
            raise ValueError(f"{name} is in the initramfs already")
        self._names.add(name)
        self._entries.append((name, mode, content, major, minor))

    @staticmethod
    def _write_entry(out, inode, name, mode, content, major, minor):
        name = name.encode() + b"\0"
        # inode, mode, uid, gid, links, mtime, size, device (2), of the node (2), length of the name, checksum
        fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, major, minor, len(name), 0)
        header = b"070701" + b"".join(b"%08X" % f for f in fields) + name
        out.write(header + b"\0" * (-len(header) % 4))
        out.write(content + b"\0" * (-len(content) % 4))
