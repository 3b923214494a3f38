/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
/*
 * The virtio-vsock packet header, as it goes over every carrier: 44 bytes, little endian, then
 * `len` bytes of payload. Source: virtio 1.3, 5.10.6.  DGRAM (type 3) is ours: virtio has none,
 * Argo makes it natural.
 */
#ifndef ARGOSY_TRANSPORT_PACKET_WIRE_H_
#define ARGOSY_TRANSPORT_PACKET_WIRE_H_

#include <stdint.h>

#define VSOCK_HEADER_SIZE 44u
#define VSOCK_MAX_PAYLOAD 65536u

#define VSOCK_TYPE_STREAM 1u
#define VSOCK_TYPE_SEQPACKET 2u
#define VSOCK_TYPE_DGRAM 3u

#define VSOCK_OP_INVALID 0u
#define VSOCK_OP_REQUEST 1u
#define VSOCK_OP_RESPONSE 2u
#define VSOCK_OP_RST 3u
#define VSOCK_OP_SHUTDOWN 4u
#define VSOCK_OP_RW 5u
#define VSOCK_OP_CREDIT_UPDATE 6u
#define VSOCK_OP_CREDIT_REQUEST 7u

/* Flags of SHUTDOWN: what the sender will not do any more. */
#define VSOCK_SHUTDOWN_RCV 1u
#define VSOCK_SHUTDOWN_SEND 2u
/* Flags of RW on a SEQPACKET connection. */
#define VSOCK_SEQ_EOM 1u
#define VSOCK_SEQ_EOR 2u

/* On the wire.  Packed by layout: every field is naturally aligned but the header's size is no
 * multiple of 8. */
struct vsock_header {
  uint64_t src_cid;
  uint64_t dst_cid;
  uint32_t src_port;
  uint32_t dst_port;
  uint32_t len;
  uint16_t type;
  uint16_t op;
  uint32_t flags;
  uint32_t buf_alloc; /* receive buffer of the sender of this packet */
  uint32_t fwd_cnt;   /* bytes its reader has taken, modulo 2^32 */
} __attribute__((packed));

#endif /* ARGOSY_TRANSPORT_PACKET_WIRE_H_ */
