// SPDX-License-Identifier: GPL-2.0-only
/*
 * Partners: the domains that this one talks to, and the services that are told of them.
 *
 * The parameter `partners` is a list "domid[:ring bytes],...".  Writing it at run time replaces the
 * configured part: who is taken out is removed (its connections are reset), who is new is added,
 * and who gets another ring size loses its connections, too.
 */
#include <linux/export.h>
#include <linux/kernel.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/workqueue.h>
#include <xen/xen.h>

#include "backends/argo/linux/argo_core.h"
#include "backends/argo/linux/partners.h"
#include "backends/argo/linux/rings.h"

/*
 * Default: four of the largest packets (65600 bytes each with their headers) fit, as many as the
 * default buffer of one connection admits; 65 pages.
 */
static uint ring_size = 65 * PAGE_SIZE - ARGO_RING_HEADER_SIZE;
module_param(ring_size, uint, 0444);
MODULE_PARM_DESC(ring_size, "bytes of the ring for each partner, rounded up to whole pages (default 266176: four 64 KiB packets; 4096 to 2097088)");

/* Xen has 128 rings for a domain; two are left for a wildcard ring and a test. */
#define MAX_PEERS_LIMIT 126u
static uint max_peers = MAX_PEERS_LIMIT;
module_param(max_peers, uint, 0444);
MODULE_PARM_DESC(max_peers, "most partners at a time, each takes a ring (default and most 126)");

struct partner {
	struct list_head node;
	u32 ring_size; /* 0: the parameter's */
	u16 domid;
	u8 why;
	bool absent;
	u32 configured_size; /* while a new list is read */
};

static LIST_HEAD(partners);
static LIST_HEAD(services);
static uint partner_count;
static bool started; /* the parameter is set before the module starts */
static DEFINE_MUTEX(partners_lock); /* all above, and the calls to services */

static void forget_absent(struct work_struct *work);
static DECLARE_WORK(absent_work, forget_absent);

static struct partner *find(u16 domid)
{
	struct partner *partner;

	list_for_each_entry(partner, &partners, node) {
		if (partner->domid == domid)
			return partner;
	}
	return NULL;
}

static u32 size_for(const struct partner *partner)
{
	return partner->ring_size ? partner->ring_size : ring_size;
}

static void tell_one(struct argo_service *service, const struct partner *partner)
{
	const int ret = service->partner_add(partner->domid, size_for(partner));

	if (ret)
		pr_warn("argo: port %#x has no place for dom%u (%d)\n", service->port,
			partner->domid, ret);
}

static void tell_added(const struct partner *partner)
{
	struct argo_service *service;

	list_for_each_entry(service, &services, node)
		tell_one(service, partner);
}

static void tell_removed(const struct partner *partner)
{
	struct argo_service *service;

	list_for_each_entry(service, &services, node)
		service->partner_remove(partner->domid);
}

static int try_add(u16 domid, unsigned int why, u32 size)
{
	struct partner *partner = find(domid);

	if (partner) {
		partner->why |= why;
		partner->absent = false;
		return 0;
	}
	if (partner_count >= max_peers)
		return -ENOSPC;
	partner = kzalloc(sizeof(*partner), GFP_KERNEL);
	if (!partner)
		return -ENOMEM;
	partner->domid = domid;
	partner->why = why;
	partner->ring_size = size;
	list_add_tail(&partner->node, &partners);
	partner_count++;
	tell_added(partner);
	return 0;
}

static int add(u16 domid, unsigned int why, u32 size)
{
	const int ret = try_add(domid, why, size);

	if (ret)
		pr_warn_ratelimited("argo: dom%u cannot be a partner (%d); max_peers is %u\n",
				    domid, ret, max_peers);
	return ret;
}

static void drop(struct partner *partner)
{
	list_del(&partner->node);
	partner_count--;
	tell_removed(partner);
	kfree(partner);
}

int argo_partner_add(u16 domid, unsigned int why)
{
	int ret;

	mutex_lock(&partners_lock);
	ret = add(domid, why, 0);
	mutex_unlock(&partners_lock);
	return ret;
}

static void forget_absent(struct work_struct *work)
{
	struct partner *partner, *next;

	mutex_lock(&partners_lock);
	list_for_each_entry_safe(partner, next, &partners, node) {
		if (partner->absent && !(partner->why & ARGO_PARTNER_CONFIGURED))
			drop(partner);
	}
	mutex_unlock(&partners_lock);
}

/* Called by a service, maybe out of partner_add(), which holds the lock. */
void argo_partner_absent(u16 domid)
{
	struct partner *partner;

	if (!mutex_trylock(&partners_lock))
		return; /* the service will meet the same again in a second */
	partner = find(domid);
	if (partner && !(partner->why & ARGO_PARTNER_CONFIGURED)) {
		partner->absent = true;
		schedule_work(&absent_work);
	}
	mutex_unlock(&partners_lock);
}
EXPORT_SYMBOL_GPL(argo_partner_absent);

void argo_partners_check(void)
{
	struct argo_service *service;
	struct partner *partner;

	mutex_lock(&partners_lock);
	list_for_each_entry(service, &services, node) {
		list_for_each_entry(partner, &partners, node)
			service->partner_check(partner->domid);
	}
	mutex_unlock(&partners_lock);
}

void argo_partners_resumed(void)
{
	struct argo_service *service;

	mutex_lock(&partners_lock);
	list_for_each_entry(service, &services, node)
		service->resumed();
	mutex_unlock(&partners_lock);
}

int argo_service_register(struct argo_service *service)
{
	struct argo_service *other;
	struct partner *partner;

	mutex_lock(&partners_lock);
	list_for_each_entry(other, &services, node) {
		if (other->port == service->port) {
			mutex_unlock(&partners_lock);
			return -EEXIST;
		}
	}
	list_add_tail(&service->node, &services);
	list_for_each_entry(partner, &partners, node)
		tell_one(service, partner);
	mutex_unlock(&partners_lock);
	return 0;
}
EXPORT_SYMBOL_GPL(argo_service_register);

void argo_service_unregister(struct argo_service *service)
{
	struct partner *partner;

	mutex_lock(&partners_lock);
	list_del(&service->node);
	list_for_each_entry(partner, &partners, node)
		service->partner_remove(partner->domid);
	mutex_unlock(&partners_lock);
}
EXPORT_SYMBOL_GPL(argo_service_unregister);

/* ---- the parameter ---- */

static bool is_ring_size(u32 size)
{
	return size >= PAGE_SIZE && argo_ring_pages(size) <= ARGO_RING_MAX_PAGES &&
	       size <= ARGO_RING_MAX_PAGES * PAGE_SIZE;
}

/* One "domid[:bytes]".  size 0: none was given. */
static int parse_partner(char *text, u16 *domid, u32 *size)
{
	char *bytes = strchr(text, ':');

	*size = 0;
	if (bytes) {
		*bytes++ = '\0';
		if (kstrtou32(bytes, 0, size) || !is_ring_size(*size))
			return -EINVAL;
	}
	return kstrtou16(text, 0, domid) || *domid >= ARGO_DOMID_SELF ? -EINVAL : 0;
}

/* Calls fn for each entry of the list, or stops at the first that is wrong. */
static int read_list(const char *list, int (*fn)(u16 domid, u32 size))
{
	char *copy = kstrdup(list, GFP_KERNEL), *rest, *text;
	int ret = 0;

	if (!copy)
		return -ENOMEM;
	rest = strim(copy);
	while (ret == 0 && (text = strsep(&rest, ",")) != NULL) {
		u16 domid;
		u32 size;

		if (*text == '\0')
			continue;
		ret = parse_partner(text, &domid, &size);
		if (ret == 0)
			ret = fn(domid, size);
	}
	kfree(copy);
	return ret;
}

static int check_entry(u16 domid, u32 size)
{
	return 0;
}

#define NOT_CONFIGURED U32_MAX

static int mark_entry(u16 domid, u32 size)
{
	struct partner *partner = find(domid);

	if (partner)
		partner->configured_size = size;
	return 0;
}

static int add_entry(u16 domid, u32 size)
{
	return add(domid, ARGO_PARTNER_CONFIGURED, size);
}

/* Its connections are reset, and a ring of the new size follows. */
static void resize(struct partner *partner, u32 size)
{
	if (partner->ring_size == size)
		return;
	tell_removed(partner);
	partner->ring_size = size;
	tell_added(partner);
}

static int replace_configured(const char *list)
{
	struct partner *partner, *next;

	list_for_each_entry(partner, &partners, node)
		partner->configured_size = NOT_CONFIGURED;
	read_list(list, mark_entry);
	list_for_each_entry_safe(partner, next, &partners, node) {
		if (partner->configured_size != NOT_CONFIGURED) {
			resize(partner, partner->configured_size);
			continue;
		}
		partner->why &= ~ARGO_PARTNER_CONFIGURED;
		if (partner->why == 0)
			drop(partner);
		else
			resize(partner, 0);
	}
	return read_list(list, add_entry);
}

/* What was given before the module started. */
static char *initial_partners;

static int set_partners(const char *list, const struct kernel_param *param)
{
	int ret = read_list(list, check_entry);

	if (ret) {
		pr_err("argo: partners is a list of domid[:ring bytes], with 4096 to 2097088 bytes; not '%s'\n",
		       list);
		return ret;
	}
	mutex_lock(&partners_lock);
	if (started) {
		ret = replace_configured(list);
	} else {
		kfree(initial_partners);
		initial_partners = kstrdup(list, GFP_KERNEL);
		ret = initial_partners ? 0 : -ENOMEM;
	}
	mutex_unlock(&partners_lock);
	return ret;
}

static int get_partners(char *buffer, const struct kernel_param *param)
{
	const struct partner *partner;
	int len = 0;

	mutex_lock(&partners_lock);
	list_for_each_entry(partner, &partners, node) {
		if (!(partner->why & ARGO_PARTNER_CONFIGURED))
			continue;
		len += scnprintf(buffer + len, PAGE_SIZE - len, "%s%u", len ? "," : "",
				 partner->domid);
		if (partner->ring_size)
			len += scnprintf(buffer + len, PAGE_SIZE - len, ":%u", partner->ring_size);
	}
	mutex_unlock(&partners_lock);
	len += scnprintf(buffer + len, PAGE_SIZE - len, "\n");
	return len;
}

static void free_partners(void *unused)
{
	kfree(initial_partners);
	initial_partners = NULL;
}

static const struct kernel_param_ops partners_ops = {
	.set = set_partners,
	.get = get_partners,
	.free = free_partners,
};
module_param_cb(partners, &partners_ops, NULL, 0644);
MODULE_PARM_DESC(partners, "domains to talk to: domid[:ring bytes],... (default 0, that is dom0, in a guest; none in dom0, which finds its guests itself)");

int argo_partners_start(void)
{
	int ret;

	if (!is_ring_size(ring_size)) {
		pr_err("argo: ring_size must be 4096 to 2097088 bytes, not %u\n", ring_size);
		return -EINVAL;
	}
	if (max_peers < 1 || max_peers > MAX_PEERS_LIMIT) {
		pr_err("argo: max_peers must be 1 to %u, not %u\n", MAX_PEERS_LIMIT, max_peers);
		return -EINVAL;
	}
	mutex_lock(&partners_lock);
	started = true;
	if (initial_partners)
		ret = replace_configured(initial_partners);
	else
		ret = xen_initial_domain() ? 0 : add(0, ARGO_PARTNER_CONFIGURED, 0);
	mutex_unlock(&partners_lock);
	return ret;
}

/* Every service is gone, and nobody adds any more. */
void argo_partners_stop(void)
{
	struct partner *partner, *next;

	cancel_work_sync(&absent_work);
	mutex_lock(&partners_lock);
	started = false;
	list_for_each_entry_safe(partner, next, &partners, node)
		drop(partner);
	mutex_unlock(&partners_lock);
}

void argo_partners_show(struct seq_file *m)
{
	const struct partner *partner;

	mutex_lock(&partners_lock);
	list_for_each_entry(partner, &partners, node)
		seq_printf(m, "partner %u%s%s%s\n", partner->domid,
			   partner->why & ARGO_PARTNER_CONFIGURED ? " configured" : "",
			   partner->why & ARGO_PARTNER_SEEN ? " seen" : "",
			   partner->why & ARGO_PARTNER_STRANGER ? " stranger" : "");
	mutex_unlock(&partners_lock);
}
