/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * The Argo hypercall interface of Xen: numbers and layouts of x86-64 (and Arm 64).
 *
 * Facts of Xen's public interface under our own names, because Linux's headers have none of it and Xen's own header
 * clashes with them.  abi_test.cc compares every line with the header of Debian's libxen-dev.
 */
#ifndef ARGOSY_BACKENDS_ARGO_ABI_ARGO_H_
#define ARGOSY_BACKENDS_ARGO_ABI_ARGO_H_

#ifdef __KERNEL__
#include <linux/types.h>
#else
#include <stdint.h>
#endif

#define ARGO_HYPERCALL 39 /* __HYPERVISOR_argo_op: command and four arguments */
#define ARGO_VIRQ 11      /* VIRQ_ARGO: global, delivered to vCPU 0 */

#define ARGO_OP_REGISTER_RING 1
#define ARGO_OP_UNREGISTER_RING 2
#define ARGO_OP_SENDV 3
#define ARGO_OP_NOTIFY 4

#define ARGO_DOMID_ANY 0x7FF4u
#define ARGO_DOMID_SELF 0x7FF0u /* not translated by Argo: answers ESRCH */

#define ARGO_SLOT_SIZE 16u
#define ARGO_RING_HEADER_SIZE 64u
#define ARGO_MESSAGE_HEADER_SIZE 16u
#define ARGO_MAX_IOV 8u

/* Bytes of ring[]; the 64-byte header comes on top. */
#define ARGO_MIN_RING_SIZE 48u
#define ARGO_MAX_RING_SIZE 0x1000000u
/* What can really be registered: one page more than 4096 is refused. */
#define ARGO_MAX_USABLE_RING_SIZE (ARGO_MAX_RING_SIZE - ARGO_RING_HEADER_SIZE)
#define ARGO_MAX_MESSAGE_SIZE (ARGO_MAX_RING_SIZE - ARGO_SLOT_SIZE - ARGO_MESSAGE_HEADER_SIZE)

/* Limits of the implementation (xen/common/argo.c), not of the interface. */
#define ARGO_MAX_RINGS_PER_DOMAIN 128u
#define ARGO_MAX_PENDING_PER_RING 32u
#define ARGO_MAX_NOTIFY_ENTRIES 256u

#define ARGO_REGISTER_FLAG_FAIL_EXIST 0x1u

#define ARGO_RING_EXISTS 0x01u
#define ARGO_RING_SHARED 0x02u /* the wildcard ring matched */
#define ARGO_RING_EMPTY 0x04u
#define ARGO_RING_SUFFICIENT 0x08u
#define ARGO_RING_EMSGSIZE 0x10u
#define ARGO_RING_EBUSY 0x20u /* not queued: no wake-up will come */

struct argo_iov {
  uint64_t base;
  uint32_t len;
  uint32_t pad; /* 0 */
};

struct argo_addr {
  uint32_t port;
  uint16_t domid;
  uint16_t pad; /* 0 */
};

struct argo_send_addr {
  struct argo_addr src;
  struct argo_addr dst;
};

struct argo_ring_header {
  uint32_t rx_ptr; /* written by the owner */
  uint32_t tx_ptr; /* written by Xen */
  uint8_t reserved[56];
};

struct argo_register_ring {
  uint32_t port;
  uint16_t partner;
  uint16_t pad;
  uint32_t len;
};

struct argo_unregister_ring {
  uint32_t port;
  uint16_t partner;
  uint16_t pad;
};

struct argo_ring_data_ent {
  struct argo_addr ring;
  uint16_t flags;
  uint16_t pad;
  uint32_t space_required;
  uint32_t max_message_size;
};

/* Followed by nent entries. */
struct argo_ring_data {
  uint32_t nent;
  uint32_t pad;
};

struct argo_message_header {
  uint32_t len; /* includes these 16 bytes */
  struct argo_addr src;
  uint32_t type;
};

/* Rounds up to a slot.  Exact for every length that Argo accepts; wraps for the last 15 values of uint32_t. */
static inline uint32_t argo_slots(uint32_t len) {
  return (len + ARGO_SLOT_SIZE - 1) & ~(ARGO_SLOT_SIZE - 1);
}

/* Pages of 4 KiB that a ring of len bytes and its header take. */
static inline uint32_t argo_ring_pages(uint32_t len) {
  return (argo_slots(len) + ARGO_RING_HEADER_SIZE + 4095u) / 4096u;
}

#endif /* ARGOSY_BACKENDS_ARGO_ABI_ARGO_H_ */
