// SPDX-License-Identifier: Apache-2.0
// Arbitrary packets, and any doings of programs and carrier, against an endpoint with a listener
// and live connections to a hostile peer (CID 4).  A connection to another peer (CID 5) must pass
// bytes afterwards as if nothing had been.
//
// An input is a sequence of commands: see Fuzz::Step().
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "transport/packet/endpoint.h"
#include "transport/packet/link.h"
#include "transport/packet/test_users.h"

namespace argosy::packet {
namespace {

constexpr uint32_t kCid = 3;
constexpr uint32_t kHostile = 4;
constexpr uint32_t kHealthy = 5;
constexpr uint32_t kBufAlloc = 4096;
constexpr uint32_t kConnections = 4;

void Check(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

// Blocks towards the hostile peer only.
class FuzzLink : public Link {
 public:
  Reach Reaches(uint64_t) const override { return Reach::kUp; }
  bool CanSend(uint64_t cid) const override { return cid != kHostile || open; }
  void Send(const Header& header, const Payload& payload) override {
    Header parsed;
    const auto bytes = SerializeHeader(header);
    Check(ParseHeader(bytes, VSOCK_HEADER_SIZE + payload.size(), &parsed), "sent no packet");
    Check(header.src_cid == kCid && payload.size() <= max_payload, "sent a wrong packet");
    if (header.dst_cid == kHealthy) last_healthy = header.op;
    if (header.dst_cid == kHostile && die_in_send) {
      die_in_send = false;
      endpoint->OnPeerReset(kHostile);
    }
  }
  uint32_t MaxPayload(uint64_t) const override { return max_payload; }

  Endpoint* endpoint = nullptr;
  bool open = true;
  bool die_in_send = false;
  uint32_t max_payload = 1000;
  uint16_t last_healthy = 0;
};

class Fuzz {
 public:
  explicit Fuzz(absl::Span<const uint8_t> input) : input_(input) {
    link_.endpoint = &endpoint_;
    endpoint_.set_budget(&budget_);
    endpoint_.Advance(now_);
    Check(endpoint_.Listen(80, VSOCK_TYPE_STREAM, 2, &streams_).ok(), "Listen");
    Check(endpoint_.Listen(81, VSOCK_TYPE_SEQPACKET, 2, &messages_).ok(), "Listen");
    healthy_connection_ =
        *endpoint_.Connect(1, {kHealthy, 1}, VSOCK_TYPE_STREAM, kConnectTimeout, &healthy_);
    Healthy(VSOCK_OP_RESPONSE, "");
    for (uint32_t i = 0; i < kConnections; ++i) Connect(i);
  }

  void Go() {
    while (!input_.empty()) {
      Step();
      Check(budget_.used == endpoint_.connections() * kBufAlloc, "the budget leaks");
    }
    Healthy(VSOCK_OP_RW, "x");
    Check(healthy_.received == "x" && healthy_.ends == 0, "a healthy connection was hurt");
    link_.last_healthy = 0;
    healthy_connection_->Send(Bytes("y"));
    Check(link_.last_healthy == VSOCK_OP_RW, "a healthy connection cannot send");
  }

 private:
  uint32_t Take(size_t bytes) {
    uint32_t value = 0;
    for (size_t i = 0; i < bytes && !input_.empty(); ++i) {
      value |= uint32_t{input_[0]} << (8 * i);
      input_.remove_prefix(1);
    }
    return value;
  }

  void Healthy(uint16_t op, const std::string& payload) {
    Header header;
    header.src_cid = kHealthy;
    header.dst_cid = kCid;
    header.src_port = header.dst_port = 1;
    header.len = static_cast<uint32_t>(payload.size());
    header.type = VSOCK_TYPE_STREAM;
    header.op = op;
    header.buf_alloc = kDefaultBufAlloc;
    endpoint_.OnPacket(kHealthy, header, Bytes(payload));
  }

  // Port 1000 + i of both sides; streams are even.
  void Connect(uint32_t i) {
    if (users_[i].connection != nullptr) return;
    auto made = endpoint_.Connect(1000 + i, {kHostile, 1000 + i},
                                  i % 2 ? VSOCK_TYPE_SEQPACKET : VSOCK_TYPE_STREAM, kConnectTimeout,
                                  &users_[i]);
    if (made.ok()) users_[i].connection = *made;
  }

  // A packet that comes near to a right one.
  void NearPacket() {
    const uint32_t which = Take(1);
    Header header;
    header.src_cid = kHostile;
    header.dst_cid = kCid;
    const bool listener = which & 0x80;
    header.src_port = 1000 + which % 8;
    header.dst_port = listener ? 80 + which % 2 : 1000 + which % 8;
    header.type = which & 0x40 ? Take(1) : which % 2 ? VSOCK_TYPE_SEQPACKET : VSOCK_TYPE_STREAM;
    header.op = Take(1) % 10;
    header.flags = Take(1) % 4;
    header.buf_alloc = uint32_t{1} << (Take(1) % 32);
    header.fwd_cnt = which & 0x20 ? Take(4) : Take(1);
    const std::string payload(Take(1) * 5, 'p');
    header.len = static_cast<uint32_t>(payload.size());
    endpoint_.OnPacket(kHostile, header, Bytes(payload));
  }

  void RawPacket() {
    const absl::Span<const uint8_t> packet = input_.subspan(0, VSOCK_HEADER_SIZE + 300);
    input_.remove_prefix(packet.size());
    Header header;
    if (!ParseHeader(packet, packet.size(), &header)) return;
    const auto payload = packet.subspan(VSOCK_HEADER_SIZE);
    endpoint_.OnPacket(
        kHostile, header,
        Payload(payload.first(payload.size() / 2), payload.subspan(payload.size() / 2)));
  }

  void ProgramActs() {
    const uint32_t i = Take(1) % kConnections;
    const uint32_t what = Take(1) % 10;
    TestUser& user = users_[i];
    if (user.connection == nullptr) return Connect(i);
    Connection& c = *user.connection;
    switch (what) {
      case 0:
        return c.Reset();
      case 1:
        return c.FinishSending();
      case 2:
        return c.StopReading();
      case 3:
        user.appetite = Take(1);
        return c.Drain();
      case 4:
        user.appetite = kNoLimit;
        return c.Drain();
      case 5:
        user.on_data = user.on_finished = [](Connection& inside) { inside.FinishSending(); };
        return;
      case 6:
        user.on_can_send = user.on_data = [](Connection& inside) { inside.Reset(); };
        return;
      case 8:
        return c.HoldLastByte();
      case 9:
        return c.ConfirmTaken();
      default:
        break;
    }
    const std::string text(Take(2) % 5000, 't');
    if (c.type() == VSOCK_TYPE_SEQPACKET) {
      if (c.CanSendMessage(text.size())) c.SendMessage(Bytes(text), true);
    } else {
      const size_t n = std::min(text.size(), c.SendCapacity());
      c.Send(Bytes(text).Prefix(n));
    }
  }

  void CarrierActs() {
    switch (Take(1) % 6) {
      case 0:
        link_.open = false;
        break;
      case 1:
      case 2:
        link_.open = true;
        endpoint_.OnCanSend(kHostile);
        break;
      case 3:
        endpoint_.OnPeerReset(kHostile);
        break;
      case 4:
        link_.max_payload = 1 + Take(2);
        break;
      default:
        link_.die_in_send = true;
    }
  }

  void Step() {
    switch (Take(1) % 8) {
      case 0:
        return RawPacket();
      case 1:
      case 2:
      case 3:
        return NearPacket();
      case 4:
      case 5:
        return ProgramActs();
      case 6:
        return CarrierActs();
      default:
        now_ += absl::Milliseconds(Take(2));
        endpoint_.Advance(now_);
    }
  }

  absl::Span<const uint8_t> input_;
  absl::Time now_ = absl::UnixEpoch() + absl::Seconds(1);
  TestBudget budget_;
  FuzzLink link_;
  Endpoint endpoint_{link_, {.cid = kCid, .buf_alloc = kBufAlloc, .max_connections = 8}};
  TestListener streams_, messages_;
  TestUser healthy_;
  Connection* healthy_connection_ = nullptr;
  TestUser users_[kConnections];
};

}  // namespace
}  // namespace argosy::packet

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  argosy::packet::Fuzz(absl::MakeConstSpan(data, size)).Go();
  return 0;
}
