# SPDX-License-Identifier: Apache-2.0
"""Same label as in rules_cc 0.1 and newer."""

load("//cc:defs.bzl", _rule = "cc_binary")

cc_binary = _rule
