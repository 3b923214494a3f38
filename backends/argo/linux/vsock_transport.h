/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vsock_argo_transport: AF_VSOCK between Xen domains.
 *
 * Sockets, credit, half-close and sequenced packets are the kernel's own virtio_transport_*
 * functions; this module carries their packets.  docs/protocol.md has the bytes.
 *
 * The way of a packet out: virtio_transport_send_pkt_info() -> argo_vsock_send() -> the link of the
 * packet's peer (backends/argo/core/link.c) -> Xen, in the caller's own context.  A packet that
 * finds the partner's ring full waits in the link's queue, and the peer's worker sends it.  The way
 * in: interrupt -> the peer's worker -> link -> deliver() copies the packet out of the ring into an
 * skb -> when the peer's lock is free again, virtio_transport_recv_pkt(), which takes the socket's.
 *
 * Locks: a socket's lock (lock_sock), then a peer's mutex.  So nothing that takes a socket's lock
 * happens under a peer's: it goes through the peer's rx queue.
 */
#ifndef ARGOSY_BACKENDS_ARGO_LINUX_VSOCK_TRANSPORT_H_
#define ARGOSY_BACKENDS_ARGO_LINUX_VSOCK_TRANSPORT_H_

#include <linux/completion.h>
#include <linux/kref.h>
#include <linux/ktime.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/skbuff.h>
#include <linux/virtio_vsock.h>
#include <linux/workqueue.h>
#include <net/af_vsock.h>

#include "backends/argo/core/link.h"
#include "backends/argo/linux/argo_core.h"

/* Our packet type: virtio-vsock has STREAM (1) and SEQPACKET (2). */
#define ARGO_VSOCK_TYPE_DGRAM 3

/* Smaller packets are counted one by one at the receiver; above, credit alone bounds what a socket
 * may have to keep.
 */
#define ARGO_VSOCK_SMALL SKB_TRUESIZE(0)

/* In a peer's rx queue only, never on the wire: ECONNRESET, for one connection or for all. */
#define ARGO_VSOCK_OP_RESET VIRTIO_VSOCK_OP_INVALID

/* One partner: a link with one peer, so that nobody waits for another's partner. */
struct argo_vsock_peer {
	u16 domid;
	u32 ring_size;
	bool removed; /* under lock */
	struct kref refs;
	struct rcu_head rcu;

	struct mutex lock; /* the link, the ring, and the two queues of what is to be sent */
	struct argo_link link;
	struct argo_peer slot;
	struct argo_ring ring;
	u64 timer_at_ms;
	bool wake; /* the ring has room again, and senders have not been told */
	bool kick; /* the rx queue has something that rx_work may not know of */
	struct sk_buff_head requests; /* connects that wait for the greetings */
	struct sk_buff_head overflow; /* what the link's queue refused, and all behind it */

	struct sk_buff_head rx;     /* read by rx_work, and by end_work behind it */
	atomic_t rx_memory;         /* that it takes */
	struct work_struct rx_work; /* drains the ring, then the rx queue */
	struct delayed_work timer;
	struct work_struct end_work; /* behind both, when the partner is removed */
	struct completion ended;

	u64 drop_header, drop_reply, drop_memory; /* under lock */
	u64 overflow_refused, credit_merged;      /* likewise */
	u64 reset_lost;                           /* likewise */
	u64 drop_dgram, drop_flood;               /* of rx_work */
};

static inline u16 argo_op(const struct sk_buff *skb)
{
	return le16_to_cpu(((struct virtio_vsock_hdr *)skb->head)->op);
}

static inline bool argo_is_dgram(const struct sk_buff *skb)
{
	return le16_to_cpu(((struct virtio_vsock_hdr *)skb->head)->type) == ARGO_VSOCK_TYPE_DGRAM;
}

/* As of the last tick: each packet asks, and where the time stamp counter traps, a finer clock
 * costs more than all else here.
 */
static inline u64 argo_vsock_now_ms(void)
{
	return ktime_to_ms(ktime_get_coarse());
}

/* ---- vsock_peers.c ---- */

int argo_vsock_peers_init(void);
void argo_vsock_peers_exit(void);

/* Sends or queues; the skb is consumed.  Its length, or -ENODEV: no such partner or no session. */
int argo_vsock_send(struct sk_buff *skb);
/* Whether data for this CID must wait: the partner's ring is full. */
bool argo_vsock_is_blocked(u32 cid);
/* Whether this CID is a partner's. */
bool argo_vsock_has_remote_cid(struct vsock_sock *vsk, u32 cid);
/* Forgets the connects of this socket that wait for greetings. */
void argo_vsock_cancel(struct vsock_sock *vsk);

u32 argo_vsock_own_cid(void);

/* For rx_work.  Under the peer's lock. */
void argo_vsock_queue_rx(struct argo_vsock_peer *peer, struct sk_buff *skb);

/* A packet without payload, for which there is always memory.  Process context. */
struct sk_buff *argo_vsock_packet(const struct virtio_vsock_hdr *header);

/* ---- vsock_send.c: under the peer's lock ---- */

/* The pieces of a packet for Xen: header, linear part, fragments; their number. */
u32 argo_vsock_describe(struct sk_buff *skb, struct argo_iov iov[ARGO_MAX_IOV]);
/* Sends, or keeps until the partner has room; the skb is consumed.  0 or 1, or an error: -ENODEV
 * and -ECONNRESET (no session), -EMSGSIZE (a datagram that the partner cannot take), -ENOBUFS (it
 * reads nothing), -ENOMEM.  A connection that cannot go on without it is reset.
 */
int argo_vsock_send_locked(struct argo_vsock_peer *peer, struct sk_buff *skb);
void argo_vsock_send_all(struct argo_vsock_peer *peer, struct sk_buff_head *queue);
/* Whether the other end would wait for ever without this packet. */
bool argo_vsock_is_needed(struct sk_buff *skb);
/* ECONNRESET for the socket that sent this and lost it, in rx_work. */
void argo_vsock_reset_connection(struct argo_vsock_peer *peer, const struct virtio_vsock_hdr *lost);

/* ---- vsock_transport.c ---- */

/* Worker context, no lock held.  Consumes the skb. */
void argo_vsock_receive(struct argo_vsock_peer *peer, struct sk_buff *skb);
/* The partner's ring has room again: wake those who wait to send. */
void argo_vsock_wake_senders(u32 cid);

/* ---- vsock_meter.c: a meter for each socket; under its lock, but where rx_work is named ---- */

int argo_vsock_meter_add(struct vsock_sock *vsk);
void argo_vsock_meter_remove(struct vsock_sock *vsk);
/* Whether no more packets may be under way. */
bool argo_vsock_meter_is_full(struct vsock_sock *vsk);
/* So many bytes were just sent; midway: they are not the last of their message. */
void argo_vsock_meter_count(struct vsock_sock *vsk, u32 bytes, bool midway);
bool argo_vsock_meter_is_midway(struct vsock_sock *vsk);
/* The next message has so many bytes; 0: any will do. */
void argo_vsock_meter_want(struct vsock_sock *vsk, size_t bytes);
/* Whether the peer has room for that, or never will have, which the helper refuses (EMSGSIZE). */
bool argo_vsock_meter_fits(struct vsock_sock *vsk);
/* Sends the update that is held back, if one is. */
void argo_vsock_meter_tell(struct vsock_sock *vsk);
/* rx_work: a packet came whose overhead is more than its bytes. */
void argo_vsock_meter_small(struct vsock_sock *vsk);
/* rx_work: the peer wants to hear of its credit. */
void argo_vsock_meter_asked(struct vsock_sock *vsk);
/* Whether a packet about to be sent need not be: an update of the credit that can wait.  If not,
 * the peer is taken to have been told.
 */
bool argo_vsock_meter_holds(struct sk_buff *skb);

/* ---- vsock_dgram.c ---- */

void argo_vsock_dgram_receive(struct argo_vsock_peer *peer, struct sk_buff *skb);
int argo_vsock_dgram_bind(struct vsock_sock *vsk, struct sockaddr_vm *addr);
int argo_vsock_dgram_dequeue(struct vsock_sock *vsk, struct msghdr *msg, size_t len, int flags);
int argo_vsock_dgram_enqueue(struct vsock_sock *vsk, struct sockaddr_vm *to, struct msghdr *msg,
			     size_t len);
void argo_vsock_dgram_release(struct vsock_sock *vsk);

#endif /* ARGOSY_BACKENDS_ARGO_LINUX_VSOCK_TRANSPORT_H_ */
