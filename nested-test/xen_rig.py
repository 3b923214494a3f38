# SPDX-License-Identifier: Apache-2.0
"""Boots the machine that an xen_machine target describes: Xen, dom0 with the tools and guests' images, under QEMU.

Two serial lines: com1 has what Xen and dom0's kernel say, com2 what the script in dom0 prints and, line by line with their
names, the guests' consoles.
"""

import json
import os
import re
import selectors
import socket
import subprocess
import sys
import threading
import time

from alarms import Alarms
from initramfs import Initramfs
from machine import EXIT_PORT, FAILED, PASSED, PASSED_STATUS, add_busybox, needed, qemu

XEN_ARGS = "console=com1 com1=115200,8n1 dom0_max_vcpus=1 loglvl=all guest_loglvl=all"
# SMAP, which dom0 in PV does not survive under QEMU 7.2, is for PVH guests only.
XEN_CPU_ARGS = "smap=hvm smep=hvm"
SOFTWARE = ["-accel", "tcg,thread=multi", "-cpu", "qemu64,+svm,+npt,+rdrand,+smap,+smep"]
KVM = ["-accel", "kvm", "-cpu", "host"]
KVM_LINE, KVM_SECONDS = b"(XEN) Brought up ", 20  # what Xen says when it has most of its start behind it
# A machine that is emulated, on a busy host, may well be still for some seconds.
KERNEL_ARGS = "console=hvc0 panic=-1 oops=panic watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=120"
XEN_MEMORY = 256  # MiB, for Xen itself

# What a program writes over its own line, and how it colours it.
OVERWRITTEN = re.compile(r"^.*\r|\x1b\[[0-9;]*[A-Za-z]")
GUEST_LINE = re.compile(r"^([\w.-]+)\| (.*)$")


def load(path):
    with open(path, encoding="utf-8") as f:
        machine = json.load(f)
    machine["guests"] = {name: json.loads(guest) for name, guest in machine["guests"].items()}
    needed(machine["xen"], "Xen's source package is not there")
    needed(machine["kernel"], "Debian's kernel is not there")
    if not machine["xen_tools"]:
        sys.exit("Debian's Xen tools are not there; run: tools/setup --full")
    return machine


def _read(path):
    with open(path, "rb") as f:
        return f.read()


def script_path(machine, name):
    return next(path for path in machine["scripts"] if os.path.basename(path) == name)


def module_listing(modules):
    """What a domain's process 1 loads, a line for each."""
    return "".join(f"{os.path.basename(path)} {parameters}\n" for path, parameters in modules).encode()


def module_paths(machine):
    """The modules that every domain has."""
    every = [path for path, _ in machine["dom0_modules"] + machine["guest_modules"]] + machine["modules"]
    return [needed(path, f"there is no {os.path.basename(path)} for this kernel") for path in dict.fromkeys(every)]


def _add_common(ramfs, machine, modules, init):
    add_busybox(ramfs)
    ramfs.file("init", _read(script_path(machine, init)), executable=True)
    # What the kernel runs when xl asks for an orderly end: busybox, which tells process 1.
    for name in ["poweroff", "reboot"]:
        ramfs.symlink("sbin/" + name, "../bin/busybox")
    ramfs.file("etc/modules", module_listing(modules))
    for path in module_paths(machine):
        ramfs.copy("lib/modules/" + os.path.basename(path), path)
    ramfs.copy("bin/rig", machine["rig"])
    for path in machine["programs"]:
        ramfs.copy("bin/" + os.path.basename(path), path)
    for path in machine["data"]:
        ramfs.copy("data/" + os.path.basename(path), path)


def build_guest(machine, path):
    """The image of every guest."""
    ramfs = Initramfs()
    _add_common(ramfs, machine, machine["guest_modules"], "domu_init.sh")
    ramfs.write(path)


def guest_config(machine, name, kernel, ramdisk):
    guest = machine["guests"][name]
    lines = [
        f'name = "{name}"',
        f'type = "{guest["type"]}"',
        f'kernel = "{kernel}"',
        f'ramdisk = "{ramdisk}"',
        f"memory = {guest['memory']}",
        f"vcpus = {guest['vcpus']}",
        f'extra = "{KERNEL_ARGS} {machine["kernel_args"]}"',
        'on_crash = "destroy"',
        'on_reboot = "restart"',
        *guest["config"],
    ]
    return "\n".join(lines) + "\n"


def add_programs(ramfs, programs, folders):
    """Programs by their names in the image, with the libraries that they need: from these folders, else from this machine."""
    environment = {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(sorted(folders))}
    # glibc loads libgcc_s when a thread is cancelled; ldd does not know.
    libraries = {"libgcc_s.so.1": "/lib/x86_64-linux-gnu/libgcc_s.so.1"}
    for name, path in programs.items():
        ramfs.copy(name, path)
        ldd = subprocess.run(["ldd", path], env=environment, check=True, capture_output=True, text=True).stdout
        for line in ldd.splitlines():
            if "not found" in line:
                sys.exit(f"xen_rig: {os.path.basename(path)} lacks a library: {line.strip()}; remove .deps/xen and run: tools/setup --full")
            match = re.search(r"(?:=> )?([\w.]*/\S+) \(0x", line)
            if match:
                libraries[os.path.basename(match[1])] = match[1]
    loader = libraries.pop("ld-linux-x86-64.so.2")
    names = {"lib64/ld-linux-x86-64.so.2": loader}
    names.update({"lib/x86_64-linux-gnu/" + library: path for library, path in libraries.items()})
    for name, path in names.items():
        if not ramfs.has(name):
            ramfs.copy(name, path)


def add_xen_tools(ramfs, tools):
    """Xen's programs where Debian has them."""
    names = {path[path.index("/tools/usr/") + len("/tools/") :]: path for path in tools}
    folders = {os.path.dirname(path) for name, path in names.items() if ".so" in os.path.basename(name)}
    programs = {name: path for name, path in names.items() if ".so" not in os.path.basename(name)}
    add_programs(ramfs, programs, folders)
    xen = next(name for name in programs if name.endswith("/xl"))
    ramfs.symlink("usr/lib/xen", os.path.basename(os.path.dirname(os.path.dirname(xen))))
    ramfs.file("etc/xen/xl.conf", b'autoballoon="off"\n')


def build_dom0(machine, path, guest_image, more=None):
    """`more` may add to the Initramfs."""
    ramfs = Initramfs()
    _add_common(ramfs, machine, machine["dom0_modules"], "dom0_init.sh")
    add_xen_tools(ramfs, machine["xen_tools"])
    for module in machine["tools_modules"]:
        needed(module, f"there is no {os.path.basename(module)} for this kernel")
        if not ramfs.has("lib/modules/" + os.path.basename(module)):
            ramfs.copy("lib/modules/" + os.path.basename(module), module)
    ramfs.folder("run")
    environment = f"EXIT_PORT={EXIT_PORT:#x} EXIT_PASSED={PASSED:02x} EXIT_FAILED={FAILED:02x}\n"
    ramfs.file("etc/rig.env", environment.encode())
    ramfs.file("bin/guest", _read(script_path(machine, "guest.sh")), executable=True)
    ramfs.copy("lib/rig.sh", script_path(machine, "dom0_lib.sh"))
    ramfs.copy("lib/test_main.sh", script_path(machine, "test_main.sh"))
    if machine["script"]:
        ramfs.copy("test/script", machine["script"])
    ramfs.copy("lib/shell.sh", script_path(machine, "shell.sh"))
    ramfs.copy("boot/vmlinux", machine["kernel"])
    ramfs.copy("boot/guest.cpio", guest_image)
    for name, guest in machine["guests"].items():
        config = guest_config(machine, name, "/boot/vmlinux", "/boot/guest.cpio")
        if guest["type"] == "pvh":
            # A PVH guest under QEMU 7.2 does not always survive a move between its CPUs (docs/nested-xen.md).
            config += 'cpus = "1"\n'
        ramfs.file(f"guests/{name}.cfg", config.encode())
    if more:
        more(ramfs)
    ramfs.write(path)


def _kvm_boots(machine):
    """Whether Xen itself comes up with KVM: some machines have a /dev/kvm that cannot do it."""
    command = [qemu(), *KVM, "-smp", "2", "-m", "512", "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"]
    command += ["-kernel", machine["xen"], "-append", XEN_ARGS]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        limit = threading.Timer(KVM_SECONDS, process.kill)
        limit.start()
        try:
            return any(KVM_LINE in line for line in process.stdout)
        finally:
            limit.cancel()
            process.kill()


def acceleration(machine):
    """Software, unless KVM is asked for by ARGOSY_XEN_ACCEL=kvm and shows that it can."""
    if os.environ.get("ARGOSY_XEN_ACCEL") != "kvm":
        return SOFTWARE
    works = _kvm_boots(machine)
    print("xen_nested: KVM boots Xen and is used" if works else "xen_nested: KVM does not boot Xen here; software is used", flush=True)
    return KVM if works else SOFTWARE


def qemu_command(machine, dom0_image):
    memory = XEN_MEMORY + machine["dom0_memory"] + sum(guest["memory"] + 32 for guest in machine["guests"].values())
    dom0 = f"dom0_mem={machine['dom0_memory']}M,max:{machine['dom0_memory']}M"
    # In -initrd a comma separates modules; a doubled one is a comma.
    kernel_args = f"{KERNEL_ARGS} {machine['kernel_args']}".replace(",", ",,")
    return [
        *[qemu(), *acceleration(machine), "-smp", "2", "-m", str(memory)],
        *["-nodefaults", "-display", "none", "-no-reboot"],
        *["-device", f"isa-debug-exit,iobase={EXIT_PORT:#x},iosize=4"],
        *["-kernel", machine["xen"], "-append", f"{XEN_ARGS} {XEN_CPU_ARGS} {dom0} {machine['xen_args']}"],
        *["-initrd", f"{machine['kernel']} {kernel_args},{dom0_image}"],
    ]


class Consoles:
    """Shows lines as they come, with their source; keeps them in a file; looks for alarms and for checks that fail."""

    def __init__(self, allowed, keep):
        self.alarms = Alarms(allowed)
        self.failures = []
        self._remark = None
        self._keep = keep
        self._start = time.monotonic()

    def raw_line(self, port, line):
        text = OVERWRITTEN.sub("", line.decode(errors="replace").rstrip("\r\n"))
        if text:
            self.line(port, text)

    def line(self, port, line):
        source, text = "", line
        if port == "com1":
            source = "xen" if line.startswith("(XEN)") else "dom0"
        else:
            match = GUEST_LINE.match(line)
            if match:
                source, text = match.groups()
        # The rig's own lines quote commands.
        if source and not text.startswith("rig: "):
            self.alarms.look(source, text)
        if not source:
            self._look_at_check(text)
        out = f"{time.monotonic() - self._start:6.1f} {source + '| ' if source else ''}{text}\n"
        sys.stdout.write(out)
        sys.stdout.flush()
        self._keep.write(out)

    def _look_at_check(self, text):
        if text.startswith(("not ok ", "Bail out!")):
            self.failures.append(f"{text} {self._remark or ''}".rstrip())
        self._remark = text if text.startswith("# ") else None


def run(machine, dom0_image, consoles, devices=()):
    """QEMU's exit status, or None if the time limit struck.  `devices` are more arguments of QEMU."""
    ports, command = {}, [*qemu_command(machine, dom0_image), *devices]
    for name in ["com1", "com2"]:
        ours, theirs = socket.socketpair()
        ports[name] = (ours, theirs)
        command += ["-chardev", f"socket,id={name},fd={theirs.fileno()}", "-serial", f"chardev:{name}"]
    deadline = time.monotonic() + machine["time_limit"]
    fds = [theirs.fileno() for _, theirs in ports.values()]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=fds) as process, selectors.DefaultSelector() as selector:
        pending = {}
        for name, (ours, theirs) in ports.items():
            theirs.close()
            pending[name] = b""
            selector.register(ours, selectors.EVENT_READ, name)
        try:
            while selector.get_map():
                left = deadline - time.monotonic()
                if left <= 0:
                    consoles.line("com2", f"xen_nested: no end within {machine['time_limit']} seconds")
                    process.kill()
                    return None
                for key, _ in selector.select(left):
                    more = key.fileobj.recv(65536)
                    *lines, pending[key.data] = (pending[key.data] + more).split(b"\n")
                    if not more:
                        selector.unregister(key.fileobj)
                        lines.append(pending[key.data])
                    for line in lines:
                        consoles.raw_line(key.data, line)
            return process.wait()
        finally:
            process.kill()
            for ours, _ in ports.values():
                ours.close()


def verdict(status, consoles, passed=PASSED_STATUS, whose="QEMU's"):
    """What is wrong with a run, line by line; empty if it passed."""
    wrong = []
    if status is None:
        wrong.append("the time limit struck")
    elif status != passed:
        wrong.append(f"the script did not pass ({whose} exit status: {status})")
    return wrong + consoles.failures + [f"alarm on a console: {line}" for line in consoles.alarms.found]


def build_images(machine, folder, more=None):
    """The image of dom0, which contains the guests'."""
    guest_image, dom0_image = os.path.join(folder, "guest.cpio"), os.path.join(folder, "dom0.cpio")
    build_guest(machine, guest_image)
    build_dom0(machine, dom0_image, guest_image, more)
    return dom0_image


def shell(machine, folder, console_path):
    """A shell in dom0 on our terminal; the exit status of a program."""
    dom0_image = build_images({**machine, "script": ""}, folder)
    serial = ["-serial", f"file:{console_path}", "-serial", "mon:stdio"]
    status = subprocess.run(qemu_command(machine, dom0_image) + serial, check=False).returncode
    return 0 if status in (0, PASSED_STATUS) else 1


def boot(machine, folder, keep):
    """Makes the images in a folder, boots, writes the consoles to the file `keep` too; what is wrong, line by line."""
    dom0_image = build_images(machine, folder)
    consoles = Consoles(machine["allowed"], keep)
    status = run(machine, dom0_image, consoles)
    return verdict(status, consoles)
