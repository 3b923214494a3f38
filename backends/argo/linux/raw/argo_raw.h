/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * What a program may ask of /dev/argo_raw: pages that Xen can be told of, hypercalls, and how often
 * VIRQ_ARGO came.
 */
#ifndef ARGOSY_BACKENDS_ARGO_LINUX_RAW_ARGO_RAW_H_
#define ARGOSY_BACKENDS_ARGO_LINUX_RAW_ARGO_RAW_H_

#include <linux/ioctl.h>
#include <linux/types.h>

#ifdef __KERNEL__
__u16 argo_own_domid(void);
#endif

#define ARGO_RAW_DEVICE "/dev/argo_raw"
#define ARGO_RAW_MAX_PAGES 8192 /* of one ARGO_RAW_ALLOC */

/* Zeroed pages for one mmap() at .offset, until the device is closed. */
struct argo_raw_alloc {
	__u32 count;  /* pages of 4 KiB, 1 to ARGO_RAW_MAX_PAGES */
	__u32 pad;    /* 0 */
	__u64 gfns;   /* pointer to __u64[count]: filled with the frame numbers */
	__u64 offset; /* out: for mmap() */
};

/* argo_op with pointers of the calling process, in .arg1, .arg2 and what they point to. */
struct argo_raw_op {
	__u32 command;
	__s32 result; /* out: what Xen returned, truncated to int */
	__u64 arg1;
	__u64 arg2;
	__u64 arg3;
	__u64 arg4;
};

#define ARGO_RAW_ALLOC _IOWR('A', 1, struct argo_raw_alloc)
#define ARGO_RAW_OP _IOWR('A', 2, struct argo_raw_op)
/* VIRQ_ARGO interrupts since the last call or, the first time, since open(): every one that Xen
 * raised before this call, even if this domain had not taken it yet.
 */
#define ARGO_RAW_INTERRUPTS _IOR('A', 3, __u64)
/* This domain's id, from xenstore. */
#define ARGO_RAW_DOMID _IOR('A', 4, __u16)

#endif /* ARGOSY_BACKENDS_ARGO_LINUX_RAW_ARGO_RAW_H_ */
