/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * An Argo ring in memory: reading one safely (a guest), and filling one exactly as Xen does (the
 * simulator).
 *
 * The way of a message.  A ring is a 64-byte header and `len` bytes of data, cut in slots of 16.
 * Xen writes a 16-byte message header at tx_ptr (it never wraps: tx_ptr is a multiple of 16), then
 * the payload, which may wrap, rounds tx_ptr up to the next slot and publishes it.  The owner reads
 * at rx_ptr and publishes rx_ptr when it has taken the payload out; only then is the space free.
 * One slot always stays free, so rx_ptr == tx_ptr means empty.
 *
 *     | header 64 |....[msg hdr 16][payload .... pad to 16][msg hdr 16]..|
 *                      ^ rx_ptr                                          ^ tx_ptr
 *
 * Freestanding C: no libc but memcpy, no allocation.  Locking: one caller at a time for each ring
 * object (reader or writer); the two sides of one ring need no common lock.
 *
 * Source: spec of the Argo ABI, sections "Space arithmetic" and "Memory ordering"; tests C11, C16,
 * C17, C22, C23, C30.
 */
#ifndef ARGOSY_BACKENDS_ARGO_CORE_RING_H_
#define ARGOSY_BACKENDS_ARGO_CORE_RING_H_

#include "backends/argo/abi/argo.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Errors of this folder are negative; the values are Linux's, so that the kernel may return them as
 * they are. */
#define ARGO_ESRCH 3
#define ARGO_EAGAIN 11
#define ARGO_ENOMEM 12
#define ARGO_EFAULT 14
#define ARGO_EBUSY 16
#define ARGO_EEXIST 17
#define ARGO_ENODEV 19
#define ARGO_EINVAL 22
#define ARGO_ENOSPC 28
#define ARGO_EPROTO 71
#define ARGO_EMSGSIZE 90
#define ARGO_ENOBUFS 105
#define ARGO_ECONNRESET 104
#define ARGO_ECONNREFUSED 111

/* ---- the owner's side: reading ---- */

struct argo_ring_reader {
  struct argo_ring_header* header;
  const uint8_t* data; /* header + 64 */
  uint32_t len;        /* bytes of data: a multiple of 16, at least ARGO_MIN_RING_SIZE */
  uint32_t rx_ptr;     /* our own copy: what stands in the page is never believed */
};

/* One message, lying in the ring.  The payload is seg[0] followed by seg[1] (empty unless it
 * wraps). */
struct argo_ring_message {
  struct argo_addr src; /* domid is Xen's word; the port is the sender's claim */
  uint32_t type;
  uint32_t len; /* payload bytes: seg[0].len + seg[1].len */
  struct {
    const uint8_t* data;
    uint32_t len;
  } seg[2];
};

/*
 * Starts to read the ring at `memory` (header first, contiguous, header + len bytes, 8-byte
 * aligned), at the rx_ptr found there if that is sane, else at 0.  0, or -ARGO_EINVAL for a bad
 * len.
 */
int argo_ring_reader_init(struct argo_ring_reader* reader, void* memory, uint32_t len);

/*
 * Looks at the next message.  1: *message is filled and stays valid until argo_ring_release(); 0:
 * the ring is empty; -ARGO_EPROTO: rx_ptr is not what we wrote, tx_ptr or the message's length
 * cannot be.  Somebody scribbled over the page: Xen may have written over what was not read, or wait
 * for space for ever, and where the next message begins nobody knows.  Give the ring up.  Each word of
 * the page is fetched once.  The payload itself is not checked and may change under a hostile
 * owner: a caller that parses it copies first.
 */
int argo_ring_peek(struct argo_ring_reader* reader, struct argo_ring_message* message);

/* Frees the space of the message that argo_ring_peek() showed last.  Xen sees it at its next send
 * or notify; only a notify by the owner wakes senders that wait (test C18). */
void argo_ring_release(struct argo_ring_reader* reader, const struct argo_ring_message* message);

/*
 * Bytes in the ring as Xen counts them.  Behind argo_ring_release() this sees every message that Xen
 * had put into the ring before it saw the release: what Xen refused before that, it refused for want
 * of less than len - (this + the released bytes).
 */
uint32_t argo_ring_used(const struct argo_ring_reader* reader);

/* ---- Xen's side: filling ---- */

struct argo_ring_writer {
  struct argo_ring_header* header;
  uint8_t* data;
  uint32_t len;
  uint32_t tx_ptr; /* authoritative: what the owner writes into the page is ignored */
};

/* Takes over the ring at `memory` with Xen's rule for initial pointers: a tx_ptr in the page that
 * is in range and aligned is kept, else rx_ptr rounded up, or 0.  `len` was checked by the caller.
 */
void argo_ring_writer_init(struct argo_ring_writer* writer, void* memory, uint32_t len);

/* Largest payload that fits now: (free bytes) - 32, at least 0.  An empty ring: len - 32. */
uint32_t argo_ring_writer_space(const struct argo_ring_writer* writer);

/* What an insert of `len` payload bytes would answer: 0, -ARGO_EMSGSIZE (never fits in this ring),
 * -ARGO_EAGAIN (not now). */
int argo_ring_writer_admits(const struct argo_ring_writer* writer, uint32_t len);

/*
 * Inserts one message whose payload is the `niov` pieces (bases are pointers that the caller has
 * checked; the sum of the lengths is `len`, at most ARGO_MAX_MESSAGE_SIZE).  Answers as
 * argo_ring_writer_admits(); nothing is written on an error.
 */
int argo_ring_writer_insert(struct argo_ring_writer* writer, struct argo_addr src, uint32_t type,
                            const struct argo_iov* iov, uint32_t niov, uint32_t len);

#ifdef __cplusplus
}
#endif

#endif /* ARGOSY_BACKENDS_ARGO_CORE_RING_H_ */
