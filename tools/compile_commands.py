#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes compile_commands.json from 'bazel aquery'.  Usage: tools/compile_commands.py [TARGETS]"""
import json
import os
import subprocess
import sys

bazel = os.environ.get("BAZEL", "bazel").split()
targets = " + ".join(sys.argv[1:]) or "//..."
root = subprocess.check_output(bazel + ["info", "execution_root"], text=True, stderr=subprocess.DEVNULL).strip()
out = subprocess.check_output(
    bazel + ["aquery", "--output=jsonproto", "--include_artifacts=false",
             "mnemonic(CppCompile, %s)" % targets], text=True, stderr=subprocess.DEVNULL)
commands = []
for action in json.loads(out).get("actions", []):
    args = action["arguments"]
    source = args[args.index("-c") + 1]
    if source.startswith("external/"):
        continue
    commands.append({"directory": root, "file": source, "arguments": args})
with open("compile_commands.json", "w") as f:
    json.dump(commands, f, indent=1)
print("%d commands" % len(commands))
