// SPDX-License-Identifier: GPL-2.0-only
/*
 * The wildcard ring: where strangers knock.  Off by default, for domains that trust each other
 * (Xen: mac-permissive=1).
 *
 * It belongs to the link's port.  What is written there does not matter: Xen says who wrote it,
 * that domain becomes a partner with a ring of its own, and greets us there again.  A domain has
 * one number, so a flood makes one partner; what it costs is bounded by the pace below.
 */
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/workqueue.h>

#include "backends/argo/core/link.h"
#include "backends/argo/linux/argo_core.h"
#include "backends/argo/linux/domains.h"
#include "backends/argo/linux/partners.h"

static bool wildcard;
module_param(wildcard, bool, 0444);
MODULE_PARM_DESC(wildcard, "accept partners that introduce themselves; needs mac-permissive=1 of Xen (default 0)");

/* A greeting takes 80 bytes; those who find no room try again each second. */
#define WILDCARD_RING_SIZE (PAGE_SIZE - ARGO_RING_HEADER_SIZE)

/* The ring is read ten times a second at most, so many messages each time. */
#define WILDCARD_BUDGET 64
#define WILDCARD_PAUSE (HZ / 10)

static struct argo_ring ring;
static bool ring_open;
static DEFINE_MUTEX(ring_lock); /* reading and closing */
static void read_ring(struct work_struct *work);
static DECLARE_DELAYED_WORK(read_work, read_ring);

static void read_ring(struct work_struct *work)
{
	struct argo_ring_message message;
	int left = WILDCARD_BUDGET;
	int ret = 0;

	mutex_lock(&ring_lock);
	while (left-- > 0 && ring_open && (ret = argo_ring_peek(&ring.reader, &message)) == 1) {
		const u16 domid = message.src.domid;

		argo_ring_release(&ring.reader, &message);
		if (domid != argo_own_domid() && domid < ARGO_DOMID_SELF)
			argo_partner_add(domid, ARGO_PARTNER_STRANGER);
	}
	mutex_unlock(&ring_lock);
	if (ret == 1)
		schedule_delayed_work(&read_work, WILDCARD_PAUSE);
	if (ret < 0)
		pr_warn_ratelimited("argo: the wildcard ring cannot be read\n");
}

static void on_ready(struct argo_ring *unused)
{
	schedule_delayed_work(&read_work, WILDCARD_PAUSE);
}

int argo_wildcard_start(void)
{
	int ret;

	if (!wildcard)
		return 0;
	ring.ready = on_ready;
	ret = argo_ring_open(&ring, ARGO_LINK_PORT, ARGO_DOMID_ANY, WILDCARD_RING_SIZE);
	if (ret == -EPERM)
		pr_err("argo: wildcard=1 needs mac-permissive=1 on Xen's command line\n");
	else if (ret)
		pr_err("argo: no wildcard ring (%d)\n", ret);
	mutex_lock(&ring_lock);
	ring_open = ret == 0;
	mutex_unlock(&ring_lock);
	if (ring_open)
		on_ready(&ring);
	return ret;
}

void argo_wildcard_stop(void)
{
	mutex_lock(&ring_lock);
	if (ring_open)
		argo_ring_close(&ring);
	ring_open = false;
	mutex_unlock(&ring_lock);
	cancel_delayed_work_sync(&read_work);
}
