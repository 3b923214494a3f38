// SPDX-License-Identifier: GPL-2.0-only
/*
 * Peers: a link, a ring and a worker for each partner.
 *
 * rcu: argo_vsock_send() finds its peer by domid without a lock; a peer that is removed sends
 * nothing more.
 */
#include <linux/debugfs.h>
#include <linux/ktime.h>
#include <linux/moduleparam.h>
#include <linux/random.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/xarray.h>

#include "backends/argo/linux/compat.h"
#include "backends/argo/linux/vsock_transport.h"

static uint cid_offset = 2;
module_param(cid_offset, uint, 0444);
MODULE_PARM_DESC(cid_offset, "CID = domid + cid_offset, the same in all domains (default 2: dom0 is the host, CID 2)");

/* Memory in a peer's rx queue beyond which its ring is left alone: two passes of large packets. */
#define MAX_RX_MEMORY (4 * ARGO_LINK_BUDGET)

static DEFINE_XARRAY(peers); /* by domid; written by the core's calls, which come one at a time */
static struct workqueue_struct *workqueue;

u32 argo_vsock_own_cid(void)
{
	return argo_own_domid() + cid_offset;
}

static u32 peer_cid(const struct argo_vsock_peer *peer)
{
	return peer->domid + cid_offset;
}

/* ---- finding a peer ---- */

static void free_peer(struct kref *refs)
{
	struct argo_vsock_peer *peer = container_of(refs, struct argo_vsock_peer, refs);

	kvfree_rcu(peer, rcu);
}

static void put_peer(struct argo_vsock_peer *peer)
{
	kref_put(&peer->refs, free_peer);
}

static struct argo_vsock_peer *get_peer(u64 cid)
{
	struct argo_vsock_peer *peer;

	if (cid < cid_offset || cid - cid_offset >= ARGO_DOMID_SELF)
		return NULL;
	rcu_read_lock();
	peer = xa_load(&peers, cid - cid_offset);
	if (peer && !kref_get_unless_zero(&peer->refs))
		peer = NULL;
	rcu_read_unlock();
	return peer;
}

/* Read without the lock: who is told "blocked" is woken after it has changed. */
static bool is_blocked(const struct argo_vsock_peer *peer)
{
	return READ_ONCE(peer->slot.state) == ARGO_PEER_BLOCKED ||
	       !skb_queue_empty_lockless(&peer->overflow);
}

/* ---- what the link asks for ---- */

static int op_sendv(void *ctx, u16 dst, u32 type, const struct argo_iov *iov, u32 niov)
{
	return argo_sendv(dst, ARGO_LINK_PORT, type, iov, niov);
}

static int op_notify(void *ctx, struct argo_ring_data_ent *entries, u32 n)
{
	return argo_notify(entries, n);
}

static int op_ring_open(void *ctx, u16 partner, struct argo_ring_reader *reader)
{
	struct argo_vsock_peer *peer = ctx;
	int ret = argo_ring_open(&peer->ring, ARGO_LINK_PORT, partner, peer->ring_size);

	if (ret == 0) {
		*reader = peer->ring.reader;
		return 0;
	}
	if (ret == -ESRCH)
		argo_partner_absent(partner);
	else if (ret != -ECONNREFUSED)
		pr_warn_ratelimited("vsock_argo: no ring for dom%u (%d)\n", partner, ret);
	return ret;
}

static void op_ring_close(void *ctx, u16 partner, struct argo_ring_reader *reader)
{
	struct argo_vsock_peer *peer = ctx;

	argo_ring_close(&peer->ring);
}

static int op_ring_alive(void *ctx, u16 partner, struct argo_ring_reader *reader)
{
	return argo_partner_alive(partner);
}

static u64 op_random(void *ctx)
{
	return get_random_u64() | 1;
}

static u32 op_describe(void *ctx, void *cookie, struct argo_iov iov[ARGO_MAX_IOV])
{
	return argo_vsock_describe(cookie, iov);
}

static void op_done(void *ctx, void *cookie, int status)
{
	struct argo_vsock_peer *peer = ctx;
	struct sk_buff *skb = cookie;

	if (!status) {
		argo_skb_sent(skb);
		return;
	}
	/* At the end of a session all connections end. */
	if (status != -ECONNRESET && argo_vsock_is_needed(skb))
		argo_vsock_reset_connection(peer, virtio_vsock_hdr(skb));
	kfree_skb(skb);
}

/* Small packets get room for more of the same stream behind them. */
#define RX_SMALL 128u
#define RX_SMALL_ROOM 512u

static struct sk_buff *copy_packet(const struct argo_ring_message *message,
				   const struct virtio_vsock_hdr *header, u32 len)
{
	const u32 room = len && len <= RX_SMALL ? RX_SMALL_ROOM : len;
	const u32 first = message->seg[0].len - sizeof(*header);
	struct sk_buff *skb;

	skb = virtio_vsock_alloc_skb(sizeof(*header) + room, GFP_KERNEL);
	if (!skb)
		return NULL;
	*virtio_vsock_hdr(skb) = *header;
	if (len == 0)
		return skb;
	argo_skb_put(skb, len);
	if (message->seg[0].len < sizeof(*header)) {
		const u32 skip = sizeof(*header) - message->seg[0].len;

		skb_store_bits(skb, 0, message->seg[1].data + skip, len);
	} else {
		skb_store_bits(skb, 0, message->seg[0].data + sizeof(*header), first);
		skb_store_bits(skb, first, message->seg[1].data, len - first);
	}
	return skb;
}

/* Read once, for the ring is memory that others may write. */
static void copy_header(struct virtio_vsock_hdr *header, const struct argo_ring_message *message)
{
	const u32 first = min_t(u32, message->seg[0].len, sizeof(*header));

	memcpy(header, message->seg[0].data, first);
	memcpy((u8 *)header + first, message->seg[1].data, sizeof(*header) - first);
}

static void op_deliver(void *ctx, u16 src, const struct argo_ring_message *message)
{
	struct argo_vsock_peer *peer = ctx;
	struct virtio_vsock_hdr header;
	struct sk_buff *skb;

	BUILD_BUG_ON(sizeof(header) != ARGO_LINK_PACKET_HEADER);
	copy_header(&header, message);
	if (le32_to_cpu(header.len) != message->len - sizeof(header) ||
	    le64_to_cpu(header.src_cid) != peer_cid(peer) ||
	    le64_to_cpu(header.dst_cid) != argo_vsock_own_cid() ||
	    le16_to_cpu(header.op) == ARGO_VSOCK_OP_RESET) {
		peer->drop_header++;
		return;
	}
	skb = copy_packet(message, &header, message->len - sizeof(header));
	if (!skb) {
		/* A hole in a stream must not go unseen. */
		peer->drop_memory++;
		header.op = cpu_to_le16(ARGO_VSOCK_OP_RESET);
		header.len = 0;
		skb = argo_vsock_packet(&header);
	}
	argo_vsock_queue_rx(peer, skb);
}

void argo_vsock_queue_rx(struct argo_vsock_peer *peer, struct sk_buff *skb)
{
	atomic_add(skb->truesize, &peer->rx_memory);
	skb_queue_tail(&peer->rx, skb);
	peer->kick = true;
}

/* A packet without payload, for which there is always memory. */
struct sk_buff *argo_vsock_packet(const struct virtio_vsock_hdr *header)
{
	struct sk_buff *skb = virtio_vsock_alloc_skb(sizeof(*header), GFP_KERNEL | __GFP_NOFAIL);

	*virtio_vsock_hdr(skb) = *header;
	return skb;
}

/* All of the peer's connections end, behind what came from it before. */
static void op_peer_lost(void *ctx, u16 domid)
{
	struct argo_vsock_peer *peer = ctx;
	const struct virtio_vsock_hdr reset_all = {
		.op = cpu_to_le16(ARGO_VSOCK_OP_RESET),
		.src_cid = cpu_to_le64(peer_cid(peer)),
		.src_port = cpu_to_le32(VMADDR_PORT_ANY),
	};

	__skb_queue_purge(&peer->overflow);
	argo_vsock_queue_rx(peer, argo_vsock_packet(&reset_all));
	peer->wake = false;
}

static void op_peer_ready(void *ctx, u16 domid)
{
	struct argo_vsock_peer *peer = ctx;

	argo_vsock_send_all(peer, &peer->requests);
}

static void op_writable(void *ctx, u16 domid)
{
	struct argo_vsock_peer *peer = ctx;

	argo_vsock_send_all(peer, &peer->overflow);
	peer->wake = !is_blocked(peer);
}

static const struct argo_link_ops link_ops = {
	.sendv = op_sendv,
	.notify = op_notify,
	.ring_open = op_ring_open,
	.ring_close = op_ring_close,
	.ring_alive = op_ring_alive,
	.random = op_random,
	.describe = op_describe,
	.done = op_done,
	.deliver = op_deliver,
	.peer_ready = op_peer_ready,
	.peer_lost = op_peer_lost,
	.writable = op_writable,
};

/* ---- after each call of the link ---- */

/*
 * What the link has become must be known to the interrupt and to the timer.  Xen's wake-up may have
 * come before `waiting` was set, so the worker looks once.
 */
static void settle(struct argo_vsock_peer *peer)
{
	const bool waiting = peer->slot.greet_again || peer->slot.state == ARGO_PEER_BLOCKED;
	const u64 due = argo_link_due_ms(&peer->link);

	if (peer->kick || peer->wake || (waiting && !peer->ring.waiting))
		queue_work(workqueue, &peer->rx_work);
	peer->kick = false;
	WRITE_ONCE(peer->ring.waiting, waiting);
	if (due < peer->timer_at_ms) {
		const u64 now = argo_vsock_now_ms();

		peer->timer_at_ms = due;
		mod_delayed_work(workqueue, &peer->timer,
				 due > now ? msecs_to_jiffies(due - now) : 0);
	}
}

static void receive_all(struct argo_vsock_peer *peer)
{
	struct sk_buff *skb;

	while ((skb = skb_dequeue(&peer->rx))) {
		atomic_sub(skb->truesize, &peer->rx_memory);
		argo_vsock_receive(peer, skb);
	}
}

static void rx_work(struct work_struct *work)
{
	struct argo_vsock_peer *peer = container_of(work, struct argo_vsock_peer, rx_work);
	bool more = false, wake = false;

	mutex_lock(&peer->lock);
	if (!peer->removed) {
		more = argo_link_interrupt(&peer->link, argo_vsock_now_ms());
		wake = peer->wake;
		peer->wake = false;
		peer->kick = false; /* it is being looked at */
		settle(peer);
	}
	mutex_unlock(&peer->lock);

	receive_all(peer);
	if (wake)
		argo_vsock_wake_senders(peer_cid(peer));
	/* Behind the others: no partner keeps the worker. */
	if (more)
		queue_work(workqueue, &peer->rx_work);
}

static void on_timer(struct work_struct *work)
{
	struct argo_vsock_peer *peer = container_of(work, struct argo_vsock_peer, timer.work);

	/* It may read the ring: not while rx_work is behind, or what it reads has no bound. */
	if (atomic_read(&peer->rx_memory) > MAX_RX_MEMORY) {
		queue_delayed_work(workqueue, &peer->timer, HZ / 10);
		return;
	}
	mutex_lock(&peer->lock);
	if (!peer->removed) {
		peer->timer_at_ms = U64_MAX;
		argo_link_timer(&peer->link, argo_vsock_now_ms());
		settle(peer);
	}
	mutex_unlock(&peer->lock);
}

/* In the interrupt. */
static void on_ready(struct argo_ring *ring)
{
	struct argo_vsock_peer *peer = container_of(ring, struct argo_vsock_peer, ring);

	queue_work(workqueue, &peer->rx_work);
}

/* ---- for the sockets ---- */

int argo_vsock_send(struct sk_buff *skb)
{
	const int len = skb->len;
	const bool request = argo_op(skb) == VIRTIO_VSOCK_OP_REQUEST;
	const bool dgram = argo_is_dgram(skb);
	struct argo_vsock_peer *peer = get_peer(le64_to_cpu(virtio_vsock_hdr(skb)->dst_cid));
	int ret = -ENODEV;

	if (!peer) {
		kfree_skb(skb);
		return -ENODEV;
	}
	mutex_lock(&peer->lock);
	if (peer->removed) {
		kfree_skb(skb);
	} else {
		ret = argo_vsock_send_locked(peer, skb);
		settle(peer);
	}
	mutex_unlock(&peer->lock);
	put_peer(peer);
	/* Without a session the connection is being reset; the socket learns that by itself. */
	if (ret < 0 && (request || (dgram && ret == -EMSGSIZE)))
		return ret;
	return len;
}

bool argo_vsock_is_blocked(u32 cid)
{
	struct argo_vsock_peer *peer = get_peer(cid);
	bool blocked;

	if (!peer)
		return false;
	blocked = is_blocked(peer);
	put_peer(peer);
	return blocked;
}

#if ARGO_HAVE_HAS_REMOTE_CID
bool argo_vsock_has_remote_cid(struct vsock_sock *vsk, u32 cid)
{
	return cid >= cid_offset && xa_load(&peers, cid - cid_offset);
}
#endif

void argo_vsock_cancel(struct vsock_sock *vsk)
{
	struct argo_vsock_peer *peer = get_peer(vsk->remote_addr.svm_cid);

	if (!peer)
		return;
	virtio_transport_purge_skbs(vsk, &peer->requests);
	put_peer(peer);
}

/* ---- partners come and go: the core's calls ---- */

/* The peer has sent its last, and no interrupt comes for it any more. */
static void end_work(struct work_struct *work)
{
	struct argo_vsock_peer *peer = container_of(work, struct argo_vsock_peer, end_work);

	cancel_delayed_work_sync(&peer->timer);
	cancel_work_sync(&peer->rx_work);
	receive_all(peer); /* its last words, and the reset of its connections */
	skb_queue_purge(&peer->requests);
	complete(&peer->ended);
	put_peer(peer);
}

static int partner_add(u16 domid, u32 ring_size)
{
	struct argo_vsock_peer *peer;
	int ret;

	if (domid == argo_own_domid())
		return 0; /* AF_VSOCK has vsock_loopback for that */
	/* With a ring of the default size, an idle partner takes less than 300 KiB. */
	BUILD_BUG_ON(sizeof(*peer) > 16384);
	peer = kvzalloc(sizeof(*peer), GFP_KERNEL);
	if (!peer)
		return -ENOMEM;
	peer->domid = domid;
	peer->ring_size = ring_size;
	peer->timer_at_ms = U64_MAX;
	peer->ring.ready = on_ready;
	kref_init(&peer->refs);
	mutex_init(&peer->lock);
	skb_queue_head_init(&peer->requests);
	skb_queue_head_init(&peer->overflow);
	skb_queue_head_init(&peer->rx);
	INIT_WORK(&peer->rx_work, rx_work);
	INIT_DELAYED_WORK(&peer->timer, on_timer);
	INIT_WORK(&peer->end_work, end_work);
	init_completion(&peer->ended);
	argo_link_init(&peer->link, &link_ops, peer, argo_own_domid(), &peer->slot, 1);
	ret = xa_insert(&peers, domid, peer, GFP_KERNEL);
	if (ret) {
		kvfree(peer);
		return ret;
	}
	mutex_lock(&peer->lock);
	argo_link_add_peer(&peer->link, domid, argo_vsock_now_ms());
	settle(peer);
	mutex_unlock(&peer->lock);
	return 0;
}

/*
 * Returns when all its connections are reset.  But a program can hold its socket's lock as long as
 * it likes (it sends from memory that never comes), and nobody's partners shall wait for that.  If
 * the domain is a partner again by then, the late resets meet its new connections, too.
 */
static void partner_remove(u16 domid)
{
	struct argo_vsock_peer *peer = xa_erase(&peers, domid);

	if (!peer)
		return;
	mutex_lock(&peer->lock);
	argo_link_remove_peer(&peer->link, domid);
	peer->removed = true;
	mutex_unlock(&peer->lock);
	kref_get(&peer->refs);
	queue_work(workqueue, &peer->end_work);
	if (!wait_for_completion_timeout(&peer->ended, HZ))
		pr_warn("vsock_argo: a socket that is in use holds up the end of dom%u\n", domid);
	put_peer(peer);
}

static void partner_check(u16 domid)
{
	struct argo_vsock_peer *peer = xa_load(&peers, domid);

	if (!peer)
		return;
	mutex_lock(&peer->lock);
	if (peer->slot.state >= ARGO_PEER_GREETING && !argo_partner_alive(domid)) {
		argo_link_peer_gone(&peer->link, domid, argo_vsock_now_ms());
		settle(peer);
	}
	mutex_unlock(&peer->lock);
}

static void resumed(void)
{
	struct argo_vsock_peer *peer;
	unsigned long domid;

	xa_for_each(&peers, domid, peer) {
		mutex_lock(&peer->lock);
		argo_link_peer_gone(&peer->link, domid, argo_vsock_now_ms());
		settle(peer);
		mutex_unlock(&peer->lock);
	}
}

static struct argo_service service = {
	.port = ARGO_LINK_PORT,
	.partner_add = partner_add,
	.partner_remove = partner_remove,
	.partner_check = partner_check,
	.resumed = resumed,
};

/* ---- counters ---- */

static const char * const state_names[] = {
	[ARGO_PEER_ABSENT] = "absent",
	[ARGO_PEER_UNKNOWN] = "unknown",
	[ARGO_PEER_GREETING] = "greeting",
	[ARGO_PEER_READY] = "ready",
	[ARGO_PEER_BLOCKED] = "blocked",
};

static void show_peer(struct seq_file *m, struct argo_vsock_peer *peer)
{
	const struct argo_peer_counters *count = &peer->slot.count;

	mutex_lock(&peer->lock);
	seq_printf(m, "peer %u cid %u %s\n", peer->domid, peer_cid(peer),
		   state_names[peer->slot.state]);
	seq_printf(m, " tx_messages %llu tx_bytes %llu rx_messages %llu rx_bytes %llu\n",
		   count->tx_messages, count->tx_bytes, count->rx_messages, count->rx_bytes);
	seq_printf(m, " full %llu busy %llu blocked %llu wakes %llu probes %llu lost %llu\n",
		   count->full, count->busy, count->blocked, count->wakes, count->probes,
		   count->lost);
	seq_printf(m, " queued %llu queue_refused %llu overflow_refused %llu credit_merged %llu\n",
		   count->queued, count->queue_refused, peer->overflow_refused,
		   peer->credit_merged);
	seq_printf(m, " drop_corrupt %llu drop_source %llu drop_type %llu drop_length %llu\n",
		   count->drop_corrupt, count->drop_source, count->drop_type, count->drop_length);
	seq_printf(m, " drop_not_ready %llu drop_version %llu drop_header %llu drop_reply %llu\n",
		   count->drop_not_ready, count->drop_version, peer->drop_header, peer->drop_reply);
	seq_printf(m, " drop_memory %llu drop_dgram %llu drop_flood %llu reset_lost %llu\n",
		   peer->drop_memory, peer->drop_dgram, peer->drop_flood, peer->reset_lost);
	mutex_unlock(&peer->lock);
}

static int peers_show(struct seq_file *m, void *unused)
{
	struct argo_vsock_peer *peer;
	unsigned long domid;

	seq_printf(m, "cid %u\n", argo_vsock_own_cid());
	xa_for_each(&peers, domid, peer) {
		peer = get_peer(domid + cid_offset); /* it may be removed meanwhile */
		if (!peer)
			continue;
		show_peer(m, peer);
		put_peer(peer);
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(peers);

static struct dentry *peers_file;

int argo_vsock_peers_init(void)
{
	int ret;

	if (cid_offset < 1 || cid_offset > U32_MAX - ARGO_DOMID_SELF) {
		pr_err("vsock_argo: cid_offset must be 1 or more, not %u\n", cid_offset);
		return -EINVAL;
	}
	/* Frozen while the domain is saved: no hypercall meets half a suspend. */
	workqueue = alloc_workqueue("vsock_argo", WQ_UNBOUND | WQ_FREEZABLE, 0);
	if (!workqueue)
		return -ENOMEM;
	ret = argo_service_register(&service);
	if (ret) {
		destroy_workqueue(workqueue);
		return ret;
	}
	peers_file = debugfs_create_file("vsock", 0400, argo_debugfs, NULL, &peers_fops);
	return 0;
}

void argo_vsock_peers_exit(void)
{
	debugfs_remove(peers_file);
	argo_service_unregister(&service);
	destroy_workqueue(workqueue);
	rcu_barrier(); /* the last peers */
}
