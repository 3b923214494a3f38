/* SPDX-License-Identifier: GPL-2.0-only */
/* VIRQ_ARGO and the list of open rings, for the rest of argo_core. */
#ifndef ARGOSY_BACKENDS_ARGO_LINUX_RINGS_H_
#define ARGOSY_BACKENDS_ARGO_LINUX_RINGS_H_

struct seq_file;

/* Pages of the largest ring that can be asked for: 2 MiB. */
#define ARGO_RING_MAX_PAGES 512u

/* -EBUSY: somebody else owns VIRQ_ARGO. */
int argo_virq_bind(void);
void argo_virq_unbind(void);

void argo_rings_show(struct seq_file *m);

#endif /* ARGOSY_BACKENDS_ARGO_LINUX_RINGS_H_ */
