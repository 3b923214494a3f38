# SPDX-License-Identifier: Apache-2.0
"""The faults: those with a name, and those made mechanically.  Text in, text out; nothing is built here."""

import bisect
import collections
import hashlib
import os
import re

HERE = os.path.dirname(os.path.abspath(__file__))

# What faults are generated in: what decides, not what declares (headers of declarations and limits are left out).
GENERATED_IN = [
    "backends/argo/core/link.c",
    "backends/argo/core/ring.c",
    "sim/hypervisor.cc",
    "transport/packet/connection.cc",
    "transport/packet/endpoint.cc",
    "transport/packet/endpoint_call.h",
    "transport/packet/packet_meter.h",
    "transport/packet/wire.cc",
]

# name: for --only and for people; what: one line; path: the file; line: where in it; text: the whole file with the fault.
Fault = collections.namedtuple("Fault", "name what path line text")


class FaultError(Exception):
    """A fault that does not fit the tree, or a file of faults that cannot be read."""


def read(root, path):
    try:
        with open(os.path.join(root, path), encoding="utf-8") as f:
            return f.read()
    except OSError as e:
        raise FaultError("%s: %s" % (path, e.strerror))


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


# ---- faults with a name ----


def entries(text, where):
    """Splits a file of "== NAME" entries; yields (NAME, its lines).  Lines that begin with # are comments."""
    name, lines = None, []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#"):
            continue
        if line.startswith("== "):
            if name:
                yield name, lines
            name, lines = line[3:].strip(), []
        elif line and not name:
            raise FaultError("%s:%d: text before the first entry" % (where, number))
        else:
            lines.append(line)
    if name:
        yield name, lines


def parse_named(root, text, where):
    """The faults of `text`, applied to the tree at `root`, and a list of what is wrong with the others."""
    faults, wrong, seen = [], [], set()
    for name, lines in entries(text, where):
        if name in seen:
            wrong.append("%s: there are two of this name" % name)
            continue
        seen.add(name)
        lines = [line for line in lines if line]
        old = "".join(line[1:] + "\n" for line in lines if line[0] == "-")
        new = "".join(line[1:] + "\n" for line in lines if line[0] == "+")
        plain = [line for line in lines if line[0] not in "-+"]
        if len(plain) != 2 or not old or old == new:
            wrong.append("%s: wants a line of description, a file, then - and + lines that differ" % name)
            continue
        what, path = plain
        try:
            source = read(root, path)
        except FaultError as e:
            wrong.append("%s: %s" % (name, e))
            continue
        # Whole lines only.
        places = [m.start() for m in re.finditer("^" + re.escape(old), source, re.MULTILINE)]
        if len(places) != 1:
            wrong.append("%s: its lines stand %d times in %s, not once" % (name, len(places), path))
            continue
        at = places[0]
        faults.append(Fault(name, what, path, line_of(source, at), source[:at] + new + source[at + len(old) :]))
    return faults, wrong


def named(root):
    with open(os.path.join(HERE, "named.txt"), encoding="utf-8") as f:
        return parse_named(root, f.read(), "named.txt")


# ---- generated faults ----

SWAPS = {
    "<": ["<="], "<=": ["<"], ">": [">="], ">=": [">"], "==": ["!="], "!=": ["=="],
    "+": ["-"], "-": ["+"], "*": ["/"], "/": ["*"], "%": ["/"],
    "+=": ["-="], "-=": ["+="], "++": ["--"], "--": ["++"],
    "&&": ["||"], "||": ["&&"], "&": ["|"], "|": ["&"], "|=": ["&="], "&=": ["|="],
    "true": ["false"], "false": ["true"],
}  # fmt: skip
# Only with a space on either side are these operators, and not brackets of templates, pointers or signs.
SPACED = {"<", ">", "+", "-", "*", "/", "&", "|"}

TOKEN = re.compile(
    r"""//[^\n]*|/\*.*?\*/            # a comment
      | ^[ ]*\#(?:[^\n]*\\\n)*[^\n]*  # a line for the preprocessor
      | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*'
      | [A-Za-z_]\w*
      | 0[xX][0-9a-fA-F]+\w* | [0-9][\w.]*
      | <<= | >>= | -> | :: | << | >> | [-+*/%&|^<>=!]= | \+\+ | -- | && | \|\|
      | \S""",
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)

# A statement that only counts: what it counts for people is not what the protocol does.
COUNTS = re.compile(r"(\+\+|--)?[\w.>-]*(counters_?\.|->count\.)\w+(\+\+|--)?( \+= [^;]*)?;")
ASSERTS = ("static_assert", "ARGO_ASSERT_SIZE", "ARGO_ASSERT_AT", "assert")
# What cannot go alone: a value that a function must return, a label, a name that others need.
KEPT = ("return", "using", "namespace", "static", "typedef", "friend", "extern", "template", "public", "private", "default", "case", "goto")


def tokens(source):
    """(offset, token) of code: no comments, no lines for the preprocessor, nothing inside literals."""
    for m in TOKEN.finditer(source):
        token = m.group()
        if token.startswith(("//", "/*", '"', "'")) or token.lstrip(" ").startswith("#"):
            continue
        yield m.start(), token


def statements(source, toks):
    """(begin, end) of each statement that ends in a semicolon outside brackets."""
    begin, depth = None, 0
    for at, token in toks:
        if begin is None and token not in "{};":
            begin = at
        if token in ("(", "["):
            depth += 1
        elif token in (")", "]"):
            depth -= 1
        elif token in ("{", "}") and depth == 0:
            begin = None
        elif token == ";" and depth == 0:
            if begin is not None:
                yield begin, at + 1
            begin = None
        elif token == ":" and depth == 0 and begin is not None and source[begin:at].startswith(("case ", "default")):
            begin = None


def variants(source, at, token):
    """What may stand for a token instead."""
    if token in SWAPS:
        spaced = source[at - 1] == " " and source[at + len(token)] in " \n"
        return SWAPS[token] if spaced or token not in SPACED else []
    if token == "!":
        return [""]
    number = re.fullmatch(r"(0[xX][0-9a-fA-F]+|[0-9]+)([uUlL]*)", token)
    if not number:
        return []
    n, suffix = int(number.group(1), 0), number.group(2)
    return ["%d%s" % (m, suffix) for m in [n + 1] + [n - 1] * (n > 0) + [0] * (n > 1)]


def sites(source):
    """(offset, old text, [new texts]) of every place where a fault may be put."""
    toks = list(tokens(source))
    skipped = []
    found = []
    for begin, end in statements(source, toks):
        old = source[begin:end]
        first = re.match(r"\w*", old).group()
        if COUNTS.fullmatch(old) or first in ASSERTS:
            skipped.append((begin, end))
        elif first not in KEPT or old == "return;":
            # A semicolon remains, and every line stays where it was.
            found.append((begin, old, ["\n" * old.count("\n") + ";"]))
    skipped.sort()
    for at, token in toks:
        i = bisect.bisect(skipped, (at, len(source))) - 1
        if i >= 0 and at < skipped[i][1]:
            continue
        news = variants(source, at, token)
        if news:
            found.append((at, token, news))
    return sorted(found, key=lambda site: (site[0], len(site[1])))


def shown(text):
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:57] + "..."


def generate(root, seed):
    """Every generated fault of the seed, one for each place, in the order in which they are to be tried.

    The order hangs on the seed and on the text of each line alone.  So a change elsewhere in the tree leaves most of
    them what they were, and the names too.
    """
    drawn = []
    for path in GENERATED_IN:
        source = read(root, path)
        lines = source.splitlines()
        seen = collections.Counter()
        for at, old, news in sites(source):
            number = line_of(source, at)
            column = at - source.rfind("\n", 0, at) - 1
            place = "%s\0%s\0%d\0%s" % (path, lines[number - 1], column, old)
            seen[place] += 1
            place += "\0%d" % seen[place]
            lot = hashlib.sha256(("%d\0%s" % (seed, place)).encode()).digest()
            new = news[lot[-1] % len(news)]
            name = "g-" + hashlib.sha256((place + "\0" + new).encode()).hexdigest()[:8]
            change = '"%s" to "%s" in: %s' % (old, new, shown(lines[number - 1]))
            if new.strip() == ";":
                change = "deleted: " + shown(old)
            elif not new:
                change = '"%s" removed in: %s' % (old, shown(lines[number - 1]))
            drawn.append((lot, Fault(name, change, path, number, source[:at] + new + source[at + len(old) :])))
    return [fault for _, fault in sorted(drawn, key=lambda d: d[0])]


def argued():
    """{name: argument} of generated faults that no test needs to find."""
    with open(os.path.join(HERE, "argued.txt"), encoding="utf-8") as f:
        return {name: " ".join(" ".join(lines).split()) for name, lines in entries(f.read(), "argued.txt")}
