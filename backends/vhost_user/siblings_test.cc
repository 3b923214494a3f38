// SPDX-License-Identifier: Apache-2.0
// Guests of one daemon that talk to each other: their rings, driven by the test, and the switch.
#include <sys/socket.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "backends/vhost_user/host_vm.h"
#include "backends/vhost_user/sibling_switch.h"
#include "backends/vhost_user/testing/host_program.h"
#include "backends/vhost_user/testing/vsock_guest.h"
#include "gtest/gtest.h"
#include "transport/address.h"
#include "transport/testing/temporary_directory.h"
#include "transport/unix_socket.h"

namespace argosy::vhost_user {
namespace {

constexpr uint32_t kA = 3, kB = 4, kC = 5;
constexpr uint32_t kPort = 80;

class SiblingsTest : public testing::Test {
 protected:
  ~SiblingsTest() override {
    guests_.clear();
    vms_.clear();
    Pump();
  }

  void StartVm(uint32_t cid, VmOptions options = {}) {
    options.guest_cid = cid;
    options.socket = absl::StrCat(folder_, "/vmm", cid);
    options.uds_path = absl::StrCat(folder_, "/host", cid);
    auto vm = HostVm::Create(loop_, siblings_, options);
    ASSERT_TRUE(vm.ok()) << vm.status();
    vms_[cid] = *std::move(vm);
  }
  void StartGuest(uint32_t cid, VsockGuest::Options options = {}) {
    options.pump = [this] { Pump(); };
    auto socket = ConnectUnix(absl::StrCat(folder_, "/vmm", cid), SOCK_STREAM);
    ASSERT_TRUE(socket.ok()) << socket.status();
    auto guest = VsockGuest::Start(*std::move(socket), options);
    ASSERT_TRUE(guest.ok()) << guest.status();
    guests_[cid] = *std::move(guest);
    Pump();
  }
  // Machines with these CIDs, each with a guest.
  void Start(std::initializer_list<uint32_t> cids) {
    for (const uint32_t cid : cids) {
      StartVm(cid);
      StartGuest(cid);
    }
  }

  void Pump() {
    for (int i = 0; i < 4; ++i) {
      const absl::Time now = absl::Now() + later_;
      for (const auto& [cid, vm] : vms_) vm->Advance(now);
      siblings_.Advance(now);
      ASSERT_TRUE(loop_.RunOnce(absl::InfinitePast()).ok());
    }
  }
  void Sleep(absl::Duration time) {
    later_ += time;
    Pump();
  }

  static packet::Header Packet(uint32_t src, uint32_t src_port, uint32_t dst, uint32_t dst_port,
                               uint16_t op) {
    return {.src_cid = src,
            .dst_cid = dst,
            .src_port = src_port,
            .dst_port = dst_port,
            .type = VSOCK_TYPE_STREAM,
            .op = op,
            .buf_alloc = 262144};
  }
  void Send(packet::Header header, absl::string_view payload = "") {
    header.len = static_cast<uint32_t>(payload.size());
    guests_[static_cast<uint32_t>(header.src_cid)]->SendRaw(header, payload);
  }
  VsockGuest::Packet Receive(uint32_t cid) {
    absl::StatusOr<VsockGuest::Packet> packet = guests_[cid]->Receive();
    EXPECT_TRUE(packet.ok()) << packet.status();
    return packet.ok() ? *std::move(packet) : VsockGuest::Packet();
  }
  void ExpectReset(uint32_t cid, uint64_t src, uint32_t src_port, uint32_t dst_port) {
    const packet::Header header = Receive(cid).header;
    EXPECT_EQ(header.op, VSOCK_OP_RST);
    EXPECT_EQ(header.src_cid, src);
    EXPECT_EQ(header.dst_cid, cid);
    EXPECT_EQ(header.src_port, src_port);
    EXPECT_EQ(header.dst_port, dst_port);
  }
  // `src` connects from its port to kPort of `dst`, which accepts.
  void Connect(uint32_t src, uint32_t src_port, uint32_t dst) {
    Send(Packet(src, src_port, dst, kPort, VSOCK_OP_REQUEST));
    EXPECT_EQ(Receive(dst).header.op, VSOCK_OP_REQUEST);
    Send(Packet(dst, kPort, src, src_port, VSOCK_OP_RESPONSE));
    EXPECT_EQ(Receive(src).header.op, VSOCK_OP_RESPONSE);
  }
  // A guest without buffers for what comes: the few it has are used up.
  void StartDeafGuest(uint32_t cid) { StartGuest(cid, {.rx_buffers = 2}); }
  // Data of the flow from `src_port`, without regard to credit, until the guest's ring stands still.
  int Flood(uint32_t src, uint32_t src_port, uint32_t dst) {
    int sent = 0;
    while (guests_[src]->Untaken() == 0) {
      Send(Packet(src, src_port, dst, kPort, VSOCK_OP_RW), std::string(4096, 'x'));
      ++sent;
    }
    return sent;
  }

  EventLoop loop_;
  SiblingSwitch siblings_;
  const TemporaryDirectory directory_;
  const std::string folder_ = directory_.path();
  absl::Duration later_;
  std::map<uint32_t, std::unique_ptr<HostVm>> vms_;
  std::map<uint32_t, std::unique_ptr<VsockGuest>> guests_;
};

TEST_F(SiblingsTest, PacketsPassAsTheyAre) {
  Start({kA, kB});
  Connect(kA, 1000, kB);
  packet::Header data = Packet(kA, 1000, kB, kPort, VSOCK_OP_RW);
  data.buf_alloc = 4711;
  data.fwd_cnt = 17;
  Send(data, "to B");
  VsockGuest::Packet got = Receive(kB);
  EXPECT_EQ(got.payload, "to B");
  EXPECT_EQ(got.header.src_cid, kA);
  EXPECT_EQ(got.header.dst_cid, kB);
  EXPECT_EQ(got.header.src_port, 1000u);
  EXPECT_EQ(got.header.dst_port, kPort);
  EXPECT_EQ(got.header.buf_alloc, 4711u);
  EXPECT_EQ(got.header.fwd_cnt, 17u);
  Send(Packet(kB, kPort, kA, 1000, VSOCK_OP_RW), "to A");
  EXPECT_EQ(Receive(kA).payload, "to A");
  for (const uint16_t op : {VSOCK_OP_CREDIT_UPDATE, VSOCK_OP_CREDIT_REQUEST, VSOCK_OP_SHUTDOWN}) {
    Send(Packet(kA, 1000, kB, kPort, op));
    EXPECT_EQ(Receive(kB).header.op, op);
  }
  EXPECT_EQ(siblings_.flows(), 1u);
  Send(Packet(kB, kPort, kA, 1000, VSOCK_OP_RST));
  ExpectReset(kA, kB, kPort, 1000);
  EXPECT_EQ(siblings_.flows(), 0u);
}

TEST_F(SiblingsTest, ALargeMessageEndsWithItsLastPiece) {
  Start({kA, kB});
  Connect(kA, 1000, kB);
  std::string text(65536, 'a');
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 7 / 3);
  packet::Header data = Packet(kA, 1000, kB, kPort, VSOCK_OP_RW);
  data.flags = VSOCK_SEQ_EOM;
  Send(data, text);
  std::string got;
  uint32_t flags = 0;
  while (got.size() < text.size()) {
    EXPECT_EQ(flags, 0u);
    const VsockGuest::Packet packet = Receive(kB);
    got += packet.payload;
    flags = packet.header.flags;
  }
  EXPECT_EQ(got, text);
  EXPECT_EQ(flags, uint32_t{VSOCK_SEQ_EOM});
}

TEST_F(SiblingsTest, NobodyThereIsAReset) {
  StartVm(kC, {.groups = {"other"}});
  StartGuest(kC);
  Start({kA});
  StartVm(kB);  // its guest has not come up
  for (const uint64_t cid : {uint64_t{0}, uint64_t{1}, uint64_t{kA}, uint64_t{kB}, uint64_t{kC},
                             uint64_t{99}, uint64_t{0xFFFFFFFF}, (uint64_t{1} << 32) + kC}) {
    packet::Header request = Packet(kA, 1000, 0, kPort, VSOCK_OP_REQUEST);
    request.dst_cid = cid;
    Send(request);
    ExpectReset(kA, cid, kPort, 1000);
  }
  EXPECT_EQ(siblings_.flows(), 0u);
  EXPECT_FALSE(guests_[kC]->HasPacket());
}

TEST_F(SiblingsTest, OneGroupInCommonDoes) {
  StartVm(kA, {.groups = {"blue", "red"}});
  StartVm(kB, {.groups = {"red", "green"}});
  StartVm(kC, {.groups = {"green"}});
  for (const uint32_t cid : {kA, kB, kC}) StartGuest(cid);
  Connect(kA, 1000, kB);
  Connect(kB, 1000, kC);
  Send(Packet(kA, 1000, kC, kPort, VSOCK_OP_REQUEST));
  ExpectReset(kA, kC, kPort, 1000);
}

TEST_F(SiblingsTest, WhatNoRequestOpenedDoesNotPass) {
  Start({kA, kB});
  for (const uint16_t op : {VSOCK_OP_RESPONSE, VSOCK_OP_RW, VSOCK_OP_SHUTDOWN,
                            VSOCK_OP_CREDIT_UPDATE, VSOCK_OP_CREDIT_REQUEST}) {
    Send(Packet(kA, 1000, kB, kPort, op), op == VSOCK_OP_RW ? "x" : "");
    ExpectReset(kA, kB, kPort, 1000);
  }
  Send(Packet(kA, 1000, kB, kPort, VSOCK_OP_RST));  // no answer to that
  Send(Packet(kA, 1000, kB, kPort, 0));             // nor to what is no operation
  Send(Packet(kA, 1000, kB, kPort, 8));
  EXPECT_FALSE(guests_[kA]->HasPacket());
  EXPECT_FALSE(guests_[kB]->HasPacket());
}

TEST_F(SiblingsTest, AGuestCannotSpeakForAnother) {
  Start({kA, kB, kC});
  Connect(kA, 1000, kB);
  packet::Header forged = Packet(kA, 1000, kB, kPort, VSOCK_OP_RW);
  forged.len = 4;
  guests_[kC]->SendRaw(forged, "evil");
  forged.op = VSOCK_OP_RST;
  forged.len = 0;
  guests_[kC]->SendRaw(forged, "");
  Pump();
  EXPECT_FALSE(guests_[kB]->HasPacket());
  EXPECT_FALSE(guests_[kA]->HasPacket());
  Send(Packet(kA, 1000, kB, kPort, VSOCK_OP_RW), "good");
  EXPECT_EQ(Receive(kB).payload, "good");
}

TEST_F(SiblingsTest, PoliciesOfBothDecide) {
  StartVm(kA, {.rules = {*ParseRule(false, "out:4:81")}});
  StartVm(kB, {.rules = {*ParseRule(false, "in:3:82")}});
  StartVm(kC, {.outbound_only = true});
  for (const uint32_t cid : {kA, kB, kC}) StartGuest(cid);
  for (const uint32_t port : {81u, 82u}) {
    Send(Packet(kA, 1000, kB, port, VSOCK_OP_REQUEST));
    ExpectReset(kA, kB, port, 1000);
  }
  Send(Packet(kA, 1000, kC, kPort, VSOCK_OP_REQUEST));
  ExpectReset(kA, kC, kPort, 1000);
  Connect(kC, 1000, kB);  // out it may
  Send(Packet(kC, 1001, kB, 82, VSOCK_OP_REQUEST));
  EXPECT_EQ(Receive(kB).header.op, VSOCK_OP_REQUEST);
}

TEST_F(SiblingsTest, WhoWasConnectedToMayNotConnectBackThatWay) {
  StartVm(kA, {.outbound_only = true});
  StartVm(kB);
  for (const uint32_t cid : {kA, kB}) StartGuest(cid);
  Connect(kA, 1000, kB);
  Send(Packet(kA, 1000, kB, kPort,
              VSOCK_OP_REQUEST));  // again: its program has given up and retries
  EXPECT_EQ(Receive(kB).header.op, VSOCK_OP_REQUEST);
  Send(Packet(kB, kPort, kA, 1000, VSOCK_OP_REQUEST));
  ExpectReset(kA, kB, kPort, 1000);
  ExpectReset(kB, kA, 1000, kPort);
  EXPECT_EQ(siblings_.flows(), 0u);
}

TEST_F(SiblingsTest, FlowsHaveALimit) {
  StartVm(kA, {.max_connections = 2});
  StartVm(kB);
  for (const uint32_t cid : {kA, kB}) StartGuest(cid);
  Connect(kA, 1000, kB);
  Connect(kB, 1000, kA);  // they count at both ends
  Send(Packet(kA, 1001, kB, kPort, VSOCK_OP_REQUEST));
  ExpectReset(kA, kB, kPort, 1001);
  Send(Packet(kB, kPort, kA, 1000, VSOCK_OP_RST));
  ExpectReset(kA, kB, kPort, 1000);
  Connect(kA, 1001, kB);
}

TEST_F(SiblingsTest, ARequestThatIsNotAnsweredEnds) {
  Start({kA, kB});
  Send(Packet(kA, 1000, kB, kPort, VSOCK_OP_REQUEST));
  EXPECT_EQ(Receive(kB).header.op, VSOCK_OP_REQUEST);
  Connect(kA, 1001, kB);
  Sleep(SiblingSwitch::kAnswerTime);
  ExpectReset(kA, kB, kPort, 1000);
  ExpectReset(kB, kA, 1000, kPort);
  EXPECT_EQ(siblings_.flows(), 1u);
}

TEST_F(SiblingsTest, TheOtherEndLearnsThatAGuestIsGone) {
  Start({kA, kB, kC});
  Connect(kA, 1000, kB);
  Connect(kB, 1001, kA);
  Connect(kC, 1000, kB);
  guests_.erase(kA);  // its VMM is killed
  Pump();
  std::map<uint32_t, uint32_t> reset;  // from A's port to B's
  for (int i = 0; i < 2; ++i) {
    const packet::Header header = Receive(kB).header;
    EXPECT_EQ(header.op, VSOCK_OP_RST);
    EXPECT_EQ(header.src_cid, kA);
    reset[header.src_port] = header.dst_port;
  }
  EXPECT_EQ(reset, (std::map<uint32_t, uint32_t>{{1000, kPort}, {kPort, 1001}}));
  EXPECT_EQ(siblings_.flows(), 1u);
  Send(Packet(kC, 1000, kB, kPort, VSOCK_OP_RW), "still here");
  EXPECT_EQ(Receive(kB).payload, "still here");
  StartGuest(kA);  // its VMM comes back
  Connect(kA, 1000, kB);
  ASSERT_TRUE(guests_[kB]->Reboot().ok());
  ExpectReset(kA, kB, kPort, 1000);
  ExpectReset(kC, kB, kPort, 1000);
}

TEST_F(SiblingsTest, AGuestThatTakesNothingStopsItsSenderForALittleWhile) {
  Start({kA, kC});
  StartVm(kB);
  StartDeafGuest(kB);
  Connect(kA, 1000, kB);
  Connect(kA, 1001, kB);
  Connect(kA, 1000, kC);
  const int sent = Flood(kA, 1000, kB);
  // Memory: two buffers and a queue, whatever the guest sends.
  EXPECT_NEAR(sent, SiblingSwitch::kQueueBytes / (4096 + SiblingSwitch::kPacketCost), 4);
  // Others go on.
  Send(Packet(kC, kPort, kA, 1000, VSOCK_OP_RW), "from C");
  EXPECT_EQ(Receive(kA).payload, "from C");
  // So does the guest itself, without its flow; the other one to the same guest stays.
  Send(Packet(kA, 1000, kC, kPort, VSOCK_OP_RW), "to C");
  EXPECT_FALSE(guests_[kC]->HasPacket());
  Sleep(SiblingSwitch::kStall);
  EXPECT_EQ(Receive(kC).payload, "to C");
  ExpectReset(kA, kB, kPort, 1000);
  ExpectReset(kA, kB, kPort, 1000);  // for the packet that was in its ring
  EXPECT_EQ(siblings_.flows(), 2u);
  // A deaf guest is not waited for again.
  Send(Packet(kA, 1002, kB, kPort, VSOCK_OP_REQUEST));
  ExpectReset(kA, kB, kPort, 1002);
  // What it takes in the end is data without a gap, and the reset.
  int packets = 0;
  VsockGuest::Packet got;
  while ((got = Receive(kB)).header.op == VSOCK_OP_RW) ++packets;
  EXPECT_EQ(packets, 2);
  EXPECT_EQ(got.header.op, VSOCK_OP_RST);
  EXPECT_EQ(got.header.src_port, 1000u);
  Connect(kA, 1003, kB);
  Send(Packet(kA, 1001, kB, kPort, VSOCK_OP_RW), "the other flow");
  EXPECT_EQ(Receive(kB).payload, "the other flow");
}

TEST_F(SiblingsTest, AGuestThatIsSlowLosesNothing) {
  Start({kA});
  StartVm(kB);
  StartDeafGuest(kB);
  Connect(kA, 1000, kB);
  std::string sent;
  int next = 0;
  const auto send = [&] {
    const std::string text(3000, static_cast<char>('a' + next++ % 26));
    Send(Packet(kA, 1000, kB, kPort, VSOCK_OP_RW), text);
    sent += text;
  };
  // Past the queue: the rest is in A's ring.
  for (int i = 0; i < 120; ++i) send();
  EXPECT_GT(guests_[kA]->Untaken(), 0u);
  std::string got;
  while (got.size() < sent.size()) {
    const VsockGuest::Packet packet = Receive(kB);
    ASSERT_EQ(packet.header.op, VSOCK_OP_RW);
    got += packet.payload;
  }
  EXPECT_EQ(got, sent);
  EXPECT_EQ(siblings_.flows(), 1u);
  Send(Packet(kA, 1000, kB, kPort, VSOCK_OP_RW), "goes on");
  EXPECT_EQ(Receive(kB).payload, "goes on");
}

TEST_F(SiblingsTest, SendersHaveTurns) {
  Start({kA, kC});
  StartVm(kB);
  StartDeafGuest(kB);
  Connect(kA, 1000, kB);
  Connect(kC, 1000, kB);
  Flood(kA, 1000, kB);
  Flood(kC, 1000, kB);
  int run = 0, longest = 0;
  std::map<uint64_t, int> received;
  uint64_t last = 0;
  for (int i = 0; i < 100; ++i) {
    const uint64_t src = Receive(kB).header.src_cid;
    run = src == last ? run + 1 : 1;
    last = src;
    // The ones before the queues began are A's.
    if (i > 2) longest = std::max(longest, run);
    ++received[src];
  }
  const int quantum = SiblingSwitch::kQuantum / 4096 + 1;
  EXPECT_LE(longest, quantum);
  EXPECT_GE(std::min(received[kA], received[kC]), 50 - quantum);
}

TEST_F(SiblingsTest, TheHostHasItsTurnBesideASibling) {
  Start({kA});
  StartVm(kB);
  StartDeafGuest(kB);
  Connect(kA, 1000, kB);
  // A client of the host that has much to send.
  const UniqueFd client = ConnectUnix(absl::StrCat(folder_, "/host", kB), SOCK_STREAM).value();
  Write(client, absl::StrCat("CONNECT ", kPort, "\n") + std::string(100000, 'h'));
  packet::Header request = Receive(kB).header;
  ASSERT_EQ(request.op, VSOCK_OP_REQUEST);
  Flood(kA, 1000, kB);
  Send(Packet(kB, kPort, kCidHost, request.src_port, VSOCK_OP_RESPONSE));
  std::map<uint64_t, int> received;
  for (int i = 0; i < 40; ++i) ++received[Receive(kB).header.src_cid];
  EXPECT_GE(received[kCidHost], 10);
  EXPECT_GE(received[kA], 10);
}

TEST_F(SiblingsTest, ResetsThatNobodyTakesAreBounded) {
  Start({kB});
  StartVm(kA);
  StartDeafGuest(kA);
  // Each of these provokes an answer, which A never takes.
  for (int i = 0; i < 20000; ++i) Send(Packet(kA, 1000 + i, kB, kPort, VSOCK_OP_CREDIT_UPDATE));
  Pump();
  int resets = 0;
  while (guests_[kA]->HasPacket()) {
    EXPECT_EQ(Receive(kA).header.op, VSOCK_OP_RST);
    ++resets;
  }
  EXPECT_LE(resets, 2 * static_cast<int>(SiblingSwitch::kMaxResets) + 2);
  EXPECT_GE(resets, 100);
}

}  // namespace
}  // namespace argosy::vhost_user
