# SPDX-License-Identifier: Apache-2.0
"""Offline stand-in for @rules_cc//cc:defs.bzl (Bazel 4: the rules are native)."""

def _native_tag(attrs):
    # Bazel <= 4 refuses toolchain rules of @bazel_tools without this tag when
    # --incompatible_load_cc_rules_from_bzl is on; it is harmless otherwise.
    attrs["tags"] = (attrs.get("tags") or []) + ["__CC_RULES_MIGRATION_DO_NOT_USE_WILL_BREAK__"]
    return attrs

def cc_binary(**attrs):
    native.cc_binary(**_native_tag(attrs))

def cc_import(**attrs):
    native.cc_import(**_native_tag(attrs))

def cc_library(**attrs):
    native.cc_library(**_native_tag(attrs))

def cc_proto_library(**attrs):
    native.cc_proto_library(**_native_tag(attrs))

def cc_test(**attrs):
    native.cc_test(**_native_tag(attrs))

def cc_toolchain(**attrs):
    native.cc_toolchain(**_native_tag(attrs))

def cc_toolchain_suite(**attrs):
    native.cc_toolchain_suite(**_native_tag(attrs))

def objc_library(**attrs):
    native.objc_library(**_native_tag(attrs))
