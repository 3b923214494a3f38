// SPDX-License-Identifier: GPL-2.0-only
/* argo_core: start and end, in the order that misses no message. */
#include <linux/debugfs.h>
#include <linux/export.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <xen/xen.h>

#include "backends/argo/linux/argo_core.h"
#include "backends/argo/linux/domains.h"
#include "backends/argo/linux/partners.h"
#include "backends/argo/linux/rings.h"

struct dentry *argo_debugfs;
EXPORT_SYMBOL_GPL(argo_debugfs);

static int core_show(struct seq_file *m, void *unused)
{
	argo_rings_show(m);
	argo_partners_show(m);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(core);

/* A question that every Xen with Argo answers with 0. */
static int probe(void)
{
	int ret;

	if (!xen_domain()) {
		pr_err("argo: this machine is not a Xen domain\n");
		return -ENODEV;
	}
	ret = argo_notify(NULL, 0);
	if (ret == -ENOSYS)
		pr_err("argo: this Xen is built without CONFIG_ARGO\n");
	else if (ret == -EOPNOTSUPP)
		pr_err("argo: Argo is off; boot Xen with argo=1\n");
	else if (ret)
		pr_err("argo: Xen refuses Argo to this domain (%d)\n", ret);
	return ret ? -ENODEV : 0;
}

static int __init argo_core_init(void)
{
	int ret = probe();

	if (ret)
		return ret;
	argo_debugfs = debugfs_create_dir("argo", NULL);
	debugfs_create_file("core", 0400, argo_debugfs, NULL, &core_fops);
	/* The interrupt before the rings: whoever is told of a partner opens one. */
	ret = argo_virq_bind();
	if (ret) {
		pr_err("argo: VIRQ_ARGO is taken (%d); is another Argo driver loaded?\n", ret);
		goto remove_debugfs;
	}
	ret = argo_partners_start();
	if (ret)
		goto stop_partners; /* some may have been added */
	ret = argo_domains_start();
	if (ret)
		goto stop_partners;
	ret = argo_wildcard_start();
	if (ret)
		goto stop_domains;
	return 0;

stop_domains:
	argo_domains_stop();
stop_partners:
	argo_partners_stop();
	argo_virq_unbind();
remove_debugfs:
	debugfs_remove(argo_debugfs);
	return ret;
}

static void __exit argo_core_exit(void)
{
	/* No service is left: they hold this module. */
	argo_domains_stop(); /* a resume opens the wildcard ring */
	argo_wildcard_stop();
	argo_partners_stop();
	argo_virq_unbind();
	debugfs_remove(argo_debugfs);
}

module_init(argo_core_init);
module_exit(argo_core_exit);
MODULE_LICENSE("GPL");
MODULE_VERSION(ARGOSY_VERSION);
MODULE_DESCRIPTION("Argo rings, interrupts and partners of a Xen domain");
