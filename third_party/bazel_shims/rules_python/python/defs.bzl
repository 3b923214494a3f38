# SPDX-License-Identifier: Apache-2.0
"""Offline stand-in for rules_python."""

def py_binary(**attrs):
    native.py_binary(**attrs)

def py_library(**attrs):
    native.py_library(**attrs)

def py_test(**attrs):
    native.py_test(**attrs)
