# SPDX-License-Identifier: Apache-2.0
"""@com_google_absl made from Debian's libabsl-dev, with upstream's labels.

Headers are symlinked from /usr/include/absl, static libraries from the
multiarch directory.  The dependency graph (needed for the link order) comes
from the installed pkg-config files, so nothing here names a version.
"""

# upstream package -> {upstream target: pkg-config module}
_TARGETS = {
    "absl/algorithm": {"algorithm": "absl_algorithm", "container": "absl_algorithm_container"},
    "absl/base": {
        "base": "absl_base",
        "config": "absl_config",
        "core_headers": "absl_core_headers",
        "dynamic_annotations": "absl_dynamic_annotations",
        "log_severity": "absl_log_severity",
    },
    "absl/cleanup": {"cleanup": "absl_cleanup"},
    "absl/container": {k: "absl_" + k for k in [
        "btree",
        "fixed_array",
        "flat_hash_map",
        "flat_hash_set",
        "inlined_vector",
        "node_hash_map",
        "node_hash_set",
    ]},
    "absl/debugging": {k: "absl_" + k for k in [
        "failure_signal_handler",
        "leak_check",
        "stacktrace",
        "symbolize",
    ]},
    "absl/flags": {
        "commandlineflag": "absl_flags_commandlineflag",
        "config": "absl_flags_config",
        "flag": "absl_flags",
        "marshalling": "absl_flags_marshalling",
        "parse": "absl_flags_parse",
        "reflection": "absl_flags_reflection",
        "usage": "absl_flags_usage",
    },
    "absl/functional": {k: "absl_" + k for k in ["any_invocable", "bind_front", "function_ref"]},
    "absl/hash": {"hash": "absl_hash"},
    "absl/log": {k: "absl_" + k for k in ["absl_check", "absl_log", "check", "globals", "initialize", "log"]},
    "absl/memory": {"memory": "absl_memory"},
    "absl/meta": {"type_traits": "absl_type_traits"},
    "absl/numeric": {"bits": "absl_bits", "int128": "absl_int128"},
    "absl/random": {
        "bit_gen_ref": "absl_random_bit_gen_ref",
        "distributions": "absl_random_distributions",
        "random": "absl_random_random",
    },
    "absl/status": {"status": "absl_status", "statusor": "absl_statusor"},
    "absl/strings": {
        "cord": "absl_cord",
        "str_format": "absl_str_format",
        "strings": "absl_strings",
    },
    "absl/synchronization": {"synchronization": "absl_synchronization"},
    "absl/time": {"time": "absl_time"},
    "absl/types": {k: "absl_" + k for k in ["any", "compare", "optional", "span", "variant"]},
    "absl/utility": {"utility": "absl_utility"},
}

_LIBDIRS = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib",
]

def _parse_pc(text):
    """Returns (required absl modules, extra link flags) of a .pc file."""
    requires = []
    linkopts = []
    for line in text.split("\n"):
        if line.startswith("Requires:"):
            for item in line[len("Requires:"):].split(","):
                name = item.strip().split(" ")[0]
                if name.startswith("absl_"):
                    requires.append(name)
        elif line.startswith("Libs:"):
            for flag in line[len("Libs:"):].strip().split(" "):
                if flag in ("-lrt", "-pthread", "-ldl"):
                    linkopts.append(flag)
    return requires, linkopts

def _from_source(rctx):
    """Symlinks an unpacked abseil tree; its own BUILD.bazel files are used."""
    root = rctx.path(Label("//:WORKSPACE")).dirname
    src = rctx.path(str(root) + "/" + rctx.attr.source_dir)
    if not src.exists:
        fail("%s is missing: run tools/setup, or use --repo_env=ABSL=system" % src)
    for p in src.readdir():
        rctx.symlink(p, p.basename)

def _debian_absl_impl(rctx):
    if rctx.os.environ.get("ABSL", "source") == "source":
        _from_source(rctx)
        return
    libdir = None
    for d in _LIBDIRS:
        if rctx.path(d + "/pkgconfig/absl_base.pc").exists:
            libdir = d
            break
    if not libdir:
        fail("libabsl-dev is not installed: run 'apt-get install libabsl-dev' (or tools/setup)")

    rctx.symlink("/usr/include/absl", "include/absl")
    root = [
        "package(default_visibility = [\"//:__subpackages__\"])",
        "cc_library(name = \"headers\", hdrs = glob([\"include/absl/**/*.h\", \"include/absl/**/*.inc\"]), includes = [\"include\"], linkopts = [\"-pthread\"])",
    ]
    known = {}
    for p in rctx.path(libdir + "/pkgconfig").readdir():
        base = p.basename
        if not (base.startswith("absl_") and base.endswith(".pc")):
            continue
        name = base[:-len(".pc")]
        known[name] = True
        requires, linkopts = _parse_pc(rctx.read(p))
        lib = libdir + "/lib" + name + ".a"
        srcs = []
        if rctx.path(lib).exists:
            rctx.symlink(lib, "lib/lib" + name + ".a")
            srcs = ["lib/lib" + name + ".a"]
        root.append("cc_library(name = %r, srcs = %r, linkopts = %r, deps = %r)" % (
            name,
            srcs,
            linkopts,
            [":headers"] + [":" + r for r in requires if r != name],
        ))
    rctx.file("BUILD.bazel", "\n".join(root) + "\n")
    rctx.file("WORKSPACE", "workspace(name = %r)\n" % rctx.name)

    for package, targets in _TARGETS.items():
        lines = ["package(default_visibility = [\"//visibility:public\"])"]
        for target, module in targets.items():
            if module in known:
                lines.append("alias(name = %r, actual = \"//:%s\")" % (target, module))
        rctx.file(package + "/BUILD.bazel", "\n".join(lines) + "\n")

debian_absl = repository_rule(
    implementation = _debian_absl_impl,
    attrs = {"source_dir": attr.string(default = ".deps/abseil")},
    environ = ["ABSL"],
    local = True,  # look again whenever the Bazel server starts
    doc = "Debian's libabsl-dev as @com_google_absl.",
)
