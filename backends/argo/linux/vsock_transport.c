// SPDX-License-Identifier: GPL-2.0-only
/*
 * The transport's operations, and what becomes of a packet that has come.
 *
 * A reset of a connection that nobody has closed is ECONNRESET, also for who reads: the kernel's
 * own helpers show a plain end-of-file there, and a cut transfer would look whole.
 */
#include <linux/module.h>
#include <net/sock.h>
#include <xen/xen.h>

#include "backends/argo/linux/compat.h"
#include "backends/argo/linux/vsock_transport.h"

static struct virtio_transport transport;

/* ---- connections that end without a word ---- */

/* The socket's lock is held. */
static void abort_connection(struct sock *sk)
{
	struct vsock_sock *vsk = vsock_sk(sk);

	/*
	 * Still ESTABLISHED: a stream is read to its end first, then recv() gives sk_err (for
	 * SEQPACKET at once), and end-of-file after that.  Sending gives EPIPE.
	 */
	vsk->peer_shutdown = SHUTDOWN_MASK;
	sk->sk_err = ECONNRESET;
	sk_error_report(sk);
	sk->sk_state_change(sk);
	vsock_remove_sock(vsk);
}

/* A connection whose program has closed it waits for the peer's last word: this is it. */
static void answer_close(struct sock *sk)
{
	const struct vsock_sock *vsk = vsock_sk(sk);
	const struct virtio_vsock_hdr header = {
		.src_cid = cpu_to_le64(vsk->remote_addr.svm_cid),
		.src_port = cpu_to_le32(vsk->remote_addr.svm_port),
		.dst_cid = cpu_to_le64(vsk->local_addr.svm_cid),
		.dst_port = cpu_to_le32(vsk->local_addr.svm_port),
		.type = cpu_to_le16(sk->sk_type == SOCK_STREAM ? VIRTIO_VSOCK_TYPE_STREAM :
								 VIRTIO_VSOCK_TYPE_SEQPACKET),
		.op = cpu_to_le16(VIRTIO_VSOCK_OP_RST),
	};

	argo_recv_pkt(&transport, argo_vsock_packet(&header));
}

/* Consumes the reference. */
static void end_connection(struct sock *sk)
{
	bool closed;

	lock_sock(sk);
	closed = sock_flag(sk, SOCK_DEAD) || sk->sk_state != TCP_ESTABLISHED;
	if (!closed)
		abort_connection(sk);
	release_sock(sk);
	if (closed) {
		answer_close(sk);
		/* Whatever that found: a pass takes it out of the table. */
		vsock_remove_connected(vsock_sk(sk));
	}
	sock_put(sk);
}

/* vsock_for_each_connected_socket() hands nothing on to its function. */
static DEFINE_MUTEX(walk_lock);
static u32 walk_cid;
static struct sock *walk_found;

static void find_one(struct sock *sk)
{
	if (walk_found || vsock_sk(sk)->remote_addr.svm_cid != walk_cid)
		return;
	sock_hold(sk);
	walk_found = sk;
}

/* Each pass takes one out of the table of connected sockets. */
static void end_all_connections(u32 cid)
{
	struct sock *sk;

	do {
		mutex_lock(&walk_lock);
		walk_cid = cid;
		walk_found = NULL;
		vsock_for_each_connected_socket(&transport.transport, find_one);
		sk = walk_found;
		mutex_unlock(&walk_lock);
		if (sk)
			end_connection(sk);
	} while (sk);
}

static void wake_one(struct sock *sk)
{
	if (vsock_sk(sk)->remote_addr.svm_cid == walk_cid)
		sk->sk_write_space(sk);
}

void argo_vsock_wake_senders(u32 cid)
{
	mutex_lock(&walk_lock);
	walk_cid = cid;
	vsock_for_each_connected_socket(&transport.transport, wake_one);
	mutex_unlock(&walk_lock);
}

/* ---- what has come ---- */

static struct sock *find_connected(const struct virtio_vsock_hdr *header)
{
	struct sockaddr_vm src, dst;
	struct sock *sk;

	vsock_addr_init(&src, le64_to_cpu(header->src_cid), le32_to_cpu(header->src_port));
	vsock_addr_init(&dst, le64_to_cpu(header->dst_cid), le32_to_cpu(header->dst_port));
	sk = vsock_find_connected_socket(&src, &dst);
	if (sk && vsock_sk(sk)->transport != &transport.transport) {
		/* Another transport's peer has the same CID. */
		sock_put(sk);
		sk = NULL;
	}
	return sk;
}

static void reset(const struct virtio_vsock_hdr *header)
{
	struct sock *sk = find_connected(header);

	if (sk)
		end_connection(sk);
}

/* As later kernels count: the packets' overhead alone must fit into the buffer. */
static bool is_flooded(struct vsock_sock *vsk)
{
	struct virtio_vsock_sock *vvs = vsk->trans;
	const u32 queued = vvs ? skb_queue_len_lockless(&vvs->rx_queue) : 0;

	/* The smallest buffer admits two. */
	return queued > 1 && (u64)queued * ARGO_VSOCK_SMALL > vvs->buf_alloc;
}

/* Tells the meter what it must know, and whether the packet ends its connection in a way that the
 * helpers do not know.
 */
static bool is_fatal(struct argo_vsock_peer *peer, const struct virtio_vsock_hdr *header)
{
	const u16 op = le16_to_cpu(header->op);
	struct vsock_sock *vsk;
	bool fatal = false;
	struct sock *sk;

	if (op != VIRTIO_VSOCK_OP_RST && op != VIRTIO_VSOCK_OP_CREDIT_REQUEST &&
	    (op != VIRTIO_VSOCK_OP_RW || le32_to_cpu(header->len) >= ARGO_VSOCK_SMALL))
		return false;
	sk = find_connected(header);
	if (!sk)
		return false;
	/* Without its lock: a program that closes it meanwhile finds it closed by either. */
	vsk = vsock_sk(sk);
	if (op == VIRTIO_VSOCK_OP_RST) {
		/* Not behind our close or its end-of-file: there it is the last word. */
		fatal = !(vsk->peer_shutdown & SEND_SHUTDOWN) && sk->sk_shutdown != SHUTDOWN_MASK;
	} else if (op == VIRTIO_VSOCK_OP_CREDIT_REQUEST) {
		argo_vsock_meter_asked(vsk);
	} else if (is_flooded(vsk)) {
		peer->drop_flood++;
		fatal = true;
	} else {
		argo_vsock_meter_small(vsk);
	}
	sock_put(sk);
	return fatal;
}

static void refuse(const struct virtio_vsock_hdr *header)
{
	const struct virtio_vsock_hdr answer = {
		.src_cid = header->dst_cid,
		.src_port = header->dst_port,
		.dst_cid = header->src_cid,
		.dst_port = header->src_port,
		.type = header->type,
		.op = cpu_to_le16(VIRTIO_VSOCK_OP_RST),
	};
	struct sk_buff *skb = argo_vsock_packet(&answer);

	virtio_vsock_skb_set_reply(skb);
	argo_vsock_send(skb);
}

void argo_vsock_receive(struct argo_vsock_peer *peer, struct sk_buff *skb)
{
	const struct virtio_vsock_hdr *header = virtio_vsock_hdr(skb);

	if (le16_to_cpu(header->op) == ARGO_VSOCK_OP_RESET) {
		if (le32_to_cpu(header->src_port) == VMADDR_PORT_ANY)
			end_all_connections(le64_to_cpu(header->src_cid));
		else
			reset(header);
		kfree_skb(skb);
		return;
	}
	virtio_transport_deliver_tap_pkt(skb);
	if (le16_to_cpu(header->type) == ARGO_VSOCK_TYPE_DGRAM) {
		argo_vsock_dgram_receive(peer, skb);
	} else if (is_fatal(peer, header)) {
		reset(header);
		if (le16_to_cpu(header->op) != VIRTIO_VSOCK_OP_RST)
			refuse(header);
		kfree_skb(skb);
	} else {
		argo_recv_pkt(&transport, skb);
	}
}

/* ---- operations ---- */

static int socket_init(struct vsock_sock *vsk, struct vsock_sock *parent)
{
	int ret = virtio_transport_do_socket_init(vsk, parent);

	if (ret)
		return ret;
	ret = argo_vsock_meter_add(vsk);
	if (ret)
		virtio_transport_destruct(vsk);
	return ret;
}

static void socket_destruct(struct vsock_sock *vsk)
{
	argo_vsock_meter_remove(vsk);
	virtio_transport_destruct(vsk);
}

static void socket_release(struct vsock_sock *vsk)
{
	argo_vsock_cancel(vsk);
	if (sk_vsock(vsk)->sk_type == SOCK_DGRAM)
		argo_vsock_dgram_release(vsk);
	virtio_transport_release(vsk);
}

static int cancel_pkt(struct vsock_sock *vsk)
{
	argo_vsock_cancel(vsk);
	return 0;
}

static s64 stream_has_space(struct vsock_sock *vsk)
{
	/* A message that has begun must not stop half way: who does not wait would begin anew. */
	if (!argo_vsock_meter_is_midway(vsk) &&
	    (argo_vsock_is_blocked(vsk->remote_addr.svm_cid) || argo_vsock_meter_is_full(vsk) ||
	     !argo_vsock_meter_fits(vsk)))
		return 0;
	return virtio_transport_stream_has_space(vsk);
}

static ssize_t stream_enqueue(struct vsock_sock *vsk, struct msghdr *msg, size_t len)
{
	const size_t part = min_t(size_t, len, VIRTIO_VSOCK_MAX_PKT_BUF_SIZE);
	ssize_t ret;

	/* One packet, then stream_has_space() is asked again.  The helper copies the second part of
	 * what a program lends it by MSG_ZEROCOPY: so that goes at once.
	 */
	ret = virtio_transport_stream_enqueue(vsk, msg, msg->msg_flags & MSG_ZEROCOPY ? len : part);
	if (ret > 0)
		argo_vsock_meter_count(vsk, ret, false);
	return ret;
}

/* A program begins to send: what it gave up before is not what it waits for. */
static int notify_send_init(struct vsock_sock *vsk, struct vsock_transport_send_notify_data *data)
{
	if (sk_vsock(vsk)->sk_type == SOCK_SEQPACKET)
		argo_vsock_meter_want(vsk, 0);
	return virtio_transport_notify_send_init(vsk, data);
}

static int seqpacket_enqueue(struct vsock_sock *vsk, struct msghdr *msg, size_t len)
{
	int ret;

	/*
	 * The helper sends what there is credit for.  A message that would stop there must not
	 * begin: nothing is sent yet, and stream_has_space() is asked again.
	 */
	if (!argo_vsock_meter_is_midway(vsk)) {
		argo_vsock_meter_want(vsk, len);
		if (!argo_vsock_meter_fits(vsk))
			return 0;
	}
	ret = virtio_transport_seqpacket_enqueue(vsk, msg, len);
	if (ret > 0)
		argo_vsock_meter_count(vsk, ret, ret < len);
	if (ret == len)
		argo_vsock_meter_want(vsk, 0);
	return ret;
}

/* A reader that waits for more than a byte must not wait for credit that is held back. */
static int notify_poll_in(struct vsock_sock *vsk, size_t target, bool *ready)
{
	const int ret = virtio_transport_notify_poll_in(vsk, target, ready);

	if (target > 1 && !*ready)
		argo_vsock_meter_tell(vsk);
	return ret;
}

static int notify_recv_pre_block(struct vsock_sock *vsk, size_t target,
				 struct vsock_transport_recv_notify_data *data)
{
	if (target > 1)
		argo_vsock_meter_tell(vsk);
	return virtio_transport_notify_recv_pre_block(vsk, target, data);
}

static bool seqpacket_allow(ARGO_VSK_PARAM u32 remote_cid)
{
	return true;
}

/* The well-known CIDs below dom0's are nobody's, and ANY is no destination. */
static bool dgram_allow(ARGO_VSK_PARAM u32 cid, u32 port)
{
	return cid != VMADDR_CID_ANY;
}

static int send_pkt(ARGO_SEND_PKT_PARAMS)
{
	if (argo_vsock_meter_holds(skb)) {
		consume_skb(skb);
		return 0;
	}
	return argo_vsock_send(skb);
}

static struct virtio_transport transport = {
	.transport = {
		.module = THIS_MODULE,
		.get_local_cid = argo_vsock_own_cid,
		.init = socket_init,
		.destruct = socket_destruct,
		.release = socket_release,
		.connect = virtio_transport_connect,
		.shutdown = virtio_transport_shutdown,
		.cancel_pkt = cancel_pkt,
		.dgram_bind = argo_vsock_dgram_bind,
		.dgram_dequeue = argo_vsock_dgram_dequeue,
		.dgram_enqueue = argo_vsock_dgram_enqueue,
		.dgram_allow = dgram_allow,
		.stream_dequeue = virtio_transport_stream_dequeue,
		.stream_enqueue = stream_enqueue,
		.stream_has_data = virtio_transport_stream_has_data,
		.stream_has_space = stream_has_space,
		.stream_rcvhiwat = virtio_transport_stream_rcvhiwat,
		.stream_is_active = virtio_transport_stream_is_active,
		.stream_allow = argo_stream_allow,
		.seqpacket_dequeue = virtio_transport_seqpacket_dequeue,
		.seqpacket_enqueue = seqpacket_enqueue,
		.seqpacket_allow = seqpacket_allow,
		.seqpacket_has_data = virtio_transport_seqpacket_has_data,
		.notify_poll_in = notify_poll_in,
		.notify_poll_out = virtio_transport_notify_poll_out,
		.notify_recv_init = virtio_transport_notify_recv_init,
		.notify_recv_pre_block = notify_recv_pre_block,
		.notify_recv_pre_dequeue = virtio_transport_notify_recv_pre_dequeue,
		.notify_recv_post_dequeue = virtio_transport_notify_recv_post_dequeue,
		.notify_send_init = notify_send_init,
		.notify_send_pre_block = virtio_transport_notify_send_pre_block,
		.notify_send_pre_enqueue = virtio_transport_notify_send_pre_enqueue,
		.notify_send_post_enqueue = virtio_transport_notify_send_post_enqueue,
		.notify_buffer_size = virtio_transport_notify_buffer_size,
		ARGO_LATER_OPERATIONS
	},
	.send_pkt = send_pkt,
};

/*
 * A guest's way to other machines is G2H.  dom0 wants CIDs above 2 as well: that is H2G, unless the
 * kernel asks each transport whether a CID is its own (has_remote_cid), for then vhost_vsock can be
 * there, too.
 */
static int register_transport(void)
{
	const int streams = VSOCK_TRANSPORT_F_G2H |
			    (xen_initial_domain() && !ARGO_HAVE_HAS_REMOTE_CID ?
				     VSOCK_TRANSPORT_F_H2G : 0);
	int ret = vsock_core_register(&transport.transport, streams | VSOCK_TRANSPORT_F_DGRAM);

	if (ret != -EBUSY)
		return ret;
	ret = vsock_core_register(&transport.transport, streams);
	if (ret == 0)
		pr_warn("vsock_argo: another transport has the datagrams\n");
	else if (ret == -EBUSY)
		pr_err("vsock_argo: another vsock transport (virtio, vhost_vsock, VMCI, Hyper-V) is loaded; unload it first\n");
	return ret;
}

static int __init vsock_argo_init(void)
{
	int ret = argo_vsock_peers_init();

	if (ret)
		return ret;
	ret = register_transport();
	if (ret)
		argo_vsock_peers_exit();
	return ret;
}

static void __exit vsock_argo_exit(void)
{
	vsock_core_unregister(&transport.transport);
	argo_vsock_peers_exit();
}

module_init(vsock_argo_init);
module_exit(vsock_argo_exit);
MODULE_LICENSE("GPL");
MODULE_VERSION(ARGOSY_VERSION);
MODULE_DESCRIPTION("AF_VSOCK between Xen domains, over Argo");
