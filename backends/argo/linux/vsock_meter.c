// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the kernel's helpers do not count for a socket.
 *
 * Out: packets under way.  Credit counts bytes, but what a receiver keeps costs it a few hundred
 * bytes more per packet: Linux resets a connection whose queued packets alone would fill its
 * buffer.  So at most buf_alloc / 1024 packets, and at most 256, are under way at a time
 * (docs/protocol.md, Credit).  They are counted in two halves.  A half that is full is closed with
 * the number of its last byte; when the peer's fwd_cnt has reached that, all of it is taken.
 *
 * In: what the peer was told.  The helpers send CREDIT_UPDATE each time a reader has emptied its
 * queue: behind every packet where two programs take turns.  For streams it is held back until a
 * quarter of the window or of those packets was taken, unless the peer has asked or sends no more,
 * or the reader waits for more than a byte (SO_RCVLOWAT).  Linux as a sender never asks: so the
 * bytes held back must be fewer than those of the packets that the sender's meter admits.
 */
#include <linux/hashtable.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

#include "backends/argo/linux/vsock_transport.h"

#define BYTES_PER_PACKET 1024u
#define MAX_PACKETS 256u

struct meter {
	struct hlist_node node;
	const struct vsock_sock *vsk;
	struct rcu_head rcu;

	/* Out, under the socket's lock. */
	u32 closed;     /* packets of the closed half, 0: none */
	u32 closed_end; /* tx_cnt behind its last byte */
	u32 open;       /* packets of the open half */
	u32 open_end;
	size_t wanted; /* bytes of the message that waits to be sent, 0: none does */
	bool midway;   /* a message has begun and not ended */

	/* In. */
	u32 told_fwd_cnt, told_buf_alloc; /* under the socket's lock */
	u32 small;      /* packets too small for the bytes to tell; written by rx_work */
	u32 told_small; /* those of them that were taken when the peer was told */
	bool asked;
};

static DEFINE_HASHTABLE(meters, 8);
static DEFINE_SPINLOCK(meters_lock);

static struct meter *find(const struct vsock_sock *vsk)
{
	struct meter *meter;

	rcu_read_lock();
	hash_for_each_possible_rcu(meters, meter, node, (unsigned long)vsk) {
		if (meter->vsk == vsk)
			break;
	}
	rcu_read_unlock();
	return meter; /* lives as long as its socket */
}

int argo_vsock_meter_add(struct vsock_sock *vsk)
{
	struct meter *meter = kzalloc(sizeof(*meter), GFP_KERNEL);

	if (!meter)
		return -ENOMEM;
	meter->vsk = vsk;
	spin_lock_bh(&meters_lock);
	hash_add_rcu(meters, &meter->node, (unsigned long)vsk);
	spin_unlock_bh(&meters_lock);
	return 0;
}

void argo_vsock_meter_remove(struct vsock_sock *vsk)
{
	struct meter *meter = find(vsk);

	if (!meter)
		return;
	spin_lock_bh(&meters_lock);
	hash_del_rcu(&meter->node);
	spin_unlock_bh(&meters_lock);
	kfree_rcu(meter, rcu);
}

static u32 packet_limit(u32 window)
{
	return min(window / BYTES_PER_PACKET, MAX_PACKETS);
}

bool argo_vsock_meter_is_full(struct vsock_sock *vsk)
{
	struct virtio_vsock_sock *vvs = vsk->trans;
	struct meter *meter = find(vsk);
	u32 fwd_cnt, half;

	if (!meter)
		return false;
	spin_lock_bh(&vvs->tx_lock);
	fwd_cnt = vvs->peer_fwd_cnt;
	half = max(packet_limit(vvs->peer_buf_alloc) / 2, 1u);
	spin_unlock_bh(&vvs->tx_lock);

	if (meter->closed && (s32)(fwd_cnt - meter->closed_end) >= 0)
		meter->closed = 0;
	if (meter->open && (s32)(fwd_cnt - meter->open_end) >= 0)
		meter->open = 0;
	if (meter->open < half)
		return false;
	if (meter->closed)
		return true;
	meter->closed = meter->open;
	meter->closed_end = meter->open_end;
	meter->open = 0;
	return false;
}

void argo_vsock_meter_count(struct vsock_sock *vsk, u32 bytes, bool midway)
{
	struct virtio_vsock_sock *vvs = vsk->trans;
	struct meter *meter = find(vsk);

	if (!meter)
		return;
	meter->midway = midway;
	meter->open += DIV_ROUND_UP(bytes, VIRTIO_VSOCK_MAX_PKT_BUF_SIZE);
	spin_lock_bh(&vvs->tx_lock);
	meter->open_end = vvs->tx_cnt;
	spin_unlock_bh(&vvs->tx_lock);
}

bool argo_vsock_meter_is_midway(struct vsock_sock *vsk)
{
	const struct meter *meter = find(vsk);

	return meter && meter->midway;
}

void argo_vsock_meter_want(struct vsock_sock *vsk, size_t bytes)
{
	struct meter *meter = find(vsk);

	if (meter)
		meter->wanted = bytes;
}

bool argo_vsock_meter_fits(struct vsock_sock *vsk)
{
	struct virtio_vsock_sock *vvs = vsk->trans;
	const struct meter *meter;
	s64 space, under_way;

	if (sk_vsock(vsk)->sk_type != SOCK_SEQPACKET)
		return true;
	meter = find(vsk);
	if (!meter || !meter->wanted)
		return true;
	space = virtio_transport_stream_has_space(vsk);
	spin_lock_bh(&vvs->tx_lock);
	under_way = vvs->tx_cnt - vvs->peer_fwd_cnt;
	spin_unlock_bh(&vvs->tx_lock);
	return space >= (s64)meter->wanted || space + under_way < (s64)meter->wanted;
}

void argo_vsock_meter_small(struct vsock_sock *vsk)
{
	struct meter *meter = find(vsk);

	if (meter)
		WRITE_ONCE(meter->small, meter->small + 1);
}

void argo_vsock_meter_asked(struct vsock_sock *vsk)
{
	struct meter *meter = find(vsk);

	if (meter)
		WRITE_ONCE(meter->asked, true);
}

void argo_vsock_meter_tell(struct vsock_sock *vsk)
{
	const struct virtio_vsock_sock *vvs = vsk->trans;
	struct meter *meter = find(vsk);
	u64 size;

	if (!meter || !vvs || READ_ONCE(vvs->fwd_cnt) == meter->told_fwd_cnt)
		return;
	WRITE_ONCE(meter->asked, true);
	/* The one helper that sends an update; the size stays. */
	size = vvs->buf_alloc;
	virtio_transport_notify_buffer_size(vsk, &size);
}

static bool can_wait(const struct meter *meter, struct vsock_sock *vsk, u32 fwd_cnt, u32 buf_alloc)
{
	const struct virtio_vsock_sock *vvs = vsk->trans;
	/* A sender fills no more than its own buffer's size. */
	const u32 window = min(READ_ONCE(vvs->peer_buf_alloc), buf_alloc);
	const u32 packets = packet_limit(window);
	const u32 lag = min_t(u32, window, packets * ARGO_VSOCK_SMALL) / 4;
	const u32 unread = READ_ONCE(vvs->rx_bytes);
	/* One may be counted and not queued yet. */
	const u32 small = READ_ONCE(meter->small) - meter->told_small + 1;

	return sk_vsock(vsk)->sk_type == SOCK_STREAM && !READ_ONCE(meter->asked) &&
	       buf_alloc == meter->told_buf_alloc && sk_vsock(vsk)->sk_rcvlowat <= 1 &&
	       !(vsk->peer_shutdown & SEND_SHUTDOWN) &&
	       (u64)(fwd_cnt - meter->told_fwd_cnt) + unread <= lag && small < packets / 4;
}

bool argo_vsock_meter_holds(struct sk_buff *skb)
{
	struct virtio_vsock_hdr *header = virtio_vsock_hdr(skb);
	const u32 fwd_cnt = le32_to_cpu(header->fwd_cnt);
	const u32 buf_alloc = le32_to_cpu(header->buf_alloc);
	struct vsock_sock *vsk;
	struct meter *meter;
	bool empty;

	if (!skb->sk)
		return false;
	vsk = vsock_sk(skb->sk);
	meter = find(vsk);
	if (!meter || !vsk->trans)
		return false;
	if (le16_to_cpu(header->op) == VIRTIO_VSOCK_OP_CREDIT_UPDATE) {
		if (can_wait(meter, vsk, fwd_cnt, buf_alloc))
			return true;
		/* Another buffer is another window for what the peer holds back: it is to tell. */
		if (meter->told_buf_alloc && meter->told_buf_alloc != buf_alloc)
			header->op = cpu_to_le16(VIRTIO_VSOCK_OP_CREDIT_REQUEST);
	}
	meter->told_fwd_cnt = fwd_cnt;
	meter->told_buf_alloc = buf_alloc;
	empty = READ_ONCE(((struct virtio_vsock_sock *)vsk->trans)->rx_bytes) == 0;
	if (empty) {
		meter->told_small = READ_ONCE(meter->small);
		WRITE_ONCE(meter->asked, false);
	}
	return false;
}
