#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# probe.sh INCLUDE: what the kernel whose headers are in INCLUDE offers, as compiler options: -DARGO_HAVE_name=1 or =0.
#
# Stable kernels and distributions move these changes between versions, so nothing here looks at a version.  A row is a
# name, a header, and an extended regular expression; blanks and line ends of the header count as one blank each.  What
# is not found, be it the whole header, is 0: then the module's compilation says what it misses.
set -eu

include=$1

while read -r name header pattern; do
	case $name in '' | '#'*) continue ;; esac
	have=0
	if [ -r "$include/$header" ] && tr -s '[:space:]' ' ' < "$include/$header" | grep -qE "$pattern"; then
		have=1
	fi
	echo "-DARGO_HAVE_$name=$have"
done << 'END'
# struct vsock_transport
ALLOW_VSK            net/af_vsock.h        \(\*stream_allow\)\( ?struct vsock_sock \*
HAS_REMOTE_CID       net/af_vsock.h        \(\*has_remote_cid\)
MSGZEROCOPY_ALLOW    net/af_vsock.h        \(\*msgzerocopy_allow\)
NOTIFY_SET_RCVLOWAT  net/af_vsock.h        \(\*notify_set_rcvlowat\)
READ_SKB             net/af_vsock.h        \(\*read_skb\)
UNSENT_BYTES         net/af_vsock.h        \(\*unsent_bytes\)
# struct virtio_transport and its helpers
CONSUME_SKB_SENT     linux/virtio_vsock.h  virtio_transport_consume_skb_sent\(
RECV_PKT_NET         linux/virtio_vsock.h  virtio_transport_recv_pkt\([^)]*struct net \*
SEND_PKT_NET         linux/virtio_vsock.h  \(\*send_pkt\)\([^)]*struct net \*
SKB_PUT_LEN          linux/virtio_vsock.h  virtio_vsock_skb_put\([^,)]*, u32
END
