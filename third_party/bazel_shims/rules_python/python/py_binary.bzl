# SPDX-License-Identifier: Apache-2.0
"""Offline stand-in for rules_python."""

def py_binary(**attrs):
    native.py_binary(**attrs)
