// SPDX-License-Identifier: Apache-2.0
#include "transport/packet/pair.h"

#include <utility>

namespace argosy::packet {

Pair::Pair(const Endpoint::Options& a, const Endpoint::Options& b)
    : sides_{Side(*this, 0, a), Side(*this, 1, b)} {}

Link::Reach Pair::Side::Reaches(uint64_t cid) const {
  if (cid == endpoint.cid()) return Reach::kUp;
  if (cid != pair.sides_[1 - index].endpoint.cid()) return Reach::kNobody;
  return pair.up_ ? Reach::kUp : Reach::kStarting;
}

bool Pair::Side::CanSend(uint64_t cid) const {
  const bool self = cid == endpoint.cid();
  const bool can = self ? to_self.size() < kQueue
                        : pair.up_ && !blocked && to_other.size() < kQueue &&
                              cid == pair.sides_[1 - index].endpoint.cid();
  if (!can) (self ? refused_self : refused) = true;
  return can;
}

void Pair::Side::Send(const Header& header, const Payload& payload) {
  if (pair.tap_) pair.tap_(header);
  const auto head = SerializeHeader(header);
  std::vector<uint8_t> packet(head.begin(), head.end());
  packet.resize(head.size() + payload.size());
  payload.CopyTo(packet.data() + head.size());
  (header.dst_cid == endpoint.cid() ? to_self : to_other).push_back(std::move(packet));
}

void Pair::Deliver(std::deque<std::vector<uint8_t>>& queue, Endpoint& from, Endpoint& to) {
  const std::vector<uint8_t> packet = std::move(queue.front());
  queue.pop_front();
  Header header;
  if (!ParseHeader(packet, packet.size(), &header)) return;
  // In two pieces, as a ring delivers where it wraps.
  const auto payload = absl::MakeConstSpan(packet).subspan(VSOCK_HEADER_SIZE);
  const size_t half = payload.size() / 2;
  to.OnPacket(from.cid(), header, Payload(payload.subspan(0, half), payload.subspan(half)));
}

bool Pair::PumpOne(int from) {
  Side& side = sides_[from];
  if (side.blocked || !up_ || side.to_other.empty()) return false;
  Deliver(side.to_other, side.endpoint, sides_[1 - from].endpoint);
  Wake(side);
  return true;
}

bool Pair::PumpSelf(Side& side) {
  if (side.to_self.empty()) return false;
  Deliver(side.to_self, side.endpoint, side.endpoint);
  return true;
}

bool Pair::Wake(Side& side) {
  const uint64_t other = sides_[1 - side.index].endpoint.cid();
  bool woke = false;
  if (side.refused && side.CanSend(other)) {
    side.refused = false;
    side.endpoint.OnCanSend(other);
    woke = true;
  }
  if (side.refused_self && side.CanSend(side.endpoint.cid())) {
    side.refused_self = false;
    side.endpoint.OnCanSend(side.endpoint.cid());
    woke = true;
  }
  return woke;
}

size_t Pair::Pump() {
  size_t packets = 0;
  for (bool moved = true; moved;) {
    moved = false;
    for (Side& side : sides_) {
      moved |= Wake(side);
      for (bool delivered = true; delivered;) {
        delivered = PumpOne(side.index);
        delivered |= PumpSelf(side);
        packets += delivered;
        moved |= delivered;
      }
    }
  }
  return packets;
}

void Pair::Block(int from, bool blocked) { sides_[from].blocked = blocked; }

void Pair::ResetSession(bool up) {
  up_ = up;
  for (Side& side : sides_) side.to_other.clear();
  for (Side& side : sides_) side.endpoint.OnPeerReset(sides_[1 - side.index].endpoint.cid());
}

void Pair::Advance(absl::Duration by) {
  now_ += by;
  for (Side& side : sides_) side.endpoint.Advance(now_);
}

}  // namespace argosy::packet
