// SPDX-License-Identifier: GPL-2.0-only
/*
 * Rings: memory that Xen fills, and the interrupt that says so.
 *
 * VIRQ_ARGO names no ring.  The handler looks at each open one (two words of memory each) and calls
 * the ready() of those that hold something or whose owner waits for space elsewhere.  A ring is in
 * the list from before it is registered until before it is freed, so no message is ever missed.
 */
#include <linux/export.h>
#include <linux/interrupt.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/vmalloc.h>
#include <xen/events.h>
#include <xen/page.h>

#include "backends/argo/linux/argo_core.h"
#include "backends/argo/linux/argo_trace.h"
#include "backends/argo/linux/hypercall.h"
#include "backends/argo/linux/rings.h"

static LIST_HEAD(rings);
static DEFINE_SPINLOCK(rings_lock); /* the list; taken in hard interrupts */
static int virq = -1;
static atomic64_t virq_count;

/* The memory of the rings of argo_partner_alive(), which nobody reads. */
static void *probe_page;
#define PROBE_PORT 0x41524750u /* "ARGP" */

static bool holds_something(const struct argo_ring *ring)
{
	const struct argo_ring_header *header = ring->reader.header;

	return READ_ONCE(header->tx_ptr) != READ_ONCE(header->rx_ptr);
}

static irqreturn_t on_virq(int irq, void *unused)
{
	struct argo_ring *ring;
	u32 ready = 0;

	atomic64_inc(&virq_count);
	spin_lock(&rings_lock);
	list_for_each_entry(ring, &rings, node) {
		if (!READ_ONCE(ring->waiting) && !holds_something(ring))
			continue;
		ring->interrupts++;
		ready++;
		ring->ready(ring);
	}
	spin_unlock(&rings_lock);
	trace_argo_virq(ready);
	return IRQ_HANDLED;
}

int argo_virq_bind(void)
{
	probe_page = vzalloc(PAGE_SIZE);
	if (!probe_page)
		return -ENOMEM;
	virq = bind_virq_to_irqhandler(ARGO_VIRQ, 0, on_virq, 0, "argo", &rings);
	if (virq < 0)
		vfree(probe_page);
	return virq < 0 ? virq : 0;
}

void argo_virq_unbind(void)
{
	unbind_from_irqhandler(virq, &rings);
	vfree(probe_page);
}

static int register_pages(struct argo_ring *ring)
{
	u64 *gfns;
	u32 i;
	int ret;

	gfns = kmalloc_array(ring->pages, sizeof(*gfns), GFP_KERNEL);
	if (!gfns)
		return -ENOMEM;
	/* Machine frames in a PV domain, its own frames in the others. */
	for (i = 0; i < ring->pages; i++) {
		void *page = (u8 *)ring->reader.header + (size_t)i * PAGE_SIZE;

		gfns[i] = pfn_to_gfn(vmalloc_to_pfn(page));
	}
	ret = argo_register_ring(ring->port, ring->partner, ring->reader.len, gfns, ring->pages);
	kfree(gfns);
	return ret;
}

int argo_ring_open(struct argo_ring *ring, u32 port, u16 partner, u32 size)
{
	void *memory;
	int ret;

	ring->port = port;
	ring->partner = partner;
	ring->pages = argo_ring_pages(size);
	ring->waiting = false;
	if (ring->pages > ARGO_RING_MAX_PAGES)
		return -EINVAL;
	/* Zeroed: Xen takes over the pointers that it finds. */
	memory = vzalloc((size_t)ring->pages * PAGE_SIZE);
	if (!memory)
		return -ENOMEM;
	ret = argo_ring_reader_init(&ring->reader, memory,
				    ring->pages * PAGE_SIZE - ARGO_RING_HEADER_SIZE);
	if (ret)
		goto free;

	spin_lock_irq(&rings_lock);
	list_add_tail(&ring->node, &rings);
	spin_unlock_irq(&rings_lock);
	ret = register_pages(ring);
	if (ret == 0)
		return 0;

	spin_lock_irq(&rings_lock);
	list_del(&ring->node);
	spin_unlock_irq(&rings_lock);
free:
	vfree(memory);
	return ret;
}
EXPORT_SYMBOL_GPL(argo_ring_open);

void argo_ring_close(struct argo_ring *ring)
{
	const int ret = argo_unregister_ring(ring->port, ring->partner);

	spin_lock_irq(&rings_lock);
	list_del(&ring->node);
	spin_unlock_irq(&rings_lock);
	if (ret && ret != -ENOENT) {
		/* Xen may still write into these pages. */
		pr_err("argo: the ring for dom%u cannot be unregistered (%d); its pages are lost\n",
		       ring->partner, ret);
		return;
	}
	vfree(ring->reader.header);
}
EXPORT_SYMBOL_GPL(argo_ring_close);

/*
 * Xen drops a ring with its partner, and the question whether a ring stands (a registration with
 * FAIL_EXIST) makes it write a line to its console each time.  So this asks in silence whether the
 * partner lives: by a small ring on a port of nobody.  A domid comes back only after 32000 others.
 */
bool argo_partner_alive(u16 domid)
{
	const u64 gfn = pfn_to_gfn(vmalloc_to_pfn(probe_page));
	const int ret = argo_register_ring(PROBE_PORT, domid, ARGO_MIN_RING_SIZE, &gfn, 1);

	if (ret == 0)
		argo_unregister_ring(PROBE_PORT, domid);
	return ret != -ESRCH && ret != -ECONNREFUSED;
}
EXPORT_SYMBOL_GPL(argo_partner_alive);

/* core/ring.c is compiled into this module for all. */
EXPORT_SYMBOL_GPL(argo_ring_peek);
EXPORT_SYMBOL_GPL(argo_ring_release);
EXPORT_SYMBOL_GPL(argo_ring_used);

void argo_rings_show(struct seq_file *m)
{
	const struct argo_hypercall_counts *count = &argo_hypercall_counts;
	struct argo_ring *ring;

	seq_printf(m, "domid %u\nvirqs %lld\n", argo_own_domid(), atomic64_read(&virq_count));
	seq_printf(m, "register %lld\nunregister %lld\n", atomic64_read(&count->registers),
		   atomic64_read(&count->unregisters));
	seq_printf(m, "sendv %lld\nsendv_bytes %lld\nsendv_full %lld\nnotify %lld\n",
		   atomic64_read(&count->sendv), atomic64_read(&count->sendv_bytes),
		   atomic64_read(&count->sendv_full), atomic64_read(&count->notify));
	spin_lock_irq(&rings_lock);
	list_for_each_entry(ring, &rings, node)
		seq_printf(m, "ring partner=%u port=%#x bytes=%u rx=%u tx=%u interrupts=%llu\n",
			   ring->partner, ring->port, ring->reader.len,
			   READ_ONCE(ring->reader.header->rx_ptr),
			   READ_ONCE(ring->reader.header->tx_ptr), ring->interrupts);
	spin_unlock_irq(&rings_lock);
}
