// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sending: what becomes of one packet of a socket.  All of it under the peer's lock.
 */
#include <linux/skbuff.h>

#include "backends/argo/linux/compat.h"
#include "backends/argo/linux/vsock_transport.h"

/* Connects that wait for the greetings with one partner; more are refused. */
#define MAX_REQUESTS 128

/*
 * Packets behind the link's own queue.  Data stops as soon as anything waits, so these are control
 * packets of our own sockets, and a packet or the rest of a message of each program that was about
 * to send.  Who connects leaves room for those, and data leaves room for control.
 */
#define MAX_OVERFLOW 1536u
#define MAX_OVERFLOW_DATA 1024u
#define MAX_OVERFLOW_REQUESTS 512u

static u32 overflow_limit(u16 op)
{
	switch (op) {
	case VIRTIO_VSOCK_OP_REQUEST:
		return MAX_OVERFLOW_REQUESTS;
	case VIRTIO_VSOCK_OP_RW:
		return MAX_OVERFLOW_DATA;
	default:
		return MAX_OVERFLOW;
	}
}

/* The pieces of a packet for Xen; no more of them than first_call() counts. */
u32 argo_vsock_describe(struct sk_buff *skb, struct argo_iov iov[ARGO_MAX_IOV])
{
	u32 niov = 1;
	int i;

	iov[0] = (struct argo_iov){ .base = (uintptr_t)virtio_vsock_hdr(skb),
				    .len = sizeof(struct virtio_vsock_hdr) };
	/* The helpers put both side by side: one piece less for Xen to look up. */
	if (skb->data == (u8 *)(virtio_vsock_hdr(skb) + 1))
		iov[0].len += skb_headlen(skb);
	else if (skb_headlen(skb))
		iov[niov++] = (struct argo_iov){ .base = (uintptr_t)skb->data,
						 .len = skb_headlen(skb) };
	for (i = 0; i < skb_shinfo(skb)->nr_frags; i++) {
		const skb_frag_t *frag = &skb_shinfo(skb)->frags[i];

		iov[niov++] = (struct argo_iov){ .base = (uintptr_t)skb_frag_address(frag),
						 .len = skb_frag_size(frag) };
	}
	return niov;
}

/*
 * One word on credit for each connection: a partner may ask for ever and read nothing.  The new one
 * does not take the old one's place: credit behind it in the queue would be older, and Linux takes
 * the last that it hears.
 */
static void drop_older_credit(struct argo_vsock_peer *peer, const struct sk_buff *skb)
{
	struct sk_buff *other;

	skb_queue_reverse_walk(&peer->overflow, other) {
		if (other->sk != skb->sk || argo_op(other) != VIRTIO_VSOCK_OP_CREDIT_UPDATE)
			continue;
		__skb_unlink(other, &peer->overflow);
		kfree_skb(other);
		peer->credit_merged++;
		return;
	}
}

/* The link's queue is full, or others wait in front. */
static int send_later(struct argo_vsock_peer *peer, struct sk_buff *skb)
{
	const u16 op = argo_op(skb);

	/* What the partner provoked is its own loss. */
	if (virtio_vsock_skb_reply(skb)) {
		peer->drop_reply++;
		return -ENOBUFS;
	}
	if (op == VIRTIO_VSOCK_OP_CREDIT_UPDATE)
		drop_older_credit(peer, skb);
	if (skb_queue_len(&peer->overflow) >= overflow_limit(op)) {
		peer->overflow_refused++;
		return -ENOBUFS;
	}
	__skb_queue_tail(&peer->overflow, skb);
	return 1;
}

/* 0: sent; 1: kept; else an error, and the skb is still the caller's. */
static int try_send(struct argo_vsock_peer *peer, struct sk_buff *skb)
{
	const u16 op = argo_op(skb);
	struct argo_iov iov[ARGO_MAX_IOV];
	u32 niov;
	int ret;

	if (op == VIRTIO_VSOCK_OP_REQUEST && peer->slot.state == ARGO_PEER_GREETING) {
		if (skb_queue_len(&peer->requests) >= MAX_REQUESTS)
			return -ENODEV;
		skb_queue_tail(&peer->requests, skb);
		return 1;
	}
	if (!skb_queue_empty(&peer->overflow))
		return send_later(peer, skb);
	/* Datagrams do not wait: a flood of them would keep the streams from sending. */
	if (argo_is_dgram(skb) && peer->slot.state == ARGO_PEER_BLOCKED)
		return -ENOBUFS;
	niov = argo_vsock_describe(skb, iov);
	ret = argo_link_send(&peer->link, peer->domid,
			     op == VIRTIO_VSOCK_OP_RW ? ARGO_SEND_DATA : ARGO_SEND_REPLY, iov, niov,
			     skb, argo_vsock_now_ms());
	return ret == -ENOBUFS ? send_later(peer, skb) : ret;
}

static int send_whole(struct argo_vsock_peer *peer, struct sk_buff *skb)
{
	int ret;

	virtio_transport_deliver_tap_pkt(skb);
	ret = try_send(peer, skb);
	if (ret == 0)
		argo_skb_sent(skb);
	else if (ret < 0)
		kfree_skb(skb);
	return ret;
}

/* The last piece of a packet alone ends a message. */
static const u32 ends = VIRTIO_VSOCK_SEQ_EOM | VIRTIO_VSOCK_SEQ_EOR;

/* How much of a packet goes into one call: what its first ARGO_MAX_IOV pieces hold.  Header and
 * linear part count as two, though they mostly are one.
 */
static u32 first_call(const struct sk_buff *skb)
{
	const struct skb_shared_info *info = skb_shinfo(skb);
	u32 len = skb_headlen(skb);
	u32 niov = len ? 2 : 1;
	int i;

	for (i = 0; i < info->nr_frags && niov < ARGO_MAX_IOV; i++, niov++)
		len += skb_frag_size(&info->frags[i]);
	return len;
}

/*
 * Cuts a packet and gives the rest, nothing copied.  With MSG_ZEROCOPY its fragments are the
 * program's pages; skb_split() makes the notice that they are free again wait for both.
 */
static struct sk_buff *split(struct sk_buff *skb, u32 len)
{
	struct virtio_vsock_hdr *header = virtio_vsock_hdr(skb);
	struct sk_buff *rest = argo_vsock_packet(header);

	if (skb->sk)
		skb_set_owner_w(rest, skb->sk);
	skb_split(skb, rest, len);
	virtio_vsock_hdr(rest)->len = cpu_to_le32(rest->len);
	header->len = cpu_to_le32(len);
	header->flags &= ~cpu_to_le32(ends);
	return rest;
}

/* A partner with a small ring takes smaller packets. */
static int send_pieces(struct argo_vsock_peer *peer, struct sk_buff *skb)
{
	u32 at, n;
	int ret = skb_linearize(skb);

	for (at = 0; at < skb->len && ret >= 0; at += n) {
		struct virtio_vsock_hdr *header;
		struct sk_buff *piece;

		n = min(skb->len - at, peer->slot.max_payload);
		piece = virtio_vsock_alloc_skb(sizeof(*header) + n, GFP_KERNEL);
		if (!piece) {
			ret = -ENOMEM;
			break;
		}
		header = virtio_vsock_hdr(piece);
		*header = *virtio_vsock_hdr(skb);
		header->len = cpu_to_le32(n);
		if (at + n < skb->len)
			header->flags &= ~cpu_to_le32(ends);
		argo_skb_put(piece, n);
		skb_store_bits(piece, 0, skb->data + at, n);
		ret = send_whole(peer, piece);
	}
	if (ret < 0)
		kfree_skb(skb);
	else
		argo_skb_sent(skb);
	return ret;
}

/* On average.  Smaller ones cost the receiver more than a copy does here, and escape the meter. */
#define LEAST_PER_CALL 8192u

/* In as many packets as Xen needs calls for; a datagram is always one. */
static int send_calls(struct argo_vsock_peer *peer, struct sk_buff *skb)
{
	/* Two pieces are the header and the linear part, where those are not one. */
	const u32 calls = DIV_ROUND_UP(skb_shinfo(skb)->nr_frags, ARGO_MAX_IOV - 2);
	const bool copy = argo_is_dgram(skb) || skb->len < calls * LEAST_PER_CALL;
	u32 len;

	if (copy && first_call(skb) < skb->len && skb_linearize(skb)) {
		kfree_skb(skb);
		return -ENOMEM;
	}
	while ((len = first_call(skb)) < skb->len) {
		struct sk_buff *rest = split(skb, len);
		const int ret = send_whole(peer, skb);

		if (ret < 0) {
			kfree_skb(rest);
			return ret;
		}
		skb = rest;
	}
	return send_whole(peer, skb);
}

static int send_any(struct argo_vsock_peer *peer, struct sk_buff *skb)
{
	if (!peer->slot.max_payload || skb->len <= peer->slot.max_payload)
		return send_calls(peer, skb);
	if (!argo_is_dgram(skb))
		return send_pieces(peer, skb);
	kfree_skb(skb); /* in pieces it would be several */
	return -EMSGSIZE;
}

/* What is lost between two ends that live must not go unseen: there is no memory, say. */
void argo_vsock_reset_connection(struct argo_vsock_peer *peer, const struct virtio_vsock_hdr *lost)
{
	const struct virtio_vsock_hdr reset = {
		.op = cpu_to_le16(ARGO_VSOCK_OP_RESET),
		.src_cid = lost->dst_cid,
		.src_port = lost->dst_port,
		.dst_cid = lost->src_cid,
		.dst_port = lost->src_port,
	};

	peer->reset_lost++;
	argo_vsock_queue_rx(peer, argo_vsock_packet(&reset));
}

/*
 * Whether the other end would wait for ever without it: data, credit, an end-of-file.  The caller
 * of connect() learns of his loss, who misses an RST when he sends, and answers are the partner's.
 */
bool argo_vsock_is_needed(struct sk_buff *skb)
{
	const u16 op = argo_op(skb);

	return !argo_is_dgram(skb) && !virtio_vsock_skb_reply(skb) &&
	       op != VIRTIO_VSOCK_OP_REQUEST && op != VIRTIO_VSOCK_OP_RST;
}

int argo_vsock_send_locked(struct argo_vsock_peer *peer, struct sk_buff *skb)
{
	const struct virtio_vsock_hdr header = *virtio_vsock_hdr(skb);
	const bool needed = argo_vsock_is_needed(skb);
	const int ret = send_any(peer, skb);

	/* Without a session all connections are being reset. */
	if (ret < 0 && needed && ret != -ENODEV && ret != -ECONNRESET)
		argo_vsock_reset_connection(peer, &header);
	return ret;
}

void argo_vsock_send_all(struct argo_vsock_peer *peer, struct sk_buff_head *queue)
{
	struct sk_buff_head todo;
	struct sk_buff *skb;

	__skb_queue_head_init(&todo);
	spin_lock_bh(&queue->lock);
	skb_queue_splice_init(queue, &todo);
	spin_unlock_bh(&queue->lock);
	while ((skb = __skb_dequeue(&todo)))
		argo_vsock_send_locked(peer, skb);
}
