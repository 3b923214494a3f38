# SPDX-License-Identifier: Apache-2.0
"""xen_nested.py MACHINE.json: an xen_nested_test.  Exit 0 if it passed, 1 if not or if something is missing."""

import os
import sys
import tempfile

import xen_rig


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    machine = xen_rig.load(sys.argv[1])
    with tempfile.TemporaryDirectory(dir=os.environ.get("TEST_TMPDIR")) as folder:
        keep_in = os.environ.get("TEST_UNDECLARED_OUTPUTS_DIR", folder)
        with open(os.path.join(keep_in, "console.log"), "w", encoding="utf-8") as keep:
            wrong = xen_rig.boot(machine, folder, keep)
    for line in wrong:
        print(f"xen_nested: {line}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
