# SPDX-License-Identifier: Apache-2.0
"""Offline stand-in for rules_python."""

def py_library(**attrs):
    native.py_library(**attrs)
