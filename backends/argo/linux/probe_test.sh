#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# probe.sh finds what a header declares however it is laid out, and nothing that only looks alike.
set -euo pipefail

probe=backends/argo/linux/probe.sh
include=$TEST_TMPDIR/include
mkdir -p "$include/net" "$include/linux"

# expect VALUE NAME...: these probes, and no others, give VALUE.
expect() {
  local value=$1 want got
  shift
  want=$(printf -- '-DARGO_HAVE_%s\n' "$@" | sort)
  got=$(sh "$probe" "$include" | sed -n "s/=$value\$//p" | sort)
  if [[ "$got" != "$want" ]]; then
    printf 'with value %s expected:\n%s\nbut probe.sh said:\n%s\n' "$value" "$want" "$got"
    exit 1
  fi
}

all=(ALLOW_VSK HAS_REMOTE_CID MSGZEROCOPY_ALLOW NOTIFY_SET_RCVLOWAT READ_SKB UNSENT_BYTES
  CONSUME_SKB_SENT RECV_PKT_NET SEND_PKT_NET SKB_PUT_LEN)

# No headers at all.
expect 0 "${all[@]}"

# Looks alike: other names, other arguments.
cat > "$include/net/af_vsock.h" << 'END'
bool (*stream_allow)(u32 cid, u32 port);
int (*set_rcvlowat)(struct vsock_sock *vsk, int val);
ssize_t vsock_unsent_bytes(struct vsock_sock *vsk);
END
cat > "$include/linux/virtio_vsock.h" << 'END'
int (*send_pkt)(struct sk_buff *skb);
void virtio_vsock_skb_put(struct sk_buff *skb);
void virtio_transport_recv_pkt(struct virtio_transport *t, struct sk_buff *skb);
void other(struct net *net);
END
expect 0 "${all[@]}"

# Everything, over several lines.
cat > "$include/net/af_vsock.h" << 'END'
bool (*stream_allow)(
	struct vsock_sock *vsk, u32 cid, u32 port);
bool (*has_remote_cid)(struct vsock_sock *vsk, u32 remote_cid);
bool (*msgzerocopy_allow)(void);
int (*notify_set_rcvlowat)(struct vsock_sock *vsk, int val);
int (*read_skb)(struct vsock_sock *, skb_read_actor_t);
ssize_t (*unsent_bytes)(struct vsock_sock *vsk);
END
cat > "$include/linux/virtio_vsock.h" << 'END'
int (*send_pkt)(struct sk_buff *skb,
		struct net *net);
void virtio_transport_consume_skb_sent(struct sk_buff *skb, bool consume);
void virtio_transport_recv_pkt(struct virtio_transport *t,
			       struct sk_buff *skb, struct net *net);
static inline void virtio_vsock_skb_put(struct sk_buff *skb,
					u32 len);
END
expect 1 "${all[@]}"
