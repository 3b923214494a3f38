# SPDX-License-Identifier: Apache-2.0
"""Fuzz targets: one libFuzzer binary and one ordinary test that replays its corpus."""

load("@rules_cc//cc:defs.bzl", "cc_binary", "cc_test")

def fuzz_target(name, srcs, deps, corpus):
    """Makes NAME (manual; build it with --config=fuzz) and NAME_corpus_test (any compiler).

    Args:
      name: name of the binary.
      srcs: sources, one of which defines LLVMFuzzerTestOneInput().
      deps: libraries.
      corpus: the committed inputs, as a list of files: glob(["corpus/WHAT/*"]) for a target
        WHAT_fuzz, so that tools/fuzz finds it.
    """
    cc_binary(
        name = name,
        testonly = True,
        srcs = srcs,
        linkopts = ["-fsanitize=fuzzer"],
        tags = [
            "fuzz",
            "manual",
        ],
        deps = deps,
    )
    native.filegroup(
        name = name + "_corpus",
        srcs = corpus,
    )
    cc_test(
        name = name + "_corpus_test",
        srcs = srcs + ["//tools:fuzz_replay_main.cc"],
        args = ["$(rootpaths :%s_corpus)" % name],
        data = [":%s_corpus" % name],
        deps = deps,
    )
