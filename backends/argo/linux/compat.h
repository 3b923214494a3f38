/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What differs between kernels.  Kbuild looks into the headers of the kernel at hand (probe.sh) and
 * defines each ARGO_HAVE_* as 0 or 1: stable kernels take such changes over, so a version says
 * little.
 */
#ifndef ARGOSY_BACKENDS_ARGO_LINUX_COMPAT_H_
#define ARGOSY_BACKENDS_ARGO_LINUX_COMPAT_H_

#include <linux/skbuff.h>
#include <linux/virtio_vsock.h>

/* Arguments that later kernels add. */
#if ARGO_HAVE_SEND_PKT_NET
#define ARGO_SEND_PKT_PARAMS struct sk_buff *skb, struct net *net
#else
#define ARGO_SEND_PKT_PARAMS struct sk_buff *skb
#endif

#if ARGO_HAVE_ALLOW_VSK
#define ARGO_VSK_PARAM struct vsock_sock *vsk,
#else
#define ARGO_VSK_PARAM
#endif

static inline void argo_recv_pkt(struct virtio_transport *transport, struct sk_buff *skb)
{
#if ARGO_HAVE_RECV_PKT_NET
	virtio_transport_recv_pkt(transport, skb, NULL);
#else
	virtio_transport_recv_pkt(transport, skb);
#endif
}

/* The skb was sent: later kernels count its bytes as unsent no more (SIOCOUTQ). */
static inline void argo_skb_sent(struct sk_buff *skb)
{
#if ARGO_HAVE_CONSUME_SKB_SENT
	virtio_transport_consume_skb_sent(skb, true);
#else
	consume_skb(skb);
#endif
}

/* Makes len bytes of an skb from virtio_vsock_alloc_skb() its payload. */
static inline void argo_skb_put(struct sk_buff *skb, u32 len)
{
#if ARGO_HAVE_SKB_PUT_LEN
	virtio_vsock_skb_put(skb, len);
#else
	skb_put(skb, len);
#endif
}

#if ARGO_HAVE_ALLOW_VSK
static inline bool argo_stream_allow(struct vsock_sock *vsk, u32 cid, u32 port)
{
	return vsock_net_mode_global(vsk);
}
#else
#define argo_stream_allow virtio_transport_stream_allow
#endif

#if ARGO_HAVE_HAS_REMOTE_CID
#define ARGO_HAS_REMOTE_CID .has_remote_cid = argo_vsock_has_remote_cid,
#else
#define ARGO_HAS_REMOTE_CID
#endif

#if ARGO_HAVE_NOTIFY_SET_RCVLOWAT
#define ARGO_NOTIFY_SET_RCVLOWAT .notify_set_rcvlowat = virtio_transport_notify_set_rcvlowat,
#else
#define ARGO_NOTIFY_SET_RCVLOWAT
#endif

#if ARGO_HAVE_UNSENT_BYTES
#define ARGO_UNSENT_BYTES .unsent_bytes = virtio_transport_unsent_bytes,
#else
#define ARGO_UNSENT_BYTES
#endif

#if ARGO_HAVE_READ_SKB
#define ARGO_READ_SKB .read_skb = virtio_transport_read_skb,
#else
#define ARGO_READ_SKB
#endif

#if ARGO_HAVE_MSGZEROCOPY_ALLOW
static inline bool argo_msgzerocopy_allow(void)
{
	return true;
}

#define ARGO_MSGZEROCOPY_ALLOW .msgzerocopy_allow = argo_msgzerocopy_allow,
#else
#define ARGO_MSGZEROCOPY_ALLOW
#endif

/* Operations of struct vsock_transport that 6.1 has not. */
#define ARGO_LATER_OPERATIONS \
	ARGO_HAS_REMOTE_CID ARGO_NOTIFY_SET_RCVLOWAT ARGO_UNSENT_BYTES ARGO_READ_SKB \
	ARGO_MSGZEROCOPY_ALLOW

#endif /* ARGOSY_BACKENDS_ARGO_LINUX_COMPAT_H_ */
