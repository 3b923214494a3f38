// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every hypercall of Argosy is in this file.
 *
 * xen_single_call() is the inline function of Linux that takes the number at run time; it works
 * before and after the change that replaced the hypercall page (XSA-466).  It is given addresses of
 * kernel memory only, so user access stays forbidden to the CPU (no STAC).
 */
#include <linux/export.h>
#include <linux/string.h>
#include <asm/xen/hypercall.h>

#include "backends/argo/linux/argo_core.h"
#include "backends/argo/linux/hypercall.h"

#define CREATE_TRACE_POINTS
#include "backends/argo/linux/argo_trace.h"

struct argo_hypercall_counts argo_hypercall_counts;

/* Xen returns some errors of sendv zero-extended (0xfffffff5): int is what it means. */
static int argo_op(unsigned int command, const void *arg1, const void *arg2, unsigned long arg3,
		   unsigned long arg4)
{
	return (int)xen_single_call(ARGO_HYPERCALL, command, (unsigned long)arg1,
				    (unsigned long)arg2, arg3, arg4);
}

int argo_register_ring(u32 port, u16 partner, u32 len, const u64 *gfns, u32 pages)
{
	const struct argo_register_ring reg = { .port = port, .partner = partner, .len = len };
	int ret;

	/* Without FAIL_EXIST a second registration would first destroy the ring that stands. */
	ret = argo_op(ARGO_OP_REGISTER_RING, &reg, gfns, pages, ARGO_REGISTER_FLAG_FAIL_EXIST);
	atomic64_inc(&argo_hypercall_counts.registers);
	trace_argo_register_ring(port, partner, len, ret);
	return ret;
}

int argo_unregister_ring(u32 port, u16 partner)
{
	const struct argo_unregister_ring unreg = { .port = port, .partner = partner };
	int ret;

	ret = argo_op(ARGO_OP_UNREGISTER_RING, &unreg, NULL, 0, 0);
	atomic64_inc(&argo_hypercall_counts.unregisters);
	trace_argo_unregister_ring(port, partner, ret);
	return ret;
}

int argo_sendv(u16 dst, u32 port, u32 type, const struct argo_iov *iov, u32 niov)
{
	/* Xen fills in our own domid. */
	const struct argo_send_addr address = {
		.src = { .port = port, .domid = ARGO_DOMID_ANY },
		.dst = { .port = port, .domid = dst },
	};
	int ret;

	ret = argo_op(ARGO_OP_SENDV, &address, iov, niov, type);
	atomic64_inc(&argo_hypercall_counts.sendv);
	if (ret > 0)
		atomic64_add(ret, &argo_hypercall_counts.sendv_bytes);
	else if (ret == -EAGAIN || ret == -EBUSY || ret == -ENOMEM)
		atomic64_inc(&argo_hypercall_counts.sendv_full);
	trace_argo_sendv(dst, port, type, ret);
	return ret;
}
EXPORT_SYMBOL_GPL(argo_sendv);

/* The common questions are about nobody or about one ring: on the stack. */
static int notify_one(struct argo_ring_data_ent *entry)
{
	struct {
		struct argo_ring_data head;
		struct argo_ring_data_ent entry;
	} query = { .head = { .nent = 1 }, .entry = *entry };
	const int ret = argo_op(ARGO_OP_NOTIFY, &query, NULL, 0, 0);

	*entry = query.entry;
	return ret;
}

int argo_notify(struct argo_ring_data_ent *entries, u32 n)
{
	u32 done;
	int ret = 0;

	if (n == 0) {
		ret = argo_op(ARGO_OP_NOTIFY, NULL, NULL, 0, 0);
		atomic64_inc(&argo_hypercall_counts.notify);
		trace_argo_notify(0, ret);
		return ret;
	}
	/* A service has one link for each partner, so that one cannot hold up another: n is 1. */
	for (done = 0; done < n && ret >= 0; done++) {
		ret = notify_one(&entries[done]);
		atomic64_inc(&argo_hypercall_counts.notify);
	}
	trace_argo_notify(n, ret);
	return ret;
}
EXPORT_SYMBOL_GPL(argo_notify);
