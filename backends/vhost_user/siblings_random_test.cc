// SPDX-License-Identifier: Apache-2.0
// Three guests of one daemon that connect, send, stop taking packets, reset and reboot as a seed has it.
// What arrives of a connection has no gap and nothing of an earlier one; in the end nothing is left.
#include <sys/socket.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "backends/vhost_user/host_vm.h"
#include "backends/vhost_user/sibling_switch.h"
#include "backends/vhost_user/testing/vsock_guest.h"
#include "gtest/gtest.h"
#include "transport/testing/temporary_directory.h"
#include "transport/unix_socket.h"

namespace argosy::vhost_user {
namespace {

constexpr uint32_t kCids[] = {3, 4, 5};
constexpr int kSteps = 2000;

// One end's view of a connection: own CID and port, then the peer's.
using Key = std::tuple<uint64_t, uint32_t, uint64_t, uint32_t>;
struct View {
  bool asked = false;      // the peer's REQUEST is to be answered
  bool requested = false;  // the own one is not answered
  bool open = false;
  uint64_t sent = 0;             // packets; each begins with its number
  std::optional<uint64_t> next;  // of the peer's, while open; none has come yet
};

class Machines {
 public:
  explicit Machines(uint32_t seed) : random_(seed) {
    for (const uint32_t cid : kCids) {
      auto vm = HostVm::Create(
          loop_, siblings_,
          {.guest_cid = cid, .socket = absl::StrCat(folder_, "/vmm", cid), .max_connections = 8});
      EXPECT_TRUE(vm.ok()) << vm.status();
      vms_.push_back(*std::move(vm));
      auto socket = ConnectUnix(absl::StrCat(folder_, "/vmm", cid), SOCK_STREAM);
      EXPECT_TRUE(socket.ok()) << socket.status();
      auto guest = VsockGuest::Start(
          *std::move(socket), {.rx_buffer = 65536, .rx_buffers = 8, .pump = [this] { Pump(); }});
      EXPECT_TRUE(guest.ok()) << guest.status();
      guests_[cid] = *std::move(guest);
    }
  }
  ~Machines() {
    guests_.clear();
    vms_.clear();
    Pump();
  }

  void Step() {
    switch (Pick(10)) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
      case 5:
      case 6:
        return Send();
      case 7:
        if (Pick(10) != 0) return;
        later_ += absl::Seconds(Pick(8) == 0 ? 70 : 3);
        return Pump();
      case 8:
        if (Pick(100) == 0) Reboot();
        return;
      default:
        // Some guests take little for a while.
        if (Pick(25) == 0) thirsty_ = kCids[Pick(3)];
        Take(thirsty_, Pick(30));
    }
  }

  // Everybody takes what there is, until there is nothing.
  void End() {
    later_ += absl::Minutes(2);
    for (bool more = true; more;) {
      more = false;
      for (const uint32_t cid : kCids) more |= Take(cid, 1000) > 0;
    }
    for (const uint32_t cid : kCids) {
      EXPECT_EQ(guests_[cid]->Untaken(), 0u) << "CID " << cid << " is stopped for ever";
    }
    for (const uint32_t cid : kCids) ASSERT_TRUE(guests_[cid]->Reboot().ok());
    Pump();
    EXPECT_EQ(siblings_.flows(), 0u);
  }

  uint64_t delivered() const { return delivered_; }

 private:
  uint32_t Pick(uint32_t n) { return std::uniform_int_distribution<uint32_t>(0, n - 1)(random_); }

  void Pump() {
    for (int i = 0; i < 3; ++i) {
      const absl::Time now = absl::Now() + later_;
      for (const auto& vm : vms_) vm->Advance(now);
      siblings_.Advance(now);
      EXPECT_TRUE(loop_.RunOnce(absl::InfinitePast()).ok());
    }
  }

  // Mostly what makes sense at this end; what it thinks may be old.
  // One end connects: if both did at once, the switch would reset them.  0: nothing.
  uint16_t PickOp(const View& view, bool connects) {
    if (Pick(20) == 0) return static_cast<uint16_t>(1 + Pick(7));
    if (view.asked) return VSOCK_OP_RESPONSE;
    if (view.open || view.requested) return VSOCK_OP_RW;
    return connects ? VSOCK_OP_REQUEST : 0;
  }

  void Send() {
    const uint32_t src = kCids[Pick(3)], dst = kCids[Pick(3)], port = 1000 + Pick(2);
    VsockGuest& guest = *guests_[src];
    // A ring that is full would be waited for.
    if (guest.Untaken() > 30) return;
    View& view = views_[{src, port, dst, port}];
    const uint16_t op = PickOp(view, src < dst);
    if (op == 0) return;
    packet::Header header = {.src_cid = src,
                             .dst_cid = dst,
                             .src_port = port,
                             .dst_port = port,
                             .type = VSOCK_TYPE_STREAM,
                             .op = op,
                             .buf_alloc = 262144};
    std::string payload;
    if (op == VSOCK_OP_RESPONSE) {
      if (!std::exchange(view.asked, false)) return;
      view.open = true;
      view.next.reset();
    } else if (op == VSOCK_OP_RW) {
      // Whether the connection is open or not.
      payload.resize(sizeof(view.sent) + (Pick(2) == 0 ? 60000 : Pick(3000)), 'x');
      std::memcpy(payload.data(), &view.sent, sizeof(view.sent));
      ++view.sent;
    } else if (op == VSOCK_OP_REQUEST || op == VSOCK_OP_RST) {
      view.open = view.asked = false;
      view.requested = op == VSOCK_OP_REQUEST;
    }
    header.len = static_cast<uint32_t>(payload.size());
    guest.SendRaw(header, payload);
    Pump();
  }

  // Takes up to `n` packets; how many there were.
  uint32_t Take(uint32_t cid, uint32_t n) {
    uint32_t taken = 0;
    while (taken < n && guests_[cid]->HasPacket()) {
      const auto packet = guests_[cid]->Receive();
      EXPECT_TRUE(packet.ok()) << packet.status();
      ++taken;
      Judge(*packet);
    }
    return taken;
  }

  void Judge(const VsockGuest::Packet& packet) {
    const packet::Header& header = packet.header;
    View& view = views_[{header.dst_cid, header.dst_port, header.src_cid, header.src_port}];
    if (header.op == VSOCK_OP_RESPONSE) {
      if (!std::exchange(view.requested, false)) return;
      view.open = true;
      view.next.reset();
    } else if (header.op == VSOCK_OP_REQUEST || header.op == VSOCK_OP_RST) {
      view.open = view.requested = false;
      view.asked = header.op == VSOCK_OP_REQUEST;
    } else if (header.op == VSOCK_OP_RW && view.open) {
      uint64_t number;
      ASSERT_GE(packet.payload.size(), sizeof(number));
      std::memcpy(&number, packet.payload.data(), sizeof(number));
      EXPECT_EQ(number, view.next.value_or(number)) << "a gap";
      view.next = number + 1;
      ++delivered_;
    }
  }

  void Reboot() {
    const uint32_t cid = kCids[Pick(3)];
    EXPECT_TRUE(guests_[cid]->Reboot().ok());
    for (auto& [key, view] : views_) {
      if (std::get<0>(key) == cid) view.open = view.asked = view.requested = false;
    }
    Pump();
  }

  std::mt19937 random_;
  EventLoop loop_;
  SiblingSwitch siblings_;
  const TemporaryDirectory directory_;
  const std::string folder_ = directory_.path();
  absl::Duration later_;
  uint32_t thirsty_ = kCids[0];
  std::vector<std::unique_ptr<HostVm>> vms_;
  std::map<uint32_t, std::unique_ptr<VsockGuest>> guests_;
  std::map<Key, View> views_;
  uint64_t delivered_ = 0;
};

TEST(SiblingsRandomTest, NothingIsLostInTheMiddleAndNothingIsLeft) {
  uint64_t delivered = 0;
  for (uint32_t seed = 0; seed < 120; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Machines machines(seed);
    for (int i = 0; i < kSteps; ++i) machines.Step();
    machines.End();
    delivered += machines.delivered();
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(delivered, 1000u);
}

}  // namespace
}  // namespace argosy::vhost_user
