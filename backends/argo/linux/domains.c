// SPDX-License-Identifier: GPL-2.0-only
/*
 * Domains come and go: our own number, dom0's watches, and what follows a restore.
 *
 * Only dom0 is told by xenstore of domains that appear (@introduceDomain) and disappear
 * (@releaseDomain).  A guest has a list of partners and looks after them each second.
 */
#include <linux/kernel.h>
#include <linux/moduleparam.h>
#include <linux/notifier.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/workqueue.h>
#include <xen/xen.h>
#include <xen/xenbus.h>

#include "backends/argo/linux/argo_core.h"
#include "backends/argo/linux/domains.h"
#include "backends/argo/linux/partners.h"

static bool auto_partners = true;
module_param(auto_partners, bool, 0444);
MODULE_PARM_DESC(auto_partners, "in dom0, every domain that appears becomes a partner (default 1)");

static u16 own_domid;

u16 argo_own_domid(void)
{
	return READ_ONCE(own_domid);
}
EXPORT_SYMBOL_GPL(argo_own_domid);

static int read_own_domid(void)
{
	unsigned int domid = 0;

	/* dom0 is 0, and its xenstore may start after us. */
	if (!xen_initial_domain() &&
	    (xenbus_scanf(XBT_NIL, "domid", "", "%u", &domid) != 1 || domid >= ARGO_DOMID_SELF)) {
		pr_err("argo: xenstore does not tell this domain's number\n");
		return -ENODEV;
	}
	WRITE_ONCE(own_domid, domid);
	return 0;
}

/* ---- dom0's watches ---- */

static void take_new_domains(struct work_struct *work)
{
	unsigned int count, i, domid;
	char **names;

	names = xenbus_directory(XBT_NIL, "/local/domain", "", &count);
	if (IS_ERR(names)) {
		pr_warn_ratelimited("argo: xenstore does not list the domains (%ld)\n",
				    PTR_ERR(names));
		return;
	}
	for (i = 0; i < count; i++) {
		if (kstrtouint(names[i], 10, &domid) == 0 && domid != 0 && domid < ARGO_DOMID_SELF)
			argo_partner_add(domid, ARGO_PARTNER_SEEN);
	}
	kfree(names);
}

static void check_partners(struct work_struct *work)
{
	argo_partners_check();
}

/* Not in the watches' own thread: every device of every guest waits for that one. */
static DECLARE_WORK(introduce_work, take_new_domains);
static DECLARE_WORK(release_work, check_partners);

static void on_introduce(struct xenbus_watch *watch, const char *path, const char *token)
{
	schedule_work(&introduce_work);
}

static void on_release(struct xenbus_watch *watch, const char *path, const char *token)
{
	schedule_work(&release_work);
}

static struct xenbus_watch introduce_watch = {
	.node = "@introduceDomain",
	.callback = on_introduce,
};

static struct xenbus_watch release_watch = {
	.node = "@releaseDomain",
	.callback = on_release,
};

static bool watches_introduce, watches_release;

static int on_xenstore_up(struct notifier_block *self, unsigned long event, void *data)
{
	if (auto_partners)
		watches_introduce = register_xenbus_watch(&introduce_watch) == 0;
	watches_release = register_xenbus_watch(&release_watch) == 0;
	if (!watches_release || watches_introduce != auto_partners)
		pr_err("argo: xenstore takes no watches; partners must be configured\n");
	return NOTIFY_DONE;
}

/* Called at once if xenstore is up already. */
static struct notifier_block xenstore_notifier = { .notifier_call = on_xenstore_up };

/* ---- suspend and resume ---- */

static void after_resume(struct work_struct *work);
static DECLARE_DELAYED_WORK(resume_work, after_resume);

static void after_resume(struct work_struct *work)
{
	if (read_own_domid()) {
		schedule_delayed_work(&resume_work, HZ); /* without it nothing works */
		return;
	}
	argo_wildcard_stop();
	argo_wildcard_start();
	argo_partners_resumed();
}

/*
 * A device without hardware: what every kernel tells its devices of a restore, when xenstore
 * answers again.  Xen's own notifier cannot be unregistered on newer kernels.
 */
static int on_restore(struct device *device)
{
	schedule_delayed_work(&resume_work, 0);
	return 0;
}

static const struct dev_pm_ops restore_ops = { .restore = on_restore };
static struct platform_driver restore_driver = { .driver = { .name = "argo", .pm = &restore_ops } };
static struct platform_device *restore_device;

static int restore_start(void)
{
	int ret = platform_driver_register(&restore_driver);

	if (ret)
		return ret;
	restore_device = platform_device_register_simple("argo", PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(restore_device)) {
		platform_driver_unregister(&restore_driver);
		return PTR_ERR(restore_device);
	}
	return 0;
}

static void restore_stop(void)
{
	platform_device_unregister(restore_device);
	platform_driver_unregister(&restore_driver);
	cancel_delayed_work_sync(&resume_work);
}

/* ---- start and end ---- */

int argo_domains_start(void)
{
	int ret = read_own_domid();

	if (ret)
		return ret;
	ret = restore_start();
	if (ret)
		return ret;
	if (xen_initial_domain())
		register_xenstore_notifier(&xenstore_notifier);
	return 0;
}

void argo_domains_stop(void)
{
	if (xen_initial_domain())
		unregister_xenstore_notifier(&xenstore_notifier);
	if (watches_introduce)
		unregister_xenbus_watch(&introduce_watch);
	if (watches_release)
		unregister_xenbus_watch(&release_watch);
	cancel_work_sync(&introduce_work);
	cancel_work_sync(&release_work);
	restore_stop();
}
