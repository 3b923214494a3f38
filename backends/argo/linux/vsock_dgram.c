// SPDX-License-Identifier: GPL-2.0-only
/*
 * Datagrams: packets of a type of our own on the same link, one each, without credit or answer.
 *
 * Their ports are a space of their own: a table of bound sockets.  What does not fit into the
 * receiver's socket buffer is dropped and counted.
 */
#include <linux/capability.h>
#include <linux/hashtable.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <net/sock.h>

#include "backends/argo/linux/compat.h"
#include "backends/argo/linux/vsock_transport.h"

#define FIRST_FREE_PORT 1024u

struct binding {
	struct hlist_node node;
	u32 port;
	struct vsock_sock *vsk;
};

static DEFINE_HASHTABLE(bindings, 8);
static DEFINE_SPINLOCK(bindings_lock);

static struct binding *find(u32 port)
{
	struct binding *binding;

	hash_for_each_possible(bindings, binding, node, port) {
		if (binding->port == port)
			return binding;
	}
	return NULL;
}

/* Under bindings_lock.  0: none is free. */
static u32 free_port(void)
{
	const u32 start = FIRST_FREE_PORT + get_random_u32() % (U32_MAX / 2);
	u32 port;

	for (port = start; port < start + U16_MAX; port++) {
		if (!find(port))
			return port;
	}
	return 0;
}

int argo_vsock_dgram_bind(struct vsock_sock *vsk, struct sockaddr_vm *addr)
{
	struct binding *binding;
	u32 port = addr->svm_port;
	int ret = 0;

	if (vsock_addr_bound(&vsk->local_addr))
		return -EINVAL;
	if (addr->svm_cid != VMADDR_CID_ANY && addr->svm_cid != argo_vsock_own_cid())
		return -EADDRNOTAVAIL;
	if (port != VMADDR_PORT_ANY && port < FIRST_FREE_PORT && !capable(CAP_NET_BIND_SERVICE))
		return -EACCES;
	binding = kzalloc(sizeof(*binding), GFP_KERNEL);
	if (!binding)
		return -ENOMEM;

	spin_lock_bh(&bindings_lock);
	if (port == VMADDR_PORT_ANY) {
		port = free_port();
		if (port == 0)
			ret = -EADDRNOTAVAIL;
	} else if (find(port)) {
		ret = -EADDRINUSE;
	}
	if (ret == 0) {
		binding->port = port;
		binding->vsk = vsk;
		hash_add(bindings, &binding->node, port);
	}
	spin_unlock_bh(&bindings_lock);
	if (ret) {
		kfree(binding);
		return ret;
	}
	vsock_addr_init(&vsk->local_addr, addr->svm_cid, port);
	return 0;
}

void argo_vsock_dgram_release(struct vsock_sock *vsk)
{
	struct binding *binding;

	spin_lock_bh(&bindings_lock);
	binding = find(vsk->local_addr.svm_port);
	if (binding && binding->vsk == vsk)
		hash_del(&binding->node);
	else
		binding = NULL;
	spin_unlock_bh(&bindings_lock);
	kfree(binding);
}

void argo_vsock_dgram_receive(struct argo_vsock_peer *peer, struct sk_buff *skb)
{
	const struct virtio_vsock_hdr *header = virtio_vsock_hdr(skb);
	struct binding *binding;
	bool queued = false;

	if (le16_to_cpu(header->op) == VIRTIO_VSOCK_OP_RW) {
		spin_lock_bh(&bindings_lock);
		binding = find(le32_to_cpu(header->dst_port));
		/* Under the lock: a socket that closes leaves the table first, then its queue. */
		queued = binding && sock_queue_rcv_skb(sk_vsock(binding->vsk), skb) == 0;
		spin_unlock_bh(&bindings_lock);
	}
	if (!queued) {
		peer->drop_dgram++;
		kfree_skb(skb);
	}
}

int argo_vsock_dgram_dequeue(struct vsock_sock *vsk, struct msghdr *msg, size_t len, int flags)
{
	const struct virtio_vsock_hdr *header;
	struct sk_buff *skb;
	size_t copied;
	int ret;

	if (flags & (MSG_OOB | MSG_ERRQUEUE))
		return -EOPNOTSUPP;
	skb = skb_recv_datagram(sk_vsock(vsk), flags, &ret);
	if (!skb)
		return ret;
	header = virtio_vsock_hdr(skb);
	copied = min_t(size_t, len, skb->len);
	if (copied < skb->len)
		msg->msg_flags |= MSG_TRUNC;
	ret = skb_copy_datagram_msg(skb, 0, msg, copied);
	if (ret == 0 && msg->msg_name) {
		DECLARE_SOCKADDR(struct sockaddr_vm *, from, msg->msg_name);

		vsock_addr_init(from, le64_to_cpu(header->src_cid), le32_to_cpu(header->src_port));
		msg->msg_namelen = sizeof(*from);
	}
	if (ret == 0)
		ret = flags & MSG_TRUNC ? skb->len : copied;
	skb_free_datagram(sk_vsock(vsk), skb);
	return ret;
}

int argo_vsock_dgram_enqueue(struct vsock_sock *vsk, struct sockaddr_vm *to, struct msghdr *msg,
			     size_t len)
{
	struct virtio_vsock_hdr *header;
	struct sk_buff *skb;
	int ret;

	if (len > VIRTIO_VSOCK_MAX_PKT_BUF_SIZE)
		return -EMSGSIZE;
	/* A copy in one piece: a datagram waits in no socket's queue. */
	skb = alloc_skb(sizeof(*header) + len, GFP_KERNEL);
	if (!skb)
		return -ENOMEM;
	skb_reserve(skb, sizeof(*header));
	memset(skb->cb, 0, sizeof(skb->cb));
	ret = memcpy_from_msg(skb_put(skb, len), msg, len);
	if (ret) {
		kfree_skb(skb);
		return ret;
	}
	header = virtio_vsock_hdr(skb);
	*header = (struct virtio_vsock_hdr){
		.src_cid = cpu_to_le64(argo_vsock_own_cid()),
		.dst_cid = cpu_to_le64(to->svm_cid),
		.src_port = cpu_to_le32(vsk->local_addr.svm_port),
		.dst_port = cpu_to_le32(to->svm_port),
		.len = cpu_to_le32(len),
		.type = cpu_to_le16(ARGO_VSOCK_TYPE_DGRAM),
		.op = cpu_to_le16(VIRTIO_VSOCK_OP_RW),
	};
	/* As a reply: where the partner's ring is full it is dropped. */
	virtio_vsock_skb_set_reply(skb);
	ret = argo_vsock_send(skb);
	return ret < 0 ? ret : len;
}
