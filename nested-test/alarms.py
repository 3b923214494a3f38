# SPDX-License-Identifier: Apache-2.0
"""Lines on a console that say that something went wrong, whatever a test itself found."""

import re

# Of Linux, in dom0 and guests.
LINUX = [
    r"\bBUG\b",
    r"\bWARNING\b",
    r"\bOops\b",
    r"Call Trace:",
    r"Kernel panic",
    r"general protection fault",
    r"possible circular locking",
    r"possible recursive locking",
    r"possible irq lock inversion",
    r"inconsistent lock state",
    r"INFO: possible",
    r"INFO: trying to register non-static key",
    r"suspicious RCU",
    r"INFO: task .* blocked",
    r"detected (expedited )?stalls? on",
    r"self-detected stall",
    r"scheduling while atomic",
    r"sleeping function called",
    r"kmemleak: .*(suspected|leak)",
    r"\bKASAN\b",
    r"\bUBSAN\b",
    r"Unable to handle",
    r"refcount_t:",
    r"list_(add|del) corruption",
    r"unregister_netdevice: waiting for",
    r"Memory cgroup out of memory|Out of memory: Killed",
]

# Of Xen itself.
XEN = [
    r"\(XEN\).*\bBUG\b",
    r"\(XEN\).*(ASSERT|Assertion)",
    r"\(XEN\).*[Pp]anic",
    r"\(XEN\).*\b([Ee]rror|ERROR)\b",
    r"\(XEN\).*\bWARN",
    r"\(XEN\).*\b(domain_crash|crashed)\b",
    r"\(XEN\).*(FATAL|[Uu]nhandled|Xen call trace)",
]

_ALARM = re.compile("|".join(f"(?:{p})" for p in LINUX + XEN))


class Alarms:
    """Gathers the alarms among the lines of all consoles."""

    def __init__(self, allowed=None):
        self._allowed = [re.compile(p) for p in allowed or {}]
        self.found = []

    def look(self, source, line):
        if _ALARM.search(line) and not any(p.search(line) for p in self._allowed):
            self.found.append(f"{source}: {line}")
