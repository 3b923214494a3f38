# SPDX-License-Identifier: Apache-2.0
"""Checks what every file of the tree must keep to.  It reads the source tree itself, not copies of declared inputs."""

import fnmatch
import os
import re
import runpy
import subprocess
import unittest

ROOT = os.path.dirname(os.path.realpath("WORKSPACE"))

FOLDERS = {".ci", "backends", "docs", "hatch", "nested-test", "sim", "third_party", "tools", "transport"}
CODE = (".c", ".cc", ".h")
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


def ignored_at_root():
    """The patterns of .gitignore, all of which are anchored at the root."""
    with open(os.path.join(ROOT, ".gitignore")) as f:
        return [line.strip().strip("/") for line in f if line.startswith("/")]


def tree():
    """Paths of all files under ROOT, relative to it, without what Git ignores."""
    # What somebody left lying in a checkout is not the project's.
    git = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if git.returncode == 0 and git.stdout:
        yield from (path for path in git.stdout.decode().split("\0") if path and os.path.exists(os.path.join(ROOT, path)))
        return
    ignored = [".git", *ignored_at_root()]
    for folder, subfolders, files in os.walk(ROOT):
        if folder == ROOT:
            keep = lambda name: not any(fnmatch.fnmatch(name, pattern) for pattern in ignored)
            subfolders[:] = filter(keep, subfolders)
            files = filter(keep, files)
        subfolders[:] = [name for name in subfolders if name != "__pycache__"]
        for name in files:
            yield os.path.relpath(os.path.join(folder, name), ROOT)


class LintTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.files = sorted(tree())
        # A corpus holds bytes, not text.
        cls.texts = {}
        for path in cls.files:
            if "/corpus/" not in path:
                with open(os.path.join(ROOT, path), encoding="utf-8", errors="replace") as f:
                    cls.texts[path] = f.read()

    def check(self, what, bad):
        self.assertFalse(bad, "\n%s:\n  %s" % (what, "\n  ".join(bad)))

    def test_every_file_names_its_licence(self):
        self.check(
            "no SPDX-License-Identifier in the first 5 lines",
            [p for p, text in self.texts.items() if not any("SPDX-License-Identifier: " in line for line in text.splitlines()[:5])],
        )

    def test_code_is_formatted(self):
        code = [p for p in self.texts if p.endswith(CODE) and not p.startswith("third_party/")]
        self.assertGreater(len(code), 50)
        run = subprocess.run(
            ["clang-format", "--dry-run", *code], cwd=ROOT, stderr=subprocess.PIPE, universal_newlines=True, check=True
        )
        bad = sorted({line.split(":")[0] for line in run.stderr.splitlines() if "clang-format-violations" in line})
        self.check("run clang-format -i on", bad)

    def test_no_file_names_a_machine(self):
        path = re.compile(r"(?<![\w.$}])/(?:work|root|home)/")
        self.check("a path of one machine", [p for p, text in self.texts.items() if path.search(text)])
        url = re.compile(r"\b(?:https?|ftp)://")
        self.check(
            "a URL outside the documentation", [p for p, t in self.texts.items() if not p.endswith(".md") and url.search(t)]
        )

    def test_files_are_where_they_belong(self):
        self.check(
            "not in one of the folders %s" % " ".join(sorted(FOLDERS)),
            [p for p in self.files if "/" in p and p.split("/")[0] not in FOLDERS],
        )

    def test_folders_explain_themselves(self):
        # What is built, but not the helpers of tests, nor pieces of the build itself.
        packages = {
            os.path.dirname(p)
            for p in self.files
            if os.path.basename(p) == "BUILD" and "/testing/" not in p and not re.match("(tools|third_party)/.*/", p)
        }
        top = {p.split("/")[0] for p in self.files if "/" in p and not p.startswith(".")}
        self.check("no README.md", [f for f in sorted(top | packages) if os.path.join(f, "README.md") not in self.texts])

    def test_links_lead_somewhere(self):
        bad = []
        for path, text in self.texts.items():
            if not path.endswith(".md"):
                continue
            for link in LINK.findall(text):
                if "://" not in link and not os.path.exists(os.path.join(ROOT, os.path.dirname(path), link)):
                    bad.append("%s: %s" % (path, link))
        self.check("links to files that are not there", bad)

    def test_behaviour_page_explains_the_capabilities(self):
        section = runpy.run_path(os.path.join(ROOT, "tools/behaviour"))["capability_section"]()
        self.assertTrue(self.texts["docs/behaviour.md"].endswith(section), "run tools/behaviour: a capability has changed")

    def test_every_error_has_a_test(self):
        errors = self.texts["docs/errors.md"]
        table = set(re.findall(r"^\| (E[A-Z]+) \|", errors, re.M))
        shown = dict(re.findall(r"^- (E[A-Z]+): (.+)$", errors, re.M))
        self.assertGreater(len(table), 10)
        self.assertEqual(table, set(shown))
        tests = {".".join(t) for text in self.texts.values() for t in re.findall(r"^TEST(?:_[FP])?\((\w+), (\w+)\)", text, re.M)}
        named = {name for names in shown.values() for name in re.findall(r"`([^`]+)`", names)}
        self.check("no such tests, but named in docs/errors.md", sorted(named - tests))


if __name__ == "__main__":
    unittest.main()
