// SPDX-License-Identifier: GPL-2.0-only
/*
 * Raw Argo hypercalls for test programs: /dev/argo_raw.
 *
 * A program cannot learn the machine frames of its pages (in a PV domain) nor issue a hypercall.
 * This module gives it pages with their frame numbers, issues argo_op with the program's own
 * pointers, and counts VIRQ_ARGO.  It trusts the program: whoever may open the device can do to
 * Argo what the domain can.  For tests only.
 *
 * Pointers go to Xen as they are.  Xen reads them through the page tables of the calling vCPU, so
 * they must be mapped now: pages from ARGO_RAW_ALLOC always are, others may be swapped out.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/fs.h>
#include <linux/interrupt.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <xen/events.h>
#include <xen/interface/event_channel.h>
#include <xen/page.h>
#include <xen/xen.h>
#include <xen/xenbus.h>
#include <asm/xen/hypercall.h>

#include "backends/argo/abi/argo.h"
#include "backends/argo/linux/raw/argo_raw.h"

/* Pages of one ARGO_RAW_ALLOC. */
struct area {
	struct list_head node;
	unsigned long offset; /* in the device, in pages */
	u32 count;
	struct page *pages[];
};

/* A ring that the program registered.  Xen writes to its pages until it is unregistered. */
struct ring {
	struct list_head node;
	u32 port;
	u16 partner;
};

/* One open device. */
struct session {
	struct mutex lock; /* one ioctl at a time; held while user memory is accessed */
	struct list_head rings;
	unsigned long next_offset;
	/* mmap() cannot take the lock above: it comes with the address space locked. */
	struct mutex areas_lock;
	struct list_head areas;
};

static u16 own_domid;
static int virq;
static atomic64_t interrupts;
/* One program at a time: two would take each other's interrupts. */
static atomic_t in_use;

static irqreturn_t count_interrupt(int irq, void *data)
{
	atomic64_inc(&interrupts);
	return IRQ_HANDLED;
}

/*
 * A pair of event channels of this domain with itself, to know when an interrupt has come.  Xen
 * marks VIRQ_ARGO pending at once, but makes a PVH domain look at it by a tasklet, a little later.
 * Linux looks at all that is pending: once an event that we send ourselves has come, every
 * VIRQ_ARGO that was raised before it has been counted.
 */
static struct {
	evtchn_port_t from, to;
	int irq; /* of .to */
	struct completion came;
} echo;

static irqreturn_t echo_came(int irq, void *data)
{
	complete(&echo.came);
	return IRQ_HANDLED;
}

static void echo_wait(void)
{
	reinit_completion(&echo.came);
	notify_remote_via_evtchn(echo.from);
	wait_for_completion(&echo.came);
}

static void close_port(evtchn_port_t port)
{
	struct evtchn_close close = { .port = port };

	if (HYPERVISOR_event_channel_op(EVTCHNOP_close, &close))
		pr_warn("cannot close event channel %u\n", port);
}

static int echo_start(void)
{
	struct evtchn_alloc_unbound alloc = { .dom = DOMID_SELF, .remote_dom = DOMID_SELF };
	struct evtchn_bind_interdomain bind = { .remote_dom = DOMID_SELF };
	int rc;

	init_completion(&echo.came);
	rc = HYPERVISOR_event_channel_op(EVTCHNOP_alloc_unbound, &alloc);
	if (rc)
		return rc;
	bind.remote_port = alloc.port;
	rc = HYPERVISOR_event_channel_op(EVTCHNOP_bind_interdomain, &bind);
	if (rc) {
		close_port(alloc.port);
		return rc;
	}
	echo.to = alloc.port;
	echo.from = bind.local_port;
	echo.irq = bind_evtchn_to_irqhandler(echo.to, echo_came, 0, KBUILD_MODNAME "-echo", &echo);
	if (echo.irq < 0) {
		close_port(echo.from);
		close_port(echo.to);
		return echo.irq;
	}
	return 0;
}

static void echo_stop(void)
{
	unbind_from_irqhandler(echo.irq, &echo); /* closes .to */
	close_port(echo.from);
}

/*
 * privcmd_call, not xen_single_call: the pointers are the program's, which SMAP would forbid.
 * Truncated, because Xen returns some errors zero-extended from 32 bits.
 */
static int argo_op(const struct argo_raw_op *op)
{
	return (int)privcmd_call(ARGO_HYPERCALL, op->command, op->arg1, op->arg2, op->arg3,
				 op->arg4);
}

static int unregister(const struct ring *ring)
{
	struct argo_unregister_ring unreg = {
		.port = ring->port,
		.partner = ring->partner,
	};

	return (int)xen_single_call(ARGO_HYPERCALL, ARGO_OP_UNREGISTER_RING, (unsigned long)&unreg,
				    0, 0, 0);
}

static void free_area(struct area *area)
{
	u32 i;

	for (i = 0; i < area->count && area->pages[i]; i++)
		__free_page(area->pages[i]);
	kvfree(area);
}

static int raw_open(struct inode *inode, struct file *file)
{
	struct session *session;

	if (atomic_cmpxchg(&in_use, 0, 1))
		return -EBUSY;
	session = kzalloc(sizeof(*session), GFP_KERNEL);
	if (!session) {
		atomic_set(&in_use, 0);
		return -ENOMEM;
	}
	mutex_init(&session->lock);
	mutex_init(&session->areas_lock);
	INIT_LIST_HEAD(&session->areas);
	INIT_LIST_HEAD(&session->rings);
	file->private_data = session;
	atomic64_set(&interrupts, 0);
	return 0;
}

static int raw_release(struct inode *inode, struct file *file)
{
	struct session *session = file->private_data;
	struct area *area, *next_area;
	struct ring *ring, *next_ring;
	bool in_xen = false;
	int rc;

	list_for_each_entry_safe(ring, next_ring, &session->rings, node) {
		rc = unregister(ring);
		/* The program has unregistered it, or its partner died. */
		if (rc && rc != -ENOENT) {
			pr_warn("cannot unregister ring %x for domain %u: %d; its pages are lost\n",
				ring->port, ring->partner, rc);
			in_xen = true;
		}
		kfree(ring);
	}
	list_for_each_entry_safe(area, next_area, &session->areas, node) {
		if (!in_xen)
			free_area(area);
	}
	kfree(session);
	atomic_set(&in_use, 0);
	return 0;
}

static long raw_alloc(struct session *session, struct argo_raw_alloc __user *user)
{
	struct argo_raw_alloc alloc;
	struct area *area;
	u64 __user *gfns;
	u32 i;

	if (copy_from_user(&alloc, user, sizeof(alloc)))
		return -EFAULT;
	if (alloc.count == 0 || alloc.count > ARGO_RAW_MAX_PAGES || alloc.pad)
		return -EINVAL;
	area = kvzalloc(struct_size(area, pages, alloc.count), GFP_KERNEL);
	if (!area)
		return -ENOMEM;
	area->count = alloc.count;
	area->offset = session->next_offset;
	gfns = u64_to_user_ptr(alloc.gfns);
	for (i = 0; i < area->count; i++) {
		area->pages[i] = alloc_page(GFP_KERNEL | __GFP_ZERO);
		if (!area->pages[i]) {
			free_area(area);
			return -ENOMEM;
		}
		if (put_user((u64)xen_page_to_gfn(area->pages[i]), &gfns[i])) {
			free_area(area);
			return -EFAULT;
		}
	}
	alloc.offset = (u64)area->offset << PAGE_SHIFT;
	if (copy_to_user(user, &alloc, sizeof(alloc))) {
		free_area(area);
		return -EFAULT;
	}
	session->next_offset += area->count;
	mutex_lock(&session->areas_lock);
	list_add(&area->node, &session->areas);
	mutex_unlock(&session->areas_lock);
	return 0;
}

static long raw_op(struct session *session, struct argo_raw_op __user *user)
{
	struct argo_register_ring reg = {};
	struct ring *ring = NULL;
	struct argo_raw_op op;

	if (copy_from_user(&op, user, sizeof(op)))
		return -EFAULT;
	if (op.command == ARGO_OP_REGISTER_RING) {
		ring = kzalloc(sizeof(*ring), GFP_KERNEL);
		if (!ring)
			return -ENOMEM;
		/* A bad pointer is for Xen to find. */
		if (!copy_from_user(&reg, u64_to_user_ptr(op.arg1), sizeof(reg))) {
			ring->port = reg.port;
			ring->partner = reg.partner;
		}
	}
	op.result = argo_op(&op);
	if (ring && op.result == 0)
		list_add(&ring->node, &session->rings);
	else
		kfree(ring);
	return put_user(op.result, &user->result);
}

/*
 * Two owners of VIRQ_ARGO break each other (the second bind closes the first one's event channel),
 * so argo_raw and argo_core must never meet.  Both export this name, and Linux refuses the second:
 * "exports duplicate symbol argo_own_domid (owned by argo_core)".
 */
u16 argo_own_domid(void)
{
	return own_domid;
}
EXPORT_SYMBOL_GPL(argo_own_domid);

static long raw_ioctl(struct file *file, unsigned int command, unsigned long arg)
{
	struct session *session = file->private_data;
	void __user *user = (void __user *)arg;
	long rc;

	mutex_lock(&session->lock);
	switch (command) {
	case ARGO_RAW_ALLOC:
		rc = raw_alloc(session, user);
		break;
	case ARGO_RAW_OP:
		rc = raw_op(session, user);
		break;
	case ARGO_RAW_INTERRUPTS:
		echo_wait();
		rc = put_user((u64)atomic64_xchg(&interrupts, 0), (u64 __user *)user);
		break;
	case ARGO_RAW_DOMID:
		rc = put_user(own_domid, (u16 __user *)user);
		break;
	default:
		rc = -ENOTTY;
	}
	mutex_unlock(&session->lock);
	return rc;
}

/* Maps one area, whole: all its pages are there at once, and stay. */
static int raw_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct session *session = file->private_data;
	struct area *area;
	int rc = -EINVAL;

	/* A private mapping would copy pages, and Xen would see the old ones. */
	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	mutex_lock(&session->areas_lock);
	list_for_each_entry(area, &session->areas, node) {
		if (area->offset != vma->vm_pgoff || area->count != vma_pages(vma))
			continue;
		rc = vm_map_pages_zero(vma, area->pages, area->count);
		break;
	}
	mutex_unlock(&session->areas_lock);
	return rc;
}

static const struct file_operations raw_fops = {
	.owner = THIS_MODULE,
	.open = raw_open,
	.release = raw_release,
	.unlocked_ioctl = raw_ioctl,
	.mmap = raw_mmap,
	.llseek = noop_llseek,
};

static struct miscdevice raw_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "argo_raw",
	.fops = &raw_fops,
	.mode = 0600,
};

static int __init raw_init(void)
{
	unsigned int domid;
	int rc;

	if (!xen_domain()) {
		pr_err("this is not a Xen domain\n");
		return -ENODEV;
	}
	if (xenbus_scanf(XBT_NIL, "domid", "", "%u", &domid) != 1) {
		pr_err("xenstore does not say which domain this is\n");
		return -ENODEV;
	}
	own_domid = domid;
	virq = bind_virq_to_irqhandler(ARGO_VIRQ, 0, count_interrupt, 0, KBUILD_MODNAME,
				       &interrupts);
	if (virq < 0) {
		pr_err("cannot bind VIRQ_ARGO: %d\n", virq);
		return virq;
	}
	rc = echo_start();
	if (rc) {
		pr_err("cannot make an event channel: %d\n", rc);
		goto unbind;
	}
	rc = misc_register(&raw_device);
	if (rc)
		goto stop_echo;
	return 0;

stop_echo:
	echo_stop();
unbind:
	unbind_from_irqhandler(virq, &interrupts);
	return rc;
}

static void __exit raw_exit(void)
{
	misc_deregister(&raw_device);
	echo_stop();
	unbind_from_irqhandler(virq, &interrupts);
}

module_init(raw_init);
module_exit(raw_exit);

MODULE_DESCRIPTION("Raw Argo hypercalls for test programs");
MODULE_LICENSE("GPL");
