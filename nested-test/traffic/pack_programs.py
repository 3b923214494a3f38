#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""pack_programs.py OUT: this machine's ncat, socat and Python, with all that they load, as a tar file.

OUT is empty, and it says why, if one is missing.
"""

import os
import re
import subprocess
import sys
import tarfile

PROGRAMS = ["/usr/bin/ncat", "/usr/bin/socat", "/usr/bin/python3"]
# What vsock_pipe.py imports, and what Python itself does at its start.
PYTHON_FILES = "import socket, sys; print('\\n'.join(m.__file__ for m in sys.modules.values() if getattr(m, '__file__', None)))"


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}).stdout


def libraries(path):
    """What the loader would load, itself included."""
    return re.findall(r"(?:=> |^\s*)(/\S+) \(0x", run("ldd", path), re.M)


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    missing = [path for path in PROGRAMS if not os.path.exists(path)]
    with open(sys.argv[1], "wb") as out:
        if missing:
            print(f"pack_programs: no {', '.join(missing)}; run: tools/setup --full", file=sys.stderr)
            return
        files = set(PROGRAMS)
        files |= {path for path in run(PROGRAMS[2], "-I", "-S", "-c", PYTHON_FILES).splitlines() if path.endswith((".py", ".so"))}
        for path in [path for path in files if not path.endswith(".py")]:
            files |= set(libraries(path))
        with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for path in sorted(files):
                # Libraries by the name that the loader looks for, not as links.
                entry = tar.gettarinfo(os.path.realpath(path), arcname=path.lstrip("/"))
                entry.uid = entry.gid = entry.mtime = 0
                with open(path, "rb") as f:
                    tar.addfile(entry, f)


if __name__ == "__main__":
    main()
