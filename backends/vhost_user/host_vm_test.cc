// SPDX-License-Identifier: Apache-2.0
// A machine's device between a guest that a test drives and sockets of the host, all in this process.
// What a guest or a host's program can see from outside is in device_test.cc.
#include "backends/vhost_user/host_vm.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "backends/vhost_user/testing/host_program.h"
#include "backends/vhost_user/testing/vsock_guest.h"
#include "gtest/gtest.h"
#include "transport/testing/listen_unix.h"
#include "transport/testing/temporary_directory.h"
#include "transport/unix_socket.h"

namespace argosy::vhost_user {
namespace {

constexpr uint32_t kCid = 7;

class HostVmTest : public testing::Test {
 protected:
  ~HostVmTest() override {
    guest_.reset();
    vm_.reset();
    Pump();
  }

  void StartVm(VmOptions options = {}) {
    options.guest_cid = kCid;
    options.socket = folder_ + "/vmm";
    options.uds_path = folder_ + "/host";
    auto vm = HostVm::Create(loop_, siblings_, options);
    ASSERT_TRUE(vm.ok()) << vm.status();
    vm_ = *std::move(vm);
    Pump();
  }
  void StartGuest(VsockGuest::Options options = {}) {
    options.pump = [this] { Pump(); };
    auto socket = ConnectUnix(folder_ + "/vmm", SOCK_STREAM);
    ASSERT_TRUE(socket.ok()) << socket.status();
    auto guest = VsockGuest::Start(*std::move(socket), options);
    ASSERT_TRUE(guest.ok()) << guest.status();
    guest_ = *std::move(guest);
    Pump();
  }

  // Rounds of the loop until one has nothing to do would need to look inside; a few do as well.
  void Pump() {
    for (int i = 0; i < 4; ++i) {
      siblings_.Advance(absl::Now());
      if (vm_ != nullptr) vm_->Advance(absl::Now());
      ASSERT_TRUE(loop_.RunOnce(absl::InfinitePast()).ok());
    }
  }

  // A host program's sockets.
  UniqueFd Listen(uint32_t port, int type = SOCK_STREAM, int backlog = 16) {
    return ListenUnix(absl::StrCat(folder_, "/host_", port), type, backlog);
  }
  static UniqueFd Accept(const UniqueFd& listener) {
    return UniqueFd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }
  UniqueFd Dial(int type = SOCK_STREAM) {
    return ConnectUnix(folder_ + (type == SOCK_STREAM ? "/host" : "/host_seqpacket"), type).value();
  }
  std::string Read(const UniqueFd& fd, size_t size) {
    return vhost_user::Read(fd, size, absl::Now() + absl::Seconds(10), [this] { Pump(); });
  }

  VsockGuest::Packet Receive() {
    absl::StatusOr<VsockGuest::Packet> packet = guest_->Receive();
    EXPECT_TRUE(packet.ok()) << packet.status();
    return packet.ok() ? *std::move(packet) : VsockGuest::Packet();
  }
  // The guest connects to the host's port; the host program's end.
  UniqueFd ConnectFromGuest(const UniqueFd& listener, uint32_t port, uint32_t guest_port,
                            uint16_t type = VSOCK_TYPE_STREAM) {
    guest_->Send({.src_port = guest_port, .dst_port = port, .type = type, .op = VSOCK_OP_REQUEST});
    const VsockGuest::Packet answer = Receive();
    EXPECT_EQ(answer.header.op, VSOCK_OP_RESPONSE);
    EXPECT_EQ(answer.header.src_port, port);
    EXPECT_EQ(answer.header.dst_port, guest_port);
    return Accept(listener);
  }

  EventLoop loop_;
  SiblingSwitch siblings_;
  const TemporaryDirectory directory_;
  const std::string folder_ = directory_.path();
  std::unique_ptr<HostVm> vm_;
  std::unique_ptr<VsockGuest> guest_;
};

TEST_F(HostVmTest, TellsTheGuestItsCid) {
  StartVm();
  StartGuest();
  EXPECT_EQ(guest_->cid(), kCid);
}

TEST_F(HostVmTest, CarriesBytesBothWaysFromTheGuest) {
  StartVm();
  StartGuest();
  const UniqueFd listener = Listen(1024);
  const UniqueFd host = ConnectFromGuest(listener, 1024, 5000);
  guest_->Send({.src_port = 5000, .dst_port = 1024, .op = VSOCK_OP_RW}, "from the guest");
  EXPECT_EQ(Read(host, 14), "from the guest");
  Write(host, "from the host");
  const VsockGuest::Packet packet = Receive();
  EXPECT_EQ(packet.header.op, VSOCK_OP_RW);
  EXPECT_EQ(packet.payload, "from the host");
  EXPECT_EQ(packet.header.src_cid, 2u);
  EXPECT_EQ(packet.header.dst_cid, kCid);
}

TEST_F(HostVmTest, RefusesWhatTheHostsListenerIsNot) {
  StartVm();
  StartGuest();
  const UniqueFd listener = Listen(1024, SOCK_STREAM);
  guest_->Send(
      {.src_port = 5000, .dst_port = 1024, .type = VSOCK_TYPE_SEQPACKET, .op = VSOCK_OP_REQUEST});
  EXPECT_EQ(Receive().header.op, VSOCK_OP_RST);
  guest_->Send({.src_port = 5001, .dst_port = 1024, .type = 9, .op = VSOCK_OP_REQUEST});
  EXPECT_EQ(Receive().header.op, VSOCK_OP_RST);
}

// A host's listener that never accepts stops nobody: its backlog fills up, and then it is a reset.
TEST_F(HostVmTest, AListenerThatNeverAcceptsStallsNobody) {
  StartVm();
  StartGuest();
  const UniqueFd never = Listen(1024, SOCK_STREAM, 1), other = Listen(1025);
  int refused = 0;
  for (uint32_t i = 0; i < 8; ++i) {
    guest_->Send({.src_port = 5000 + i, .dst_port = 1024, .op = VSOCK_OP_REQUEST});
    if (Receive().header.op == VSOCK_OP_RST) ++refused;
  }
  EXPECT_GT(refused, 0);
  EXPECT_TRUE(ConnectFromGuest(other, 1025, 6000).valid());
}

TEST_F(HostVmTest, ClosesOnAClientWhoseLineIsNone) {
  StartVm();
  StartGuest();
  const UniqueFd client = Dial();
  Write(client, "GET / HTTP/1.1\r\n");
  EXPECT_EQ(Read(client, 1), absl::StrCat("<", strerror(ECONNRESET), ">"));
  EXPECT_FALSE(guest_->HasPacket());
}

TEST_F(HostVmTest, ClosesOnAClientWhomTheGuestRefuses) {
  StartVm();
  StartGuest();
  const UniqueFd client = Dial();
  Write(client, "CONNECT 1234\n");
  const VsockGuest::Packet request = Receive();
  guest_->Send({.src_port = 1234, .dst_port = request.header.src_port, .op = VSOCK_OP_RST});
  EXPECT_EQ(Read(client, 1), "<eof>");
}

TEST_F(HostVmTest, TakesAConnectBackWhenTheClientVanishes) {
  StartVm();
  StartGuest();
  UniqueFd client = Dial();
  Write(client, "CONNECT 1234\n");
  const VsockGuest::Packet request = Receive();
  client.reset();
  Pump();
  EXPECT_EQ(vm_->endpoint().connections(), 0u);
  // The guest's answer comes too late, and is told so.
  guest_->Send({.src_port = 1234, .dst_port = request.header.src_port, .op = VSOCK_OP_RESPONSE});
  EXPECT_EQ(Receive().header.op, VSOCK_OP_RST);
}

// What a host program writes arrives whole, in packets that fit the guest's buffers, and no faster
// than its credit allows.
TEST_F(HostVmTest, KeepsToTheGuestsCredit) {
  StartVm();
  StartGuest({.buf_alloc = 100'000});
  const UniqueFd listener = Listen(1024);
  const UniqueFd host = ConnectFromGuest(listener, 1024, 5000);
  std::string sent;
  for (int i = 0; i < 60'000; ++i) sent += absl::StrCat(i, " ");
  size_t written = 0, received = 0;
  uint32_t told = 0;
  std::string got;
  while (got.size() < sent.size()) {
    const ssize_t n =
        send(host.get(), sent.data() + written, sent.size() - written, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0) written += static_cast<size_t>(n);
    while (guest_->HasPacket()) {
      const VsockGuest::Packet packet = Receive();
      if (packet.header.op != VSOCK_OP_RW) continue;
      EXPECT_LE(packet.payload.size(), 4096 - VSOCK_HEADER_SIZE);
      got += packet.payload;
      received = got.size();
      ASSERT_LE(received - told, 100'000u);
    }
    told = static_cast<uint32_t>(received);
    guest_->Send(
        {.src_port = 5000, .dst_port = 1024, .op = VSOCK_OP_CREDIT_UPDATE, .fwd_cnt = told});
  }
  EXPECT_EQ(got, sent);
}

// A host program that does not read: the guest's credit runs out, and nothing is lost.
TEST_F(HostVmTest, AHostThatDoesNotReadStopsOneFlow) {
  StartVm();
  StartGuest();
  const UniqueFd listener = Listen(1024), other = Listen(1025);
  const UniqueFd slow = ConnectFromGuest(listener, 1024, 5000);
  const int small = 4096;
  setsockopt(slow.get(), SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
  const UniqueFd quick = ConnectFromGuest(other, 1025, 5001);
  std::string sent;
  uint32_t fwd_cnt = 0;
  const auto take = [&] {
    while (guest_->HasPacket()) {
      const VsockGuest::Packet packet = Receive();
      if (packet.header.dst_port == 5000) fwd_cnt = packet.header.fwd_cnt;
    }
  };
  // As much as the credit allows, and then some time for more of it.
  for (int i = 0; i < 200; ++i) {
    take();
    if (sent.size() - fwd_cnt + 1000 > 65536) continue;
    const std::string piece(1000, static_cast<char>('a' + i % 26));
    guest_->Send({.src_port = 5000, .dst_port = 1024, .op = VSOCK_OP_RW}, piece);
    sent += piece;
  }
  guest_->Send({.src_port = 5001, .dst_port = 1025, .op = VSOCK_OP_RW}, "meanwhile");
  EXPECT_EQ(Read(quick, 9), "meanwhile");
  guest_->Send(
      {.src_port = 5000, .dst_port = 1024, .op = VSOCK_OP_SHUTDOWN, .flags = VSOCK_SHUTDOWN_SEND});
  EXPECT_EQ(Read(slow, sent.size() + 1), sent + "<eof>");
}

// The credit that the host tells in the middle of a packet goes into a buffer of as many pieces.
TEST_F(HostVmTest, PacketsAndBuffersMayBeInManyPieces) {
  StartVm({.tx_buffer_size = 8192});
  StartGuest({.rx_pieces = 8});
  const UniqueFd listener = Listen(1024);
  const UniqueFd host = ConnectFromGuest(listener, 1024, 5000);
  std::string text;
  for (int i = 0; i < 8000; ++i) text.push_back(static_cast<char>('a' + i % 26));
  guest_->Send({.src_port = 5000, .dst_port = 1024, .op = VSOCK_OP_RW}, text, 8);
  EXPECT_EQ(Read(host, text.size()), text);
  EXPECT_EQ(Receive().header.op, VSOCK_OP_CREDIT_UPDATE);
}

// What its connections have left for programs that do not read counts, after their end too.
TEST_F(HostVmTest, ConnectionsThatEndedWithDataLeftCount) {
  StartVm({.max_connections = 3});
  StartGuest();
  const UniqueFd listener = Listen(1024);
  std::vector<UniqueFd> slow;
  const std::string piece(65536, 'x');
  for (uint32_t port = 5000; port < 5003; ++port) {
    slow.push_back(ConnectFromGuest(listener, 1024, port));
    // At once, so that one pass brings more than the socket takes.
    for (int i = 0; i < 8; ++i) {
      guest_->Send({.src_port = port, .dst_port = 1024, .op = VSOCK_OP_RW}, piece);
    }
    guest_->Send({.src_port = port,
                  .dst_port = 1024,
                  .op = VSOCK_OP_SHUTDOWN,
                  .flags = VSOCK_SHUTDOWN_SEND | VSOCK_SHUTDOWN_RCV});
    while (Receive().header.op != VSOCK_OP_RST) {
    }
  }
  EXPECT_EQ(vm_->endpoint().connections(), 0u);
  guest_->Send({.src_port = 6000, .dst_port = 1024, .op = VSOCK_OP_REQUEST});
  EXPECT_EQ(Receive().header.op, VSOCK_OP_RST);
  const UniqueFd client = Dial();
  Write(client, "CONNECT 1234\n");
  EXPECT_EQ(Read(client, 1), "<eof>");
  EXPECT_EQ(Read(slow[0], 8 * piece.size() + 1).size(), 8 * piece.size() + strlen("<eof>"));
  Pump();
  EXPECT_TRUE(ConnectFromGuest(listener, 1024, 6001).valid());
}

TEST_F(HostVmTest, CarriesMessages) {
  StartVm();
  StartGuest();
  const UniqueFd listener = Listen(1024, SOCK_SEQPACKET);
  const UniqueFd host = ConnectFromGuest(listener, 1024, 5000, VSOCK_TYPE_SEQPACKET);
  guest_->Send(
      {.src_port = 5000, .dst_port = 1024, .type = VSOCK_TYPE_SEQPACKET, .op = VSOCK_OP_RW},
      "one half ");
  guest_->Send({.src_port = 5000,
                .dst_port = 1024,
                .type = VSOCK_TYPE_SEQPACKET,
                .op = VSOCK_OP_RW,
                .flags = VSOCK_SEQ_EOM},
               "and another");
  EXPECT_EQ(Read(host, 20), "one half and another");
  const std::string message(10'000, 'm');
  Write(host, message);
  std::string got;
  VsockGuest::Packet packet;
  do {
    packet = Receive();
    if (packet.header.op == VSOCK_OP_RW) got += packet.payload;
  } while (packet.header.op != VSOCK_OP_RW || (packet.header.flags & VSOCK_SEQ_EOM) == 0);
  EXPECT_EQ(got, message);
}

TEST_F(HostVmTest, CarriesMessagesAsLargeAsTheBuffer) {
  constexpr size_t kPart = 65'536;
  constexpr size_t kSize = 4 * kPart;  // more than an AF_UNIX socket takes by default
  StartVm({.tx_buffer_size = kSize});
  StartGuest();
  const UniqueFd listener = Listen(1024, SOCK_SEQPACKET);
  const UniqueFd host = ConnectFromGuest(listener, 1024, 5000, VSOCK_TYPE_SEQPACKET);
  for (size_t sent = kPart; sent <= kSize; sent += kPart) {
    guest_->Send({.src_port = 5000,
                  .dst_port = 1024,
                  .type = VSOCK_TYPE_SEQPACKET,
                  .op = VSOCK_OP_RW,
                  .flags = sent == kSize ? VSOCK_SEQ_EOM : 0u},
                 std::string(kPart, 'm'));
  }
  ASSERT_TRUE(WaitReadable(host.get(), absl::Now() + absl::Seconds(10), [this] { Pump(); }));
  std::string got(kSize + 1, '\0');
  EXPECT_EQ(recv(host.get(), got.data(), got.size(), 0), static_cast<ssize_t>(kSize));
}

TEST_F(HostVmTest, CarriesMessagesOfAClient) {
  StartVm();
  StartGuest();
  const UniqueFd client = Dial(SOCK_SEQPACKET);
  Write(client, "CONNECT 77\n");
  const VsockGuest::Packet request = Receive();
  EXPECT_EQ(request.header.type, VSOCK_TYPE_SEQPACKET);
  guest_->Send({.src_port = 77,
                .dst_port = request.header.src_port,
                .type = VSOCK_TYPE_SEQPACKET,
                .op = VSOCK_OP_RESPONSE});
  EXPECT_EQ(Read(client, 6), "OK 77\n");
}

// ---- the VMM ----

TEST_F(HostVmTest, AGuestThatIsPausedGoesOn) {
  StartVm();
  StartGuest();
  const UniqueFd listener = Listen(1024);
  const UniqueFd host = ConnectFromGuest(listener, 1024, 5000);
  ASSERT_TRUE(guest_->Pause().ok());
  Write(host, "while it sleeps");
  Pump();
  ASSERT_TRUE(guest_->Resume().ok());
  EXPECT_EQ(Receive().payload, "while it sleeps");
}

// No kick comes for a packet that was there while the other ring stood still.
TEST_F(HostVmTest, APacketSentWhileTheReceiveRingStandsStillIsTakenAfterIt) {
  StartVm();
  StartGuest();
  const absl::StatusOr<uint16_t> base = guest_->vmm().Stop(guest_->rx());
  ASSERT_TRUE(base.ok()) << base.status();
  guest_->Send({.src_port = 5000, .dst_port = 1024, .op = VSOCK_OP_REQUEST});
  EXPECT_EQ(guest_->Untaken(), 1u);
  ASSERT_TRUE(guest_->vmm().Start(guest_->rx(), *base).ok());
  EXPECT_EQ(guest_->Untaken(), 0u);
  EXPECT_EQ(Receive().header.op, VSOCK_OP_RST);
}

TEST_F(HostVmTest, AVmmThatEndsTakesItsConnectionsAlongAndMayComeBack) {
  StartVm();
  StartGuest();
  const UniqueFd listener = Listen(1024);
  const UniqueFd host = ConnectFromGuest(listener, 1024, 5000);
  guest_.reset();
  EXPECT_EQ(Read(host, 1), "<eof>");
  EXPECT_EQ(vm_->endpoint().connections(), 0u);
  StartGuest();
  const UniqueFd again = ConnectFromGuest(listener, 1024, 5000);
  guest_->Send({.src_port = 5000, .dst_port = 1024, .op = VSOCK_OP_RW}, "back");
  EXPECT_EQ(Read(again, 4), "back");
}

TEST_F(HostVmTest, AClientOfAGuestThatDoesNotRunIsTurnedAway) {
  StartVm();
  const UniqueFd client = Dial();
  Write(client, "CONNECT 1234\n");
  EXPECT_EQ(Read(client, 1), "<eof>");
}

TEST_F(HostVmTest, APacketThatLiesAboutItsLengthEndsTheDevice) {
  StartVm();
  StartGuest();
  packet::Header header;
  header.src_cid = kCid;
  header.dst_cid = 2;
  header.type = VSOCK_TYPE_STREAM;
  header.op = VSOCK_OP_RW;
  header.len = 100;
  guest_->SendRaw(header, "short");
  Pump();
  EXPECT_TRUE(guest_->vmm().WaitHangUp().ok());
  guest_.reset();
  StartGuest();
  EXPECT_EQ(guest_->cid(), kCid);
}

// The kernel answers what is not there with SIGBUS, or a system call with EFAULT.
TEST_F(HostVmTest, AVmmThatCutsItsMemoryOffEndsItsDeviceAlone) {
  StartVm();
  StartGuest();
  ASSERT_EQ(ftruncate(guest_->memory().descriptor(), 0), 0);
  guest_->tx().Kick();
  EXPECT_TRUE(guest_->vmm().WaitHangUp().ok());
  guest_.reset();
  StartGuest();
  EXPECT_EQ(guest_->cid(), kCid);
}

// A driver that starts its rings from the beginning is another one: the guest was rebooted.
TEST_F(HostVmTest, AGuestThatIsRebootedLosesItsConnections) {
  StartVm();
  StartGuest();
  const UniqueFd listener = Listen(1024);
  const UniqueFd host = ConnectFromGuest(listener, 1024, 5000);
  ASSERT_TRUE(guest_->Reboot().ok());
  EXPECT_EQ(Read(host, 1), "<eof>");
  const UniqueFd again = ConnectFromGuest(listener, 1024, 5000);
  guest_->Send({.src_port = 5000, .dst_port = 1024, .op = VSOCK_OP_RW}, "anew");
  EXPECT_EQ(Read(again, 4), "anew");
}

TEST_F(HostVmTest, ARingThatIsBrokenFromTheStartEndsItsDeviceAlone) {
  StartVm();
  auto socket = ConnectUnix(folder_ + "/vmm", SOCK_STREAM);
  ASSERT_TRUE(socket.ok()) << socket.status();
  // Buffers without room for a packet.  Whether the VMM still gets its answers is a matter of time.
  auto broken = VsockGuest::Start(*std::move(socket),
                                  {.rx_buffer = VSOCK_HEADER_SIZE, .pump = [this] { Pump(); }});
  if (broken.ok()) {
    EXPECT_TRUE((*broken)->vmm().WaitHangUp().ok());
    broken->reset();
  }
  StartGuest();
  EXPECT_EQ(guest_->cid(), kCid);
}

TEST_F(HostVmTest, AForeignSourceCidIsDropped) {
  StartVm();
  StartGuest();
  const UniqueFd listener = Listen(1024);
  packet::Header header;
  header.src_cid = kCid + 1;
  header.dst_cid = 2;
  header.src_port = 5000;
  header.dst_port = 1024;
  header.type = VSOCK_TYPE_STREAM;
  header.op = VSOCK_OP_REQUEST;
  guest_->SendRaw(header, "");
  EXPECT_FALSE(guest_->HasPacket());
  EXPECT_EQ(vm_->endpoint().counters().drop_source, 1u);
}

TEST_F(HostVmTest, MessagesOfAProgramThatReadsNoneArriveBeforeItsReset) {
  StartVm();
  StartGuest();
  const UniqueFd listener = Listen(1024, SOCK_SEQPACKET);
  UniqueFd program = ConnectFromGuest(listener, 1024, 5000, VSOCK_TYPE_SEQPACKET);
  guest_->Send({.src_port = 5000,
                .dst_port = 1024,
                .type = VSOCK_TYPE_SEQPACKET,
                .op = VSOCK_OP_RW,
                .flags = VSOCK_SEQ_EOM},
               "unread");
  Pump();
  Write(program, "one");
  Write(program, "two");
  program.reset();
  EXPECT_EQ(Receive().payload, "one");
  EXPECT_EQ(Receive().payload, "two");
  EXPECT_EQ(Receive().header.op, VSOCK_OP_RST);
}

TEST_F(HostVmTest, AGuestThatRanBeforeItsVmmCameIsToldThatItsConnectionsAreGone) {
  StartVm();
  StartGuest({.event_queue = true});
  const UniqueFd listener = Listen(1024);
  const UniqueFd program = ConnectFromGuest(listener, 1024, 5000);
  ASSERT_TRUE(guest_->Disconnect().ok());
  EXPECT_EQ(Read(program, 1), "<eof>");
  auto socket = ConnectUnix(folder_ + "/vmm", SOCK_STREAM);
  ASSERT_TRUE(socket.ok());
  ASSERT_TRUE(guest_->Reconnect(*std::move(socket)).ok());
  EXPECT_EQ(*guest_->ReceiveEvent(), 0u);
  const UniqueFd again = ConnectFromGuest(listener, 1024, 5001);
  EXPECT_TRUE(again.valid());
}

TEST_F(HostVmTest, RulesDecideWhoConnects) {
  VmOptions options;
  options.rules = {*ParseRule(false, "out:2:1024"), *ParseRule(false, "in:2:22")};
  StartVm(options);
  StartGuest();
  const UniqueFd forbidden = Listen(1024), listener = Listen(1025);
  guest_->Send({.src_port = 5000, .dst_port = 1024, .op = VSOCK_OP_REQUEST});
  EXPECT_EQ(Receive().header.op, VSOCK_OP_RST);
  const UniqueFd program = ConnectFromGuest(listener, 1025, 5000);
  const UniqueFd client = Dial();
  Write(client, "CONNECT 22\n");
  EXPECT_EQ(Read(client, 1), "<eof>");
  EXPECT_FALSE(guest_->HasPacket());
  const UniqueFd other = Dial();
  Write(other, "CONNECT 23\n");
  EXPECT_EQ(Receive().header.dst_port, 23u);
}

}  // namespace
}  // namespace argosy::vhost_user
