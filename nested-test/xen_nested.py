# SPDX-License-Identifier: Apache-2.0
"""Runs an xen_nested_test.  Exit 0 if it passed, 1 if not or if something is missing, 2 for a wrong command line."""

import argparse
import os
import sys
import tempfile

import xen_remote
import xen_rig


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("machine", help="what an xen_nested_machine target makes")
    parser.add_argument("--shell", action="store_true", help="a shell in dom0 instead of the test")
    parser.add_argument("--target", metavar="ssh:root@HOST[:PORT]", help="on this Xen host instead of an emulated machine")
    args = parser.parse_args()
    machine = xen_rig.load(args.machine)
    with tempfile.TemporaryDirectory(dir=os.environ.get("TEST_TMPDIR")) as folder:
        keep_in = os.environ.get("TEST_UNDECLARED_OUTPUTS_DIR", folder)
        console = os.path.join(keep_in, "console.log")
        if args.shell:
            print(f"xen_nested: the consoles of Xen and of dom0's kernel: {console}", flush=True)
            sys.exit(xen_rig.shell(machine, folder, console))
        with open(console, "w", encoding="utf-8") as keep:
            wrong = xen_remote.boot(machine, args.target, folder, keep) if args.target else xen_rig.boot(machine, folder, keep)
    for line in wrong:
        print(f"xen_nested: {line}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
