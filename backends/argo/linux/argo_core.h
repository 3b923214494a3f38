/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * argo_core: the one owner of Argo in a Linux domain.
 *
 * It holds VIRQ_ARGO (a second owner would break the first), makes every hypercall, owns the pages
 * of the rings, and knows the partners: the domains that this one talks to.  What is said over the
 * rings is the business of its services, one per Argo port: vsock_argo_transport is one.
 *
 * The way of a message out: the service calls argo_sendv() with up to eight pieces, and Xen copies
 * them into the partner's ring; nothing is copied or kept here.  The way in: Xen fills the ring
 * that argo_ring_open() registered for that one partner and raises VIRQ_ARGO; the handler calls the
 * ready() of each ring that holds something, and the service reads the ring in a worker of its own
 * with argo_ring_peek() and argo_ring_release().
 *
 * The life of a partner: configured (the parameter partners), or seen by dom0's xenstore watch, or
 * introduced over the wildcard ring.  The core tells each service partner_add(), partner_remove(),
 * partner_check() when some domain has died, and resumed() after a restore; all in process context,
 * one at a time.
 */
#ifndef ARGOSY_BACKENDS_ARGO_LINUX_ARGO_CORE_H_
#define ARGOSY_BACKENDS_ARGO_LINUX_ARGO_CORE_H_

#include <linux/list.h>
#include <linux/types.h>

#include "backends/argo/abi/argo.h"
#include "backends/argo/core/ring.h"

/* ---- hypercalls: any context but hard interrupts; results are Xen's, 0 or more or -errno ---- */

/* From port to port.  Payload length, or -EAGAIN (the ring is full, Xen will interrupt), -EBUSY and
 * -ENOMEM (full, and it will not), -ECONNREFUSED (no ring), -ESRCH (no domain), -EMSGSIZE, ...
 */
int argo_sendv(u16 dst, u32 port, u32 type, const struct argo_iov *iov, u32 niov);

/* Asks about n rings, at most ARGO_MAX_NOTIFY_ENTRIES; n = 0 only wakes those who wait for ours. */
int argo_notify(struct argo_ring_data_ent *entries, u32 n);

/* ---- rings ---- */

struct argo_ring {
	struct argo_ring_reader reader;
	u16 partner;
	u32 port;

	/* Interrupt context: the ring holds something, or the owner waits for space elsewhere. */
	void (*ready)(struct argo_ring *ring);
	/* Set by the owner: call ready() at every interrupt, for Xen names no ring. */
	bool waiting;

	/* The core's own. */
	struct list_head node;
	u32 pages;
	u64 interrupts;
};

/*
 * Allocates and registers the ring that `partner` alone may fill.  The caller has set ready().
 *
 *   -ESRCH        no such domain (yet)
 *   -ECONNREFUSED it has no Argo
 *   -EEXIST       the port has a ring for this partner already
 *   -ENOSPC       this domain has 128 rings
 *   -ENOMEM
 *   -EPERM        partner ARGO_DOMID_ANY and Xen runs with mac-permissive=0
 */
int argo_ring_open(struct argo_ring *ring, u32 port, u16 partner, u32 size);

/* No ready() runs any more when this returns.  A ring that Xen dropped already is no error. */
void argo_ring_close(struct argo_ring *ring);

/* Whether Xen still has this domain: it drops a ring with its partner, and tells nobody. */
bool argo_partner_alive(u16 domid);

/* ---- services ---- */

struct argo_service {
	u32 port;

	/* ring_size: for argo_ring_open().  -errno is logged, and the partner is not told again. */
	int (*partner_add)(u16 domid, u32 ring_size);
	/* May end its work later, for a reason that it logs. */
	void (*partner_remove)(u16 domid);
	/* Some domain died: look whether it is this one. */
	void (*partner_check)(u16 domid);
	/* This domain was restored: every ring is gone, and argo_own_domid() may have changed. */
	void (*resumed)(void);

	struct list_head node; /* the core's own */
};

/* partner_add() is called for each partner before this returns, partner_remove() before the other.
 * -EEXIST: the port is taken.
 */
int argo_service_register(struct argo_service *service);
void argo_service_unregister(struct argo_service *service);

u16 argo_own_domid(void);

/* Xen knows no domain of this number: a partner that introduced itself is forgotten.  Any process
 * context; the removal follows in another.
 */
void argo_partner_absent(u16 domid);

/* The folder of debugfs for all of Argosy. */
extern struct dentry *argo_debugfs;

#endif /* ARGOSY_BACKENDS_ARGO_LINUX_ARGO_CORE_H_ */
