/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * The Argo link: carries virtio-vsock packets between this domain and its partners.
 * docs/protocol.md has the bytes.
 *
 * The way of a packet.  argo_link_send() hands it to Xen as iovs at once; when the partner's ring
 * is full the link keeps the caller's cookie in that peer's queue, and argo_link_interrupt() or
 * argo_link_timer() sends it later.  On the other side argo_link_interrupt() reads the ring that is
 * registered for that one partner and calls ops->deliver() with the payload still in the ring.
 *
 * The life of a peer:
 *
 *     ABSENT --add--> UNKNOWN --ring--> GREETING --both heard--> READY <--> BLOCKED
 *                        ^                  |                      |           |
 *                        +------ LOST ------+----------------------+-----------+
 *
 *   UNKNOWN   no ring yet: the partner does not exist (ESRCH) or has no Argo.  Tried again every
 *             second, the first time ARGO_LINK_RETRY_MS after a loss (so that a partner that keeps
 *             changing its incarnation costs us ten rings a second at most).
 *   GREETING  our ring stands; our greeting is sent each second until the partner has answered it.
 *   READY     packets flow.   BLOCKED: READY, but the queue is not empty.
 *   LOST      the partner's ring is gone, or its incarnation number changed, or our ring is gone or
 *             corrupt: ops->peer_lost() was called; back to UNKNOWN within the same call.
 *
 * The greetings.  A greeting says who we are now (incarnation) and whom we heard (heard).  One that
 * brings news, or whose sender has not heard our incarnation, is answered with one of ours; others
 * are not, so two links never answer each other for ever.  A side is READY when it has heard the
 * partner, the partner has heard it, and it has told the partner so; packets follow in the same
 * ring, so they always find the partner READY.  A session never changes its incarnations: a READY
 * side that sees another one, or loses the partner any other way, starts again with a new ring and
 * a new number, and by that number the partner knows.
 *
 * Bounds: one ring per partner; a queue of ARGO_LINK_QUEUE packets per peer, of which the last
 * ARGO_LINK_REPLIES places are for replies only; a receive budget per peer and call; one answer per
 * greeting, none for junk.  So no domain can fill or stall another's.  Nobody waits for space on a
 * wildcard ring: where Xen says that one matched (SHARED), it takes greetings while EMPTY, else
 * none.
 *
 * Xen does not wake everybody (a ring that vanishes wakes nobody, EBUSY queued no wake-up): hence
 * the timers.
 *
 * Freestanding C, no allocation: the caller supplies struct argo_link and its peers.  Locking:
 * every function here wants one lock, held by the caller; ops are called under it and must not call
 * back into the link, except argo_link_send() from deliver(), peer_ready() and writable().  A loss
 * that such a send meets is only noted: the ring is closed and peer_lost() called when the callback
 * has returned, so what a callback looks at never vanishes under it.
 */
#ifndef ARGOSY_BACKENDS_ARGO_CORE_LINK_H_
#define ARGOSY_BACKENDS_ARGO_CORE_LINK_H_

#include "backends/argo/abi/argo.h"
#include "backends/argo/core/ring.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- wire format ---- */

#define ARGO_LINK_PORT 0x41524759u          /* "ARGY": one Argo port for the link */
#define ARGO_LINK_TYPE_GREETING 0x41524701u /* payload: struct argo_link_greeting */
#define ARGO_LINK_TYPE_PACKET 0x41524702u   /* payload: virtio-vsock header, then at most 64 KiB */
#define ARGO_LINK_VERSION 1u
#define ARGO_LINK_PACKET_HEADER 44u
#define ARGO_LINK_MAX_PAYLOAD 65536u
/* A greeting that offers less is not answered: a largest message in such packets would not fit into the queue. */
#define ARGO_LINK_MIN_PAYLOAD 2048u
#define ARGO_LINK_MAX_MESSAGE (ARGO_LINK_PACKET_HEADER + ARGO_LINK_MAX_PAYLOAD)

/* All little endian.  40 bytes. */
struct argo_link_greeting {
  uint16_t version_min; /* lowest version spoken ... */
  uint16_t version_max; /* ... and highest; the session uses the highest common one */
  uint32_t features;    /* bit set; a session has the common ones */
  uint32_t max_payload; /* largest packet payload that fits into the sender's ring */
  uint32_t reserved;    /* 0, ignored */
  uint64_t incarnation; /* random, never 0, new for each session of the sender with this peer */
  uint64_t heard;       /* the receiver's incarnation as the sender knows it, or 0 */
  uint64_t reserved2;   /* 0, ignored */
};

/* ---- limits, with their reasons ---- */

/* Packets that wait for one partner's ring.  User space sends data only while the queue is empty,
 * so it holds replies and one burst; the kernel's socket layer is bounded by credit and sees
 * -ARGO_ENOBUFS beyond. */
#define ARGO_LINK_QUEUE 256u
/* Places at the end of the queue that only replies (resets, responses, credit) may take: data never
 * starves them. */
#define ARGO_LINK_REPLIES 64u
/* Bytes read from one partner's ring in one pass, then the next partner has its turn. */
#define ARGO_LINK_BUDGET (4u * ARGO_LINK_MAX_MESSAGE)
/* Milliseconds: again after EBUSY or ENOMEM, or when a wake-up may have been lost. */
#define ARGO_LINK_RETRY_MS 100u
/* Milliseconds: between two looks at whether partner and rings still exist, and two tries to
 * register or to greet. */
#define ARGO_LINK_PROBE_MS 1000u

/* ---- the objects ---- */

enum argo_peer_state {
  ARGO_PEER_ABSENT = 0,
  ARGO_PEER_UNKNOWN,
  ARGO_PEER_GREETING,
  ARGO_PEER_READY,
  ARGO_PEER_BLOCKED,
};

struct argo_peer_counters {
  uint64_t tx_messages, tx_bytes;
  uint64_t rx_messages, rx_bytes;
  uint64_t full;          /* sendv answered EAGAIN */
  uint64_t busy;          /* sendv answered EBUSY or ENOMEM: no wake-up was queued */
  uint64_t queued;        /* packets that had to wait */
  uint64_t blocked;       /* READY became BLOCKED */
  uint64_t wakes;         /* BLOCKED became READY: writable() was called */
  uint64_t queue_refused; /* -ARGO_ENOBUFS: the queue's limit was hit */
  uint64_t probes;
  uint64_t lost;           /* sessions that ended */
  uint64_t drop_corrupt;   /* our ring cannot be read: the session ended */
  uint64_t drop_source;    /* stamped with another domain, or from another port */
  uint64_t drop_type;      /* unknown message type */
  uint64_t drop_length;    /* greeting or packet of an impossible length */
  uint64_t drop_not_ready; /* packet before the greetings */
  uint64_t
      drop_version; /* greeting without a common version, incarnation 0 or too small a payload */
};

struct argo_peer {
  uint16_t domid;
  uint8_t state;        /* enum argo_peer_state */
  uint8_t greet_again;  /* GREETING, and Xen promised to wake us when the greeting fits */
  uint8_t met;          /* the partner has heard `incarnation` */
  uint8_t ask;          /* wants a place in the next notify */
  uint8_t doomed;       /* lost in a callback: ends when that returns */
  uint8_t more;         /* the last pass stopped at its budget */
  uint32_t features;    /* common to both; valid while READY or BLOCKED */
  uint32_t max_payload; /* what the partner accepts, at most ARGO_LINK_MAX_PAYLOAD */
  uint64_t incarnation; /* ours for this session, 0 without a ring */
  uint64_t heard;       /* the partner's, 0 until heard */
  uint64_t told;        /* `heard` as our last greeting said it */
  uint64_t retry_at_ms; /* 0: nothing to try again */
  uint64_t probe_at_ms;
  struct argo_ring_reader ring;
  uint32_t queue_head, queue_count;
  void* queue[ARGO_LINK_QUEUE];
  struct argo_peer_counters count;
};

struct argo_link;

/* What the link asks of its surroundings.  `ctx` is argo_link.ctx.  Hypercalls answer as Xen does,
 * truncated to int. */
struct argo_link_ops {
  /* sendv from (own domain, ARGO_LINK_PORT) to (dst, ARGO_LINK_PORT); payload length or a negative
   * error */
  int (*sendv)(void* ctx, uint16_t dst, uint32_t type, const struct argo_iov* iov, uint32_t niov);
  /* notify with n entries (at most ARGO_MAX_NOTIFY_ENTRIES); 0 entries: only wake the senders that
   * wait for us */
  int (*notify)(void* ctx, struct argo_ring_data_ent* entries, uint32_t n);
  /* Allocates and registers (FAIL_EXIST) the ring for `partner`, and fills *reader.  0 or a
   * negative error. */
  int (*ring_open)(void* ctx, uint16_t partner, struct argo_ring_reader* reader);
  /* Unregisters (an ENOENT is normal) and frees. */
  void (*ring_close)(void* ctx, uint16_t partner, struct argo_ring_reader* reader);
  /* Whether the ring is still registered: 1, or 0 if Xen dropped it with the partner.  A
   * registration with FAIL_EXIST that is refused with EEXIST is the one question that tells; a
   * domain with 128 rings gets ENOSPC instead and must take that for a 1. */
  int (*ring_alive)(void* ctx, uint16_t partner, struct argo_ring_reader* reader);
  /* A random number, not 0. */
  uint64_t (*random)(void* ctx);

  /* The iovs of a queued packet, header first; their number. */
  uint32_t (*describe)(void* ctx, void* cookie, struct argo_iov iov[ARGO_MAX_IOV]);
  /* A queued packet left the queue: status 0 (sent), -ARGO_ECONNRESET (its session ended), or what
   * Xen said of one that can never go (-ARGO_EMSGSIZE: the partner has a smaller ring now). */
  void (*done)(void* ctx, void* cookie, int status);

  /* One packet from `src`: message->len is at least 44 and at most ARGO_LINK_MAX_MESSAGE.  Nothing
   * else was checked. */
  void (*deliver)(void* ctx, uint16_t src, const struct argo_ring_message* message);
  void (*peer_ready)(void* ctx, uint16_t domid);
  /* After ring_close() and after done() for every queued packet: nothing of the session is left. */
  void (*peer_lost)(void* ctx, uint16_t domid);
  /* The queue of a BLOCKED peer has emptied: it is READY again. */
  void (*writable)(void* ctx, uint16_t domid);
};

struct argo_link {
  const struct argo_link_ops* ops;
  void* ctx;
  uint16_t own_domid;
  uint32_t features;
  struct argo_peer* peers; /* max_peers places */
  uint32_t max_peers;
  uint32_t used;       /* no place from here on was ever taken */
  uint8_t in_callback; /* deliver(), peer_ready() or writable() runs */
  uint8_t doomed;      /* some peer is */
  /* One notify's entries and the peers they ask about: too large for a kernel stack. */
  struct argo_ring_data_ent entries[ARGO_MAX_NOTIFY_ENTRIES];
  uint32_t asked[ARGO_MAX_NOTIFY_ENTRIES];
};

/* ---- functions ---- */

/* `peers` is an array of max_peers places that lives as long as the link; it is cleared.  VIRQ_ARGO
 * must be bound before.  `features` starts as 0; set it before the first argo_link_add_peer(). */
void argo_link_init(struct argo_link* link, const struct argo_link_ops* ops, void* ctx,
                    uint16_t own_domid, struct argo_peer* peers, uint32_t max_peers);

/* Closes every ring and drops every queue (done() with -ARGO_ECONNRESET); calls no peer_lost(). */
void argo_link_fini(struct argo_link* link);

/* Makes `domid` a partner and starts to greet it.  0, -ARGO_EEXIST, -ARGO_ENOSPC (no place),
 * -ARGO_EINVAL (a domid that Argo cannot address). */
int argo_link_add_peer(struct argo_link* link, uint16_t domid, uint64_t now_ms);

/* Ends the session (peer_lost() if it was ready) and forgets the partner.  0 or -ARGO_ENODEV. */
int argo_link_remove_peer(struct argo_link* link, uint16_t domid);

/* The partner is known to be dead (dom0's xenstore watch): as if a probe had found it.  0 or
 * -ARGO_ENODEV.  Our ring is closed; if the partner lives after all, a new session follows. */
int argo_link_peer_gone(struct argo_link* link, uint16_t domid, uint64_t now_ms);

/* The peer's record, to look at; NULL if it is no partner. */
const struct argo_peer* argo_link_peer(const struct argo_link* link, uint16_t domid);

enum argo_send_class {
  ARGO_SEND_DATA,
  ARGO_SEND_REPLY,
};

/*
 * Sends one packet: header first, niov 1 to 8, at least 44 and at most 44 + the peer's max_payload
 * bytes.
 *
 *   0                 Xen has it, the cookie was not kept.
 *   1                 It waits in the queue: the iovs are forgotten, the cookie is kept until
 *                     done().
 *   -ARGO_ENODEV      No such partner, or no session with it.
 *   -ARGO_ENOBUFS     The queue is full for this class.
 *   -ARGO_EMSGSIZE    Longer than the peer accepts, or than its ring can ever hold.
 *   -ARGO_EINVAL      Shorter than a packet header, or niov out of range.
 *   -ARGO_ECONNRESET  The session ended in this call.
 *   other negative    What Xen said.
 *
 * On an error the cookie was not kept.
 */
int argo_link_send(struct argo_link* link, uint16_t dst, enum argo_send_class send_class,
                   const struct argo_iov* iov, uint32_t niov, void* cookie, uint64_t now_ms);

/* VIRQ_ARGO, or any time that rings may hold something: reads every ring within its budget, sends
 * what waits.  1 if a budget ended before its ring did (call again), else 0. */
int argo_link_interrupt(struct argo_link* link, uint64_t now_ms);

/* Registers, greets, retries and probes what is due; a probe also reads the ring, for an interrupt
 * may have been lost.  Returns argo_link_due_ms(). */
uint64_t argo_link_timer(struct argo_link* link, uint64_t now_ms);

/* When argo_link_timer() has work next, or UINT64_MAX without a partner.  Every call above can
 * bring it nearer: ask again after it, or call the timer each ARGO_LINK_RETRY_MS. */
uint64_t argo_link_due_ms(const struct argo_link* link);

#ifdef __cplusplus
}
#endif

#endif /* ARGOSY_BACKENDS_ARGO_CORE_LINK_H_ */
