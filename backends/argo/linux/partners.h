/* SPDX-License-Identifier: GPL-2.0-only */
/* The set of partners, for the rest of argo_core. */
#ifndef ARGOSY_BACKENDS_ARGO_LINUX_PARTNERS_H_
#define ARGOSY_BACKENDS_ARGO_LINUX_PARTNERS_H_

#include <linux/types.h>

struct seq_file;

/* Why a domain is a partner; a bit each. */
#define ARGO_PARTNER_CONFIGURED 1u /* the parameter partners: stays until it is taken out */
#define ARGO_PARTNER_SEEN	2u /* dom0 saw it in xenstore: forgotten with its domain */
#define ARGO_PARTNER_STRANGER	4u /* came in by the wildcard ring: forgotten likewise */

int argo_partners_start(void);
void argo_partners_stop(void);

/* 0 (also if it is one already), -ENOSPC: max_peers. */
int argo_partner_add(u16 domid, unsigned int why);
/* Tells every service to look after every partner. */
void argo_partners_check(void);
void argo_partners_resumed(void);
void argo_partners_show(struct seq_file *m);

#endif /* ARGOSY_BACKENDS_ARGO_LINUX_PARTNERS_H_ */
