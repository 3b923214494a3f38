// SPDX-License-Identifier: Apache-2.0
// File: transport/packet/link.h
//
// The carrier of packets, seen from an Endpoint.  Two exist: the Argo link (of a simulated
// domain: //sim) and Pair (two endpoints joined in memory, for tests).
//
//   carrier --OnPacket()--> endpoint          endpoint --Send()--> carrier
//
// A packet is always consumed: an error ends a connection, never stalls a carrier.
//
// Threads: a link and its endpoint live on one thread.
#ifndef ARGOSY_TRANSPORT_PACKET_LINK_H_
#define ARGOSY_TRANSPORT_PACKET_LINK_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "absl/types/span.h"
#include "transport/packet/wire.h"

namespace argosy::packet {

// Payload of a packet, not owned: one piece, or two where a ring wraps.
struct Payload {
  absl::Span<const uint8_t> first;
  absl::Span<const uint8_t> second;

  Payload() = default;
  // NOLINTNEXTLINE(google-explicit-constructor): a plain buffer is a payload.
  Payload(absl::Span<const uint8_t> bytes) : first(bytes) {}
  Payload(absl::Span<const uint8_t> a, absl::Span<const uint8_t> b) : first(a), second(b) {}

  size_t size() const { return first.size() + second.size(); }
  bool empty() const { return size() == 0; }
  // What is left behind the first n bytes; n <= size().
  Payload Skip(size_t n) const {
    if (n < first.size()) return Payload(first.subspan(n), second);
    return Payload(second.subspan(n - first.size()));
  }
  // The first n bytes; n <= size().
  Payload Prefix(size_t n) const {
    if (n <= first.size()) return Payload(first.subspan(0, n));
    return Payload(first, second.subspan(0, n - first.size()));
  }
  // Copies all bytes to `to`, which has room for size().
  void CopyTo(uint8_t* to) const {
    if (!first.empty()) std::memcpy(to, first.data(), first.size());
    if (!second.empty()) std::memcpy(to + first.size(), second.data(), second.size());
  }
};

// A packet's header in host byte order, checked: see ParseHeader().
struct Header {
  uint64_t src_cid = 0;
  uint64_t dst_cid = 0;
  uint32_t src_port = 0;
  uint32_t dst_port = 0;
  uint32_t len = 0;
  uint16_t type = 0;
  uint16_t op = 0;
  uint32_t flags = 0;
  uint32_t buf_alloc = 0;
  uint32_t fwd_cnt = 0;
};

// Reads a header from the first 44 bytes of `bytes`.  False if there are fewer, or if `len` is not
// exactly the number of bytes behind the header (`total_size` - 44), or above VSOCK_MAX_PAYLOAD.
// Types, operations, CIDs and ports are not judged here: the endpoint answers unknown ones.
bool ParseHeader(absl::Span<const uint8_t> bytes, size_t total_size, Header* header);

// The 44 bytes of `header`.
std::array<uint8_t, VSOCK_HEADER_SIZE> SerializeHeader(const Header& header);

// The endpoint's side.
class LinkUser {
 public:
  virtual ~LinkUser() = default;
  // One packet.  `src_cid` is who really sent it, by the carrier's word; the header may lie.  The
  // payload is valid during the call only, and its size is header.len.
  virtual void OnPacket(uint64_t src_cid, const Header& header, const Payload& payload) = 0;
  // Send() to this CID is possible again, after CanSend() said no: a session began, or the carrier
  // has room.
  virtual void OnCanSend(uint64_t cid) = 0;
  // The peer's session ended (it died, restarted, or its carrier went): its connections are reset.
  virtual void OnPeerReset(uint64_t cid) = 0;
};

// The carrier's side.
class Link {
 public:
  enum class Reach {
    kNobody,    // no such CID behind this carrier: ENODEV
    kStarting,  // known, but no session yet (booting, greeting)
    kUp,
  };

  virtual ~Link() = default;

  virtual Reach Reaches(uint64_t cid) const = 0;

  // Whether a packet to `cid` goes out at once.  While false the endpoint keeps data where it is
  // (in the program's socket) and control as state; OnCanSend() follows.
  virtual bool CanSend(uint64_t cid) const = 0;

  // Sends one packet; payload.size() == header.len <= MaxPayload().  Called only while
  // CanSend(header.dst_cid); the carrier takes the packet even if it must wait in the carrier's own
  // bounded queue.  One exception: the later packets of a burst that began while CanSend() (the
  // fragments of one message or of one piece of a stream, at most 256 KiB) follow although
  // CanSend() may have turned false.  The payload is not kept.  May call nothing
  // of LinkUser before it returns, except OnPeerReset().
  virtual void Send(const Header& header, const Payload& payload) = 0;

  // Largest payload of one packet to `cid`: at least 1, at most VSOCK_MAX_PAYLOAD.
  virtual uint32_t MaxPayload(uint64_t cid) const = 0;
};

}  // namespace argosy::packet

#endif  // ARGOSY_TRANSPORT_PACKET_LINK_H_
