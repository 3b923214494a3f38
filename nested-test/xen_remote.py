# SPDX-License-Identifier: Apache-2.0
"""Runs the script of an xen_nested_test in dom0 of a real Xen host, over ssh.

What goes there, as one tar stream, is a folder laid out as the root of our own dom0, without what the host has itself: kernel and
image of the guests, programs, data, modules, and the scripts; remote.sh does the rest.
"""

import gzip
import io
import os
import re
import shlex
import subprocess
import sys
import tarfile
import threading

import xen_rig

TARGET = re.compile(r"^ssh:((?:[^@:/]+@)?[^@:/]+)(?::(\d+))?$")
# The folder is remote.sh's to remove, once it is whole.
RECEIVE = 'T=$(mktemp -d /tmp/argosy.XXXXXX) && if tar -xz -C "$T"; then exec sh "$T/lib/remote.sh"; else rm -rf "$T"; exit 1; fi'


def ssh_command(target):
    match = TARGET.match(target)
    if not match:
        print(f"xen_nested: '{target}' is no target; it has the form ssh:root@host or ssh:root@host:port", file=sys.stderr)
        sys.exit(2)
    host, port = match.groups()
    # As Git has GIT_SSH_COMMAND: options for one run.
    command = shlex.split(os.environ.get("ARGOSY_SSH_COMMAND", "ssh"))
    return [*command, *(["-p", port] if port else []), host, RECEIVE]


def _payload(machine, guest_image):
    """Name in the folder to file, or to bytes."""
    files = {
        "bin/rig": machine["rig"],
        "boot/vmlinux": machine["kernel"],
        "boot/guest.cpio": guest_image,
        "test/script": machine["script"],
    }
    for name, script in {
        "bin/guest": "guest.sh",
        "lib/rig.sh": "dom0_lib.sh",
        "lib/test_main.sh": "test_main.sh",
        "lib/remote.sh": "remote.sh",
    }.items():
        files[name] = xen_rig.script_path(machine, script)
    for path in machine["programs"]:
        files["bin/" + os.path.basename(path)] = path
    for path in machine["data"]:
        files["data/" + os.path.basename(path)] = path
    for path in xen_rig.module_paths(machine):
        files["lib/modules/" + os.path.basename(path)] = path
    files["etc/modules"] = xen_rig.module_listing(machine["dom0_modules"])
    for name in machine["guests"]:
        config = xen_rig.guest_config(machine, name, "@HERE@/boot/vmlinux", "@HERE@/boot/guest.cpio")
        files[f"guests/{name}.cfg"] = config.encode()
    return files


def _send(files, stream):
    # One that has ended does not read to the end; its exit status says why.
    try:
        with stream, gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=1) as packed, tarfile.open(fileobj=packed, mode="w|") as tar:
            for name, content in files.items():
                if not isinstance(content, bytes):
                    with open(content, "rb") as f:
                        content = f.read()
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(content), 0o755 if name.startswith("bin/") else 0o644
                tar.addfile(info, io.BytesIO(content))
    except BrokenPipeError:
        pass


def boot(machine, target, folder, keep):
    """What is wrong with the run, line by line."""
    command = ssh_command(target)
    guest_image = os.path.join(folder, "guest.cpio")
    xen_rig.build_guest(machine, guest_image)
    consoles = xen_rig.Consoles(machine["allowed"], keep)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as ssh:
        struck = threading.Event()

        def strike():
            struck.set()
            ssh.kill()

        limit = threading.Timer(machine["time_limit"], strike)
        sender = threading.Thread(target=_send, args=(_payload(machine, guest_image), ssh.stdin))
        limit.start()
        sender.start()
        for line in ssh.stdout:
            consoles.raw_line("com2", line)
        sender.join()
        status = ssh.wait()
        limit.cancel()
    return xen_rig.verdict(None if struck.is_set() else status, consoles, passed=0, whose="the script's or ssh's")
