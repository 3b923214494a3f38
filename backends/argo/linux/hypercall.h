/* SPDX-License-Identifier: GPL-2.0-only */
/* What only argo_core may do: registration, and the counts of all calls. */
#ifndef ARGOSY_BACKENDS_ARGO_LINUX_HYPERCALL_H_
#define ARGOSY_BACKENDS_ARGO_LINUX_HYPERCALL_H_

#include <linux/atomic.h>
#include <linux/types.h>

struct argo_hypercall_counts {
	atomic64_t registers, unregisters, sendv, sendv_bytes, sendv_full, notify;
};

extern struct argo_hypercall_counts argo_hypercall_counts;

int argo_register_ring(u32 port, u16 partner, u32 len, const u64 *gfns, u32 pages);
int argo_unregister_ring(u32 port, u16 partner);

#endif /* ARGOSY_BACKENDS_ARGO_LINUX_HYPERCALL_H_ */
