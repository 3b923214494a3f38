# SPDX-License-Identifier: Apache-2.0
"""Offline stand-in for rules_shell."""

def sh_library(**attrs):
    native.sh_library(**attrs)
