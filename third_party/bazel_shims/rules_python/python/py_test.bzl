# SPDX-License-Identifier: Apache-2.0
"""Offline stand-in for rules_python."""

def py_test(**attrs):
    native.py_test(**attrs)
