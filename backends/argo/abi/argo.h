/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * The Argo hypercall interface of Xen: numbers and layouts of x86-64 (and Arm 64).
 *
 * Facts of Xen's public interface under our own names, because Linux's headers have none of it and
 * Xen's own header clashes with them.  abi_test.cc compares every line with the header of Debian's
 * libxen-dev.
 */
#ifndef ARGOSY_BACKENDS_ARGO_ABI_ARGO_H_
#define ARGOSY_BACKENDS_ARGO_ABI_ARGO_H_

#ifdef __KERNEL__
#include <linux/types.h>
#else
#include <stddef.h>
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

/* Rounds up to a slot.  Exact for every length that Argo accepts; wraps for the last 15 values of
 * uint32_t. */
static inline uint32_t argo_slots(uint32_t len) {
  return (len + ARGO_SLOT_SIZE - 1) & ~(ARGO_SLOT_SIZE - 1);
}

/* Pages of 4 KiB that a ring of len bytes and its header take. */
static inline uint32_t argo_ring_pages(uint32_t len) {
  return (argo_slots(len) + ARGO_RING_HEADER_SIZE + 4095u) / 4096u;
}

/* ---- the layouts above, checked in every translation unit of C and C++ ---- */

#ifdef __cplusplus
#define ARGO_ASSERT(condition) static_assert(condition, #condition)
#else
#define ARGO_ASSERT(condition) _Static_assert(condition, #condition)
#endif
#define ARGO_ASSERT_SIZE(type, size) ARGO_ASSERT(sizeof(struct type) == (size))
#define ARGO_ASSERT_AT(type, field, at) ARGO_ASSERT(__builtin_offsetof(struct type, field) == (at))

/* The rings, and all that Argosy sends in them, are little endian. */
ARGO_ASSERT(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);

ARGO_ASSERT_SIZE(argo_iov, 16);
ARGO_ASSERT_AT(argo_iov, base, 0);
ARGO_ASSERT_AT(argo_iov, len, 8);
ARGO_ASSERT_AT(argo_iov, pad, 12);
ARGO_ASSERT_SIZE(argo_addr, 8);
ARGO_ASSERT_AT(argo_addr, port, 0);
ARGO_ASSERT_AT(argo_addr, domid, 4);
ARGO_ASSERT_AT(argo_addr, pad, 6);
ARGO_ASSERT_SIZE(argo_send_addr, 16);
ARGO_ASSERT_AT(argo_send_addr, src, 0);
ARGO_ASSERT_AT(argo_send_addr, dst, 8);
ARGO_ASSERT_SIZE(argo_ring_header, ARGO_RING_HEADER_SIZE);
ARGO_ASSERT_AT(argo_ring_header, rx_ptr, 0);
ARGO_ASSERT_AT(argo_ring_header, tx_ptr, 4);
ARGO_ASSERT_AT(argo_ring_header, reserved, 8);
ARGO_ASSERT_SIZE(argo_register_ring, 12);
ARGO_ASSERT_AT(argo_register_ring, port, 0);
ARGO_ASSERT_AT(argo_register_ring, partner, 4);
ARGO_ASSERT_AT(argo_register_ring, pad, 6);
ARGO_ASSERT_AT(argo_register_ring, len, 8);
ARGO_ASSERT_SIZE(argo_unregister_ring, 8);
ARGO_ASSERT_AT(argo_unregister_ring, port, 0);
ARGO_ASSERT_AT(argo_unregister_ring, partner, 4);
ARGO_ASSERT_AT(argo_unregister_ring, pad, 6);
ARGO_ASSERT_SIZE(argo_ring_data_ent, 20);
ARGO_ASSERT_AT(argo_ring_data_ent, ring, 0);
ARGO_ASSERT_AT(argo_ring_data_ent, flags, 8);
ARGO_ASSERT_AT(argo_ring_data_ent, pad, 10);
ARGO_ASSERT_AT(argo_ring_data_ent, space_required, 12);
ARGO_ASSERT_AT(argo_ring_data_ent, max_message_size, 16);
ARGO_ASSERT_SIZE(argo_ring_data, 8);
ARGO_ASSERT_AT(argo_ring_data, nent, 0);
ARGO_ASSERT_AT(argo_ring_data, pad, 4);
ARGO_ASSERT_SIZE(argo_message_header, ARGO_MESSAGE_HEADER_SIZE);
ARGO_ASSERT_AT(argo_message_header, len, 0);
ARGO_ASSERT_AT(argo_message_header, src, 4);
ARGO_ASSERT_AT(argo_message_header, type, 12);

#endif /* ARGOSY_BACKENDS_ARGO_ABI_ARGO_H_ */
