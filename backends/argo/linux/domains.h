/* SPDX-License-Identifier: GPL-2.0-only */
/* What xenstore and Xen's toolstack tell: for argo_core's start and end. */
#ifndef ARGOSY_BACKENDS_ARGO_LINUX_DOMAINS_H_
#define ARGOSY_BACKENDS_ARGO_LINUX_DOMAINS_H_

int argo_domains_start(void);
void argo_domains_stop(void);

int argo_wildcard_start(void);
void argo_wildcard_stop(void);

#endif /* ARGOSY_BACKENDS_ARGO_LINUX_DOMAINS_H_ */
