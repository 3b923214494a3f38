// SPDX-License-Identifier: Apache-2.0
// Every limit of the packet engine, with its reason.  A limit hit is counted in Endpoint::Counters.
#ifndef ARGOSY_TRANSPORT_PACKET_LIMITS_H_
#define ARGOSY_TRANSPORT_PACKET_LIMITS_H_

#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"

namespace argosy::packet {

// Receive buffer of a connection, announced as buf_alloc.  Linux's default; also the largest
// SEQPACKET message.
inline constexpr uint32_t kDefaultBufAlloc = 256 * 1024;

// Packets sent and not yet taken by the reader.  Linux receivers reset a connection that queues
// more than about 455 small packets (CVE-2026-23086), so credit in bytes is not enough.
inline constexpr uint32_t kMaxPacketsInFlight = 256;

// Messages of a SEQPACKET connection that a receiver keeps; above kMaxPacketsInFlight so that only
// a liar meets it.
inline constexpr size_t kMaxQueuedMessages = 1024;

// Connections of one CID.  Each costs a few hundred bytes while idle.
inline constexpr size_t kMaxConnections = 65536;

// A listener's connections that nobody has accepted; Linux's SOMAXCONN.
inline constexpr int kMaxBacklog = 4096;

// Resets owed to packets of no connection while the carrier is blocked, per peer.  Beyond it the
// peer loses its own resets.
inline constexpr size_t kMaxOwedResets = 64;

// Datagrams: one packet each.
inline constexpr size_t kMaxDatagram = 65536;

// Linux's defaults.
inline constexpr absl::Duration kConnectTimeout = absl::Seconds(2);
inline constexpr absl::Duration kCloseTimeout = absl::Seconds(8);

// A sender that waits for credit, or for the news that all was taken, asks again after this time:
// Linux 6.1 tells nothing by itself before three quarters of the buffer were read, however many
// packets that takes.
inline constexpr absl::Duration kCreditRetry = absl::Milliseconds(200);

// Ports: below it a listener needs privilege; automatic ones come from [kFirstEphemeralPort, 2^32 -
// 2].
inline constexpr uint32_t kFirstUnprivilegedPort = 1024;
inline constexpr uint32_t kFirstEphemeralPort = 49152;

}  // namespace argosy::packet

#endif  // ARGOSY_TRANSPORT_PACKET_LIMITS_H_
