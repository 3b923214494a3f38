# SPDX-License-Identifier: Apache-2.0
"""xen_nested_test: a shell script in dom0 of a Xen that boots under QEMU, with as many guests as it wants.

    load("//nested-test:xen_nested.bzl", "guest", "xen_nested_test")

    xen_nested_test(
        name = "hello_test",
        guests = {"alpha": guest("pv"), "beta": guest("pvh", memory = 256)},
        script = "hello.sh",
    )

hello.sh (busybox sh; nested-test/xen/dom0_lib.sh has all commands):

    guest_create alpha beta
    check "alpha computes" guest alpha 'test $((6 * 7)) = 42'
    same "beta is PVH" PVH "$(guest beta 'cat /sys/hypervisor/guest_type')"

It passes if every check has passed, at least one was made, the script has come to its end, no guest that it has not ended itself is
gone, and no console has a line that //nested-test:alarms.py knows as an alarm (WARNING, BUG, lockdep and others).
"""

load("@rules_python//python:defs.bzl", "py_test")
load("//tools:kernels.bzl", "DEBUG_KERNEL", "KERNELS")

# AF_VSOCK over Argo, for dom0 and guests, in the order in which it is loaded.
ARGO_MODULES = [
    "vsock",
    "vmw_vsock_virtio_transport_common",
    "//backends/argo/linux:KERNEL/argo_core.ko",
    "//backends/argo/linux:KERNEL/vsock_argo_transport.ko",
]

# Lines of the debug kernel that are no alarms.
DEBUG_KERNEL_ALLOWED = {"kmemleak: Kernel memory leak detector initialized": "says that leaks will be found, not that one was"}

# What Xen's tools need in dom0, in the order in which they are loaded.
_TOOLS_MODULES = ["xen-privcmd", "xen-evtchn", "xen-gntdev", "xen-gntalloc", "xenfs"]

def guest(type, memory = 192, vcpus = 1, config = []):
    """A guest for `guests`.

    Args:
      type: "pv" or "pvh".
      memory: in MiB.
      vcpus: how many virtual CPUs.
      config: more lines for xl, such as "vif = ['script=/bin/true']".
    """
    if type not in ["pv", "pvh"]:
        fail("a guest is \"pv\" or \"pvh\", not \"%s\"" % type)
    return struct(type = type, memory = memory, vcpus = vcpus, config = config)

def _paths(targets):
    return [f.short_path for t in targets for f in t.files.to_list()]

def _with(targets, parameters):
    return [[t.files.to_list()[0].short_path, p] for t, p in zip(targets, parameters)]

def _machine_impl(ctx):
    machine = {
        "allowed": ctx.attr.allowed,
        "data": _paths(ctx.attr.data),
        "dom0_memory": ctx.attr.dom0_memory,
        "dom0_modules": _with(ctx.attr.dom0_modules, ctx.attr.dom0_parameters),
        "guest_modules": _with(ctx.attr.guest_modules, ctx.attr.guest_parameters),
        "guests": ctx.attr.guests,
        "kernel": ctx.file.kernel.short_path,
        "kernel_args": ctx.attr.kernel_args,
        "modules": _paths(ctx.attr.modules),
        "programs": [t[DefaultInfo].files_to_run.executable.short_path for t in ctx.attr.programs],
        "rig": ctx.executable.rig.short_path,
        "script": ctx.file.script.short_path if ctx.file.script else "",
        "scripts": _paths([ctx.attr.scripts]),
        "time_limit": ctx.attr.time_limit,
        "tools_modules": _paths(ctx.attr.tools_modules),
        "xen": ctx.file.xen.short_path,
        "xen_args": ctx.attr.xen_args,
        "xen_tools": _paths([ctx.attr.xen_tools]),
    }
    out = ctx.actions.declare_file(ctx.label.name + ".json")
    ctx.actions.write(out, json.encode_indent(machine) + "\n")
    attrs = ctx.attr
    files = [t[DefaultInfo].files for t in attrs.data + attrs.dom0_modules + attrs.guest_modules + attrs.modules +
                                           attrs.tools_modules + [attrs.kernel, attrs.scripts, attrs.xen, attrs.xen_tools]]
    if attrs.script:
        files.append(attrs.script.files)
    programs = [t[DefaultInfo].files_to_run.executable for t in attrs.programs]

    # Bazel 4 gives a test only the files that are runfiles.
    return [DefaultInfo(
        files = depset([out]),
        runfiles = ctx.runfiles([out, ctx.executable.rig] + programs, transitive_files = depset(transitive = files)),
    )]

_machine = rule(
    implementation = _machine_impl,
    attrs = {
        "allowed": attr.string_dict(),
        "data": attr.label_list(allow_files = True),
        "dom0_memory": attr.int(default = 640),
        "dom0_modules": attr.label_list(allow_files = True),
        "dom0_parameters": attr.string_list(),
        "guest_modules": attr.label_list(allow_files = True),
        "guest_parameters": attr.string_list(),
        "guests": attr.string_dict(doc = "Name to JSON."),
        "kernel": attr.label(mandatory = True, allow_single_file = True),
        "kernel_args": attr.string(),
        "modules": attr.label_list(allow_files = True),
        "programs": attr.label_list(),
        "rig": attr.label(default = "//nested-test/xen:rig", executable = True, cfg = "target"),
        "script": attr.label(allow_single_file = True),
        "scripts": attr.label(default = "//nested-test/xen:scripts"),
        "time_limit": attr.int(),
        "tools_modules": attr.label_list(allow_files = True),
        "xen": attr.label(default = "//nested-test/xen:xen.elf", allow_single_file = True),
        "xen_args": attr.string(),
        "xen_tools": attr.label(default = "@debian_xen//:tools"),
    },
    doc = "What boots, as a JSON file that //nested-test:xen_nested.py reads.  Made by xen_nested_machine.",
)

def _labels(modules, kernel):
    return [m.replace("KERNEL", kernel) if ":" in m else "//nested-test/kernels:%s/%s.ko" % (kernel, m) for m in modules]

def xen_nested_machine(
        name,
        guests,
        script = None,
        kernel = KERNELS[0],
        kernel_args = "",
        xen_args = "argo=1,mac-permissive=0",
        dom0_modules = [],
        guest_modules = [],
        modules = [],
        module_parameters = {},
        programs = [],
        data = [],
        allowed = {},
        dom0_memory = 640,
        time_limit = 480,
        tags = []):
    """A machine for tests and for nested-test/shell: Xen, Debian's kernel in dom0 and in the guests.

    A module is a name of //nested-test/kernels:modules.bzl, or the label of a .ko file that was built for this kernel,
    in which KERNEL stands for its name.

    Args:
      name: of the target.
      guests: name to guest(...).  None is created by itself.
      script: the test, a shell script that is sourced in dom0.
      kernel: one of //tools:kernels.bzl, for dom0 and the guests.
      kernel_args: more for the command line of all kernels.
      xen_args: more for the command line of Xen.
      dom0_modules: loaded in dom0 before the script, in this order.
      guest_modules: loaded in each guest before it is ready, in this order.
      modules: not loaded, but also in /lib/modules of every domain, as the others are.
      module_parameters: module, as it stands in the lists, to what insmod gets behind it; in dom0 and guests alike.
      programs: static executables, in /bin of every domain.
      data: files, in /data of every domain.
      allowed: regular expressions of lines that are no alarm in this test, each with the reason.
      dom0_memory: in MiB.
      time_limit: in seconds.  The boot takes 15 to 30; a busy machine makes it ten times as much.
      tags: the usual.
    """
    _machine(
        name = name,
        tags = tags,
        testonly = True,
        allowed = allowed,
        data = data,
        dom0_memory = dom0_memory,
        dom0_modules = _labels(dom0_modules, kernel),
        dom0_parameters = [module_parameters.get(m, "") for m in dom0_modules],
        guest_modules = _labels(guest_modules, kernel),
        guest_parameters = [module_parameters.get(m, "") for m in guest_modules],
        guests = {g: json.encode(guests[g]) for g in guests},
        kernel = "//nested-test/kernels:%s/vmlinux.elf" % kernel,
        kernel_args = kernel_args,
        modules = _labels(modules, kernel),
        programs = programs,
        script = script,
        time_limit = time_limit,
        tools_modules = _labels(_TOOLS_MODULES, kernel),
        xen_args = xen_args,
    )

def _on_debug_kernel(guests, time_limit, machine):
    """The arguments of the same machine with the debug kernel, which takes more memory and time."""
    machine = dict(machine)
    for modules in ["dom0_modules", "guest_modules", "modules"]:
        machine[modules] = [m.replace(":%s/" % KERNELS[0], ":%s/" % DEBUG_KERNEL) for m in machine.pop(modules, [])]
    machine["module_parameters"] = {
        module.replace(":%s/" % KERNELS[0], ":%s/" % DEBUG_KERNEL): parameters
        for module, parameters in machine.pop("module_parameters", {}).items()
    }
    machine["allowed"] = dict(machine.pop("allowed", {}), **DEBUG_KERNEL_ALLOWED)
    machine["dom0_memory"] = 2 * machine.pop("dom0_memory", 640)
    machine["guests"] = {
        name: guest(g.type, memory = 2 * g.memory, vcpus = g.vcpus, config = g.config)
        for name, g in guests.items()
    }
    machine["kernel"] = DEBUG_KERNEL
    machine["time_limit"] = 4 * time_limit
    return machine

def xen_nested_test(name, guests, script, kernel = KERNELS[0], time_limit = 480, tags = [], **machine):
    """Boots a machine and runs a script in its dom0.

    NAME_on_debug_kernel is the same test on the debug kernel of //tools:kernels.bzl, tagged "manual" and "debug-kernel".

    Args:
      name: of the test.  `NAME_machine` is what it boots, for nested-test/shell and nested-test/run.
      guests: as for xen_nested_machine, which documents the rest, too.
      script: the test.
      kernel: one of //tools:kernels.bzl.
      time_limit: in seconds.
      tags: more tags; "vm" is always one.
      **machine: of xen_nested_machine.
    """
    _xen_nested_test(name, guests = guests, script = script, kernel = kernel, time_limit = time_limit, tags = tags, **machine)
    if kernel == KERNELS[0]:
        _xen_nested_test(
            name + "_on_debug_kernel",
            script = script,
            tags = tags + ["manual", "debug-kernel"],
            **_on_debug_kernel(guests, time_limit, machine)
        )

def _xen_nested_test(name, time_limit, tags, **machine):
    xen_nested_machine(name = name + "_machine", time_limit = time_limit, tags = [t for t in tags if t == "manual"], **machine)
    py_test(
        name = name,
        # The time limit of the machine is the one that should strike: it leaves the consoles behind.
        timeout = "long" if time_limit < 800 else "eternal",
        srcs = ["//nested-test:xen_nested.py"],
        main = "//nested-test:xen_nested.py",
        args = ["$(rootpath :%s_machine)" % name],
        data = [name + "_machine"],
        tags = ["vm", "cpu:2"] + tags,
        deps = ["//nested-test:xen_rig"],
    )
