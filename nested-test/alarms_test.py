# SPDX-License-Identifier: Apache-2.0
"""Which lines are alarms, shown with lines as Linux 6.1 and Xen 4.17 print them."""

import unittest

from alarms import Alarms

ALARMING = [
    "[   12.345678] WARNING: CPU: 0 PID: 123 at net/vmw_vsock/af_vsock.c:510 vsock_assign_transport+0x1/0x2 [vsock]",
    "[   12.345678] BUG: kernel NULL pointer dereference, address: 0000000000000008",
    "[   12.345678] BUG: unable to handle page fault for address: ffffc90000000000",
    "[   12.345678] BUG: sleeping function called from invalid context at mm/slab.h:494",
    "[   12.345678] BUG: scheduling while atomic: kworker/0:1/12/0x00000002",
    "[   12.345678] BUG: KASAN: slab-use-after-free in argo_ring_drain+0x1b/0x30 [argo_core]",
    "[   12.345678] watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [kworker/0:1:12]",
    "[   12.345678] Oops: 0000 [#1] PREEMPT SMP NOPTI",
    "[   12.345678] general protection fault, probably for non-canonical address 0xdead000000000108: 0000 [#1]",
    "[   12.345678] Call Trace:",
    "[   12.345678] Kernel panic - not syncing: Fatal exception",
    "[   12.345678] WARNING: possible circular locking dependency detected",
    "[   12.345678] WARNING: possible recursive locking detected",
    "[   12.345678] INFO: possible recursive locking detected",
    "[   12.345678] WARNING: inconsistent lock state",
    "[   12.345678] WARNING: suspicious RCU usage",
    "[   12.345678] INFO: trying to register non-static key.",
    "[   12.345678] INFO: task insmod:77 blocked for more than 120 seconds.",
    "[   12.345678] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
    "[   12.345678] rcu: INFO: rcu_preempt self-detected stall on CPU",
    "[   12.345678] kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
    "[   12.345678] UBSAN: array-index-out-of-bounds in drivers/xen/a.c:3:1",
    "[   12.345678] refcount_t: underflow; use-after-free.",
    "[   12.345678] list_del corruption. prev->next should be ffff888003b0, but was 0000000000000000",
    "[   12.345678] Out of memory: Killed process 77 (hatch) total-vm:1234kB",
    "(XEN) Xen BUG at common/argo.c:1301",
    "(XEN) Assertion '!\"Should not be here\"' failed at common/argo.c:1301",
    "(XEN) Panic on CPU 0:",
    "(XEN) Hardware Dom0 crashed: rebooting machine in 5 seconds.",
    "(XEN) domain_crash called from arch/x86/mm.c:1",
    "(XEN) Domain 1 (vcpu#0) crashed on cpu#1:",
    "(XEN) mm.c:2180:d1v0 Error getting mfn 1234",
    "(XEN) Xen WARN at common/argo.c:1",
    "(XEN) FATAL PAGE FAULT",
]

HARMLESS = [
    '[    1.000000] PCI: Using host bridge windows from ACPI; if necessary, use "pci=nocrs" and report a bug',
    "[    1.000000] AMD-Vi: AMD IOMMUv2 functionality not available on this system - This is not a bug.",
    "[    1.000000] argo_core: module verification failed: signature and/or required key missing - tainting kernel",
    "[    1.000000] tsc: Fast TSC calibration failed",
    "[    1.000000] ACPI Error: No handler or method for GPE 07, disabling event (20220331/evgpe-839)",
    "(XEN) Xen version 4.17.5 (Debian ) (argosy@) (gcc (Debian 12.2.0-14+deb12u1) 12.2.0) debug=n not recorded",
    "(XEN) ACPI: SLEEP INFO: pm1x_cnt[1:604,1:0], pm1x_evt[1:600,1:0]",
    "[    1.000000] kasan: KernelAddressSanitizer initialized",
]


class AlarmsTest(unittest.TestCase):
    def test_alarming_lines_are_found_whole_and_with_their_console(self):
        for line in ALARMING:
            alarms = Alarms()
            alarms.look("dom0", line)
            self.assertEqual(alarms.found, ["dom0: " + line])

    def test_harmless_lines_are_not(self):
        for line in HARMLESS:
            alarms = Alarms()
            alarms.look("dom0", line)
            self.assertEqual(alarms.found, [])

    def test_a_test_can_allow_a_line_and_only_that(self):
        alarms = Alarms({r"WARNING: .*the_one_we_provoke": "the test provokes it"})
        alarms.look("dom0", "[    1.000000] WARNING: CPU: 0 PID: 1 at x.c:1 the_one_we_provoke+0x1/0x2")
        alarms.look("dom0", "[    1.000000] WARNING: CPU: 0 PID: 1 at x.c:1 another+0x1/0x2")
        self.assertEqual(len(alarms.found), 1)


if __name__ == "__main__":
    unittest.main()
