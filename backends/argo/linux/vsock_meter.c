// SPDX-License-Identifier: GPL-2.0-only
/*
 * Packets under way, for each socket.
 *
 * Credit counts bytes, but what a receiver keeps costs it a few hundred bytes more per packet:
 * Linux resets a connection whose queued packets alone would fill its buffer.  So at most buf_alloc
 * / 1024 packets, and at most 256, are under way at a time (docs/protocol.md, Credit).
 *
 * The packets are counted in two halves.  A half that is full is closed with the number of its last
 * byte; when the peer's fwd_cnt has reached that, all of it is taken.
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
	u32 closed;     /* packets of the closed half, 0: none */
	u32 closed_end; /* tx_cnt behind its last byte */
	u32 open;       /* packets of the open half */
	u32 open_end;
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

static u32 half_limit(const struct virtio_vsock_sock *vvs)
{
	return max(min(vvs->peer_buf_alloc / BYTES_PER_PACKET, MAX_PACKETS) / 2, 1u);
}

bool argo_vsock_meter_is_full(struct vsock_sock *vsk)
{
	struct virtio_vsock_sock *vvs = vsk->trans;
	struct meter *meter = find(vsk);
	u32 fwd_cnt, limit;

	if (!meter)
		return false;
	spin_lock_bh(&vvs->tx_lock);
	fwd_cnt = vvs->peer_fwd_cnt;
	limit = half_limit(vvs);
	spin_unlock_bh(&vvs->tx_lock);

	if (meter->closed && (s32)(fwd_cnt - meter->closed_end) >= 0)
		meter->closed = 0;
	if (meter->open && (s32)(fwd_cnt - meter->open_end) >= 0)
		meter->open = 0;
	if (meter->open < limit)
		return false;
	if (meter->closed)
		return true;
	meter->closed = meter->open;
	meter->closed_end = meter->open_end;
	meter->open = 0;
	return false;
}

void argo_vsock_meter_count(struct vsock_sock *vsk, u32 bytes)
{
	struct virtio_vsock_sock *vvs = vsk->trans;
	struct meter *meter = find(vsk);

	if (!meter)
		return;
	meter->open += DIV_ROUND_UP(bytes, VIRTIO_VSOCK_MAX_PKT_BUF_SIZE);
	spin_lock_bh(&vvs->tx_lock);
	meter->open_end = vvs->tx_cnt;
	spin_unlock_bh(&vvs->tx_lock);
}
