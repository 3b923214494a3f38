# SPDX-License-Identifier: Apache-2.0
"""linkopts of programs that run without their libraries: in guests, and where users copy them."""

# The runtimes of sanitizers cannot be linked into a static program.
STATIC = select({
    "//tools/sanitizers:asan": [],
    "//tools/sanitizers:ubsan": [],
    "//tools/sanitizers:tsan": [],
    "//conditions:default": ["-static"],
})
