# SPDX-License-Identifier: Apache-2.0
"""xen_nested.py MACHINE.json: an xen_nested_test.  Exit 0 if it passed, 1 if not or if something is missing."""

import os
import sys
import tempfile

import xen_rig
from machine import PASSED_STATUS


def verdict(status, alarms):
    """What is wrong with a run, line by line."""
    wrong = []
    if status is None:
        wrong.append("the time limit struck")
    elif status != PASSED_STATUS:
        wrong.append(f"the script did not pass (QEMU's exit status: {status})")
    return wrong + [f"alarm on a console: {line}" for line in alarms]


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    machine = xen_rig.load(sys.argv[1])
    keep_in = os.environ.get("TEST_UNDECLARED_OUTPUTS_DIR")
    with tempfile.TemporaryDirectory(dir=os.environ.get("TEST_TMPDIR")) as folder:
        guest_image, dom0_image = os.path.join(folder, "guest.cpio"), os.path.join(folder, "dom0.cpio")
        xen_rig.build_guest(machine, guest_image)
        xen_rig.build_dom0(machine, dom0_image, guest_image)
        with open(os.path.join(keep_in or folder, "console.log"), "w", encoding="utf-8") as keep:
            consoles = xen_rig.Consoles(machine["allowed"], keep)
            status = xen_rig.run(machine, dom0_image, consoles)
    wrong = verdict(status, consoles.alarms.found)
    for line in wrong:
        print(f"xen_nested: {line}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
