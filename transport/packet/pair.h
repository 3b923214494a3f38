// SPDX-License-Identifier: Apache-2.0
// File: transport/packet/pair.h
//
// Two endpoints joined in memory, for tests and as the smallest carrier there is: bounded queues
// that move only when the test pumps them, so every run is the same.
//
//   Pair pair({.cid = 3}, {.cid = 4});
//   pair.b().Listen(1234, VSOCK_TYPE_STREAM, 8, &listener);
//   pair.a().Connect(kPortAny, {4, 1234}, VSOCK_TYPE_STREAM, kConnectTimeout, &client);
//   pair.Pump();
#ifndef ARGOSY_TRANSPORT_PACKET_PAIR_H_
#define ARGOSY_TRANSPORT_PACKET_PAIR_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <vector>

#include "absl/time/time.h"
#include "transport/packet/endpoint.h"
#include "transport/packet/link.h"

namespace argosy::packet {

class Pair {
 public:
  // Packets that one direction holds before CanSend() says no.
  static constexpr size_t kQueue = 32;

  Pair(const Endpoint::Options& a, const Endpoint::Options& b);

  Endpoint& a() { return sides_[0].endpoint; }
  Endpoint& b() { return sides_[1].endpoint; }

  // Delivers packets and room until nothing moves any more; the number of packets.
  size_t Pump();
  // Delivers one packet from the side (0: a, 1: b), if one waits and the direction is open.
  bool PumpOne(int from);
  // A blocked direction takes no more packets and delivers none.
  void Block(int from, bool blocked);
  // Both sides' sessions end: packets under way are lost.  With up = false the other side is
  // "starting" until the next call with true.
  void ResetSession(bool up = true);
  void set_max_payload(uint32_t max) { max_payload_ = max; }
  // Tells both endpoints that time passed.
  void Advance(absl::Duration by);
  absl::Time now() const { return now_; }
  // Sees every packet when it is sent.
  void set_tap(std::function<void(const Header&)> tap) { tap_ = std::move(tap); }

 private:
  struct Side : Link {
    Side(Pair& pair, int index, const Endpoint::Options& options)
        : pair(pair), index(index), endpoint(*this, options) {}
    Reach Reaches(uint64_t cid) const override;
    bool CanSend(uint64_t cid) const override;
    void Send(const Header& header, const Payload& payload) override;
    uint32_t MaxPayload(uint64_t) const override { return pair.max_payload_; }

    Pair& pair;
    const int index;
    Endpoint endpoint;
    // Packets to the other side, and to itself: header and payload as they go over a wire.
    std::deque<std::vector<uint8_t>> to_other;
    std::deque<std::vector<uint8_t>> to_self;
    bool blocked = false;
    // CanSend() said no.
    mutable bool refused = false;
    mutable bool refused_self = false;
  };

  bool PumpSelf(Side& side);
  // OnCanSend() where CanSend() said no before and says yes now.
  bool Wake(Side& side);
  static void Deliver(std::deque<std::vector<uint8_t>>& queue, Endpoint& from, Endpoint& to);

  bool up_ = true;
  uint32_t max_payload_ = VSOCK_MAX_PAYLOAD;
  absl::Time now_ = absl::UnixEpoch();
  std::function<void(const Header&)> tap_;
  std::array<Side, 2> sides_;
};

}  // namespace argosy::packet

#endif  // ARGOSY_TRANSPORT_PACKET_PAIR_H_
