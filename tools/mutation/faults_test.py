# SPDX-License-Identifier: Apache-2.0
"""The faults fit the tree; nothing is built.  It reads the source tree itself, as lint_test does."""

import os
import sys
import unittest

# Bazel's runfiles lead to the source tree: no compiled modules there.
sys.dont_write_bytecode = True
import faults
import workbench

ROOT = os.path.dirname(os.path.realpath("WORKSPACE"))

CODE = """\
#define LIMIT 7
static_assert(sizeof(x) == 44);
// a < b
int F(const std::vector<uint8_t>& v, int b) {
  ++counters_.calls;
  peer->count.busy++;
  const char* s = "a + b; 1";
  if (!Ok(v) && b > 0x10) return -EINVAL;
  for (int i = 0; i < b; ++i) Use(
      i);
  return b;
}
"""


class NamedTest(unittest.TestCase):
    def test_every_fault_fits_the_tree_exactly_once(self):
        named, wrong = faults.named(ROOT)
        self.assertFalse(wrong, "mend tools/mutation/named.txt:\n  " + "\n  ".join(wrong))
        self.assertGreaterEqual(len(named), 25)
        for fault in named:
            self.assertNotEqual(fault.text, faults.read(ROOT, fault.path), fault.name)

    def test_what_does_not_fit_is_named(self):
        path = "transport/packet/wire.h"
        text = "\n".join(
            [
                "== gone", "what", path, "-no such line", "+", "",
                "== thrice", "what", path, "-", "",
                "== same", "what", path, "-#define VSOCK_HEADER_SIZE 44u", "+#define VSOCK_HEADER_SIZE 44u", "",
                "== no-file", "what", "no/such/file.c", "-x", "",
                "== part-of-a-line", "what", path, "-#define VSOCK_HEADER_SIZE", "",
                "== fits", "what", path, "-#define VSOCK_HEADER_SIZE 44u", "+#define VSOCK_HEADER_SIZE 45u", "",
                "== fits", "what", path, "-#define VSOCK_TYPE_DGRAM 3u", "",
            ]
        )  # fmt: skip
        named, wrong = faults.parse_named(ROOT, text, "a test")
        self.assertEqual([f.name for f in named], ["fits"])
        self.assertIn("#define VSOCK_HEADER_SIZE 45u\n", named[0].text)
        self.assertEqual([w.split(":")[0] for w in wrong], ["gone", "thrice", "same", "no-file", "part-of-a-line", "fits"])

    def test_the_documentation_lists_them(self):
        text = faults.read(ROOT, "docs/testing.md")
        named, _ = faults.named(ROOT)
        missing = [fault.name for fault in named if "| `%s` |" % fault.name not in text]
        self.assertFalse(missing, "put the tables of tools/mutants --markdown into docs/testing.md")


class GeneratedTest(unittest.TestCase):
    def test_a_seed_always_gives_the_same(self):
        one = faults.generate(ROOT, 1)
        self.assertEqual(one, faults.generate(ROOT, 1))
        self.assertGreater(len(one), 500)
        self.assertEqual(len(one), len({f.name for f in one}))
        self.assertNotEqual([f.name for f in one[:100]], [f.name for f in faults.generate(ROOT, 2)[:100]])

    def test_each_changes_one_place_and_moves_no_line(self):
        sources = {path: faults.read(ROOT, path) for path in faults.GENERATED_IN}
        for fault in faults.generate(ROOT, 1):
            source = sources[fault.path]
            self.assertNotEqual(fault.text, source)
            self.assertEqual(fault.text.count("\n"), source.count("\n"), fault)
            self.assertEqual(fault.text.splitlines()[: fault.line - 1], source.splitlines()[: fault.line - 1], fault)

    def test_they_are_put_into_code_only(self):
        found = [(old, new) for _, old, new in faults.sites(CODE)]
        self.assertEqual(
            found,
            [
                ('const char* s = "a + b; 1";', [";"]),
                ("if (!Ok(v) && b > 0x10) return -EINVAL;", [";"]),
                ("!", [""]),
                ("&&", ["||"]),
                (">", [">="]),
                ("0x10", ["17", "15", "0"]),
                ("for (int i = 0; i < b; ++i) Use(\n      i);", ["\n;"]),
                ("0", ["1"]),
                ("<", ["<="]),
                ("++", ["--"]),
            ],
        )


class BlameTest(unittest.TestCase):
    def test_it_names_the_test(self):
        program = workbench.Program("unit tests", (), ())
        begun = "[ RUN      ] A.One\n[       OK ] A.One (0 ms)\n[ RUN      ] A.Two\n"
        self.assertEqual(workbench.blame(program, 1, begun + "[  FAILED  ] A.Two (0 ms)\n[ RUN      ] A.Three\n"), "A.Two")
        self.assertEqual(workbench.blame(program, -6, begun), "A.Two (crash)")
        self.assertEqual(workbench.blame(program, None, begun), "A.Two (time-out)")
        self.assertEqual(workbench.blame(program, 1, "1 seed, 1 finding\n"), "unit tests")


if __name__ == "__main__":
    unittest.main()
