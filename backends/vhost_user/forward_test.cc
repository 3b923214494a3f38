// SPDX-License-Identifier: Apache-2.0
// A machine whose host's side is the host's own AF_VSOCK: a guest that the test drives, the device, and
// programs of the host by vsock_loopback, all in this process.  Runs where that is:
// //nested-test/vhost_user.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "backends/vhost_user/host_vm.h"
#include "backends/vhost_user/testing/host_program.h"
#include "backends/vhost_user/testing/vsock_guest.h"
#include "gtest/gtest.h"
#include "transport/error.h"
#include "transport/testing/temporary_directory.h"
#include "transport/unix_socket.h"

namespace argosy::vhost_user {
namespace {

constexpr uint32_t kCid = 7;
// <linux/vhost.h> is no C++.
constexpr unsigned long kSetGuestCid = _IOW(0xaf, 0x60, uint64_t);  // VHOST_VSOCK_SET_GUEST_CID

constexpr uint32_t kListened = 9001, kAlsoListened = 9002;  // of forward-listen

class ForwardTest : public testing::Test {
 protected:
  ForwardTest() { signal(SIGPIPE, SIG_IGN); }
  ~ForwardTest() override {
    guest_.reset();
    vm_.reset();
    Pump();
  }

  VmOptions Options() {
    VmOptions options;
    options.guest_cid = kCid;
    options.socket = folder_ + "/vmm";
    options.forward_cid = VMADDR_CID_LOCAL;
    options.forward_listen = {kListened, kAlsoListened};
    return options;
  }
  void StartVm(const VmOptions& options) {
    auto vm = HostVm::Create(loop_, siblings_, options);
    ASSERT_TRUE(vm.ok()) << vm.status();
    vm_ = *std::move(vm);
  }
  void StartGuest() {
    auto socket = ConnectUnix(folder_ + "/vmm", SOCK_STREAM);
    ASSERT_TRUE(socket.ok()) << socket.status();
    auto guest = VsockGuest::Start(*std::move(socket), {.pump = [this] { Pump(); }});
    ASSERT_TRUE(guest.ok()) << guest.status();
    guest_ = *std::move(guest);
    Pump();
  }
  void Start() {
    StartVm(Options());
    StartGuest();
  }

  void Pump() {
    for (int i = 0; i < 4; ++i) {
      if (vm_ != nullptr && !clock_stands_) vm_->Advance(absl::Now());
      ASSERT_TRUE(loop_.RunOnce(absl::InfinitePast()).ok());
    }
  }
  // The kernel carries loopback's packets on a thread of its own: what must come is waited for.
  template <typename Condition>
  bool PumpUntil(const Condition& condition) {
    const absl::Time deadline = absl::Now() + absl::Seconds(10);
    while (!condition()) {
      if (absl::Now() > deadline) return false;
      Pump();
    }
    return true;
  }

  // ---- programs of the host ----

  static sockaddr_vm At(uint32_t cid, uint32_t port) {
    sockaddr_vm at = {};
    at.svm_family = AF_VSOCK;
    at.svm_cid = cid;
    at.svm_port = port;
    return at;
  }
  static int Bind(const UniqueFd& fd, uint32_t cid, uint32_t port) {
    const sockaddr_vm at = At(cid, port);
    return bind(fd.get(), reinterpret_cast<const sockaddr*>(&at), sizeof(at)) == 0 ? 0 : errno;
  }
  static UniqueFd Listen(uint32_t port, int type = SOCK_STREAM, int backlog = 16) {
    UniqueFd fd(socket(AF_VSOCK, type | SOCK_CLOEXEC, 0));
    EXPECT_EQ(Bind(fd, VMADDR_CID_ANY, port), 0);
    EXPECT_EQ(listen(fd.get(), backlog), 0);
    return fd;
  }
  // After the connection was answered: it is there.
  static UniqueFd Accept(const UniqueFd& listener) {
    return UniqueFd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }
  // A client of the host; or an errno.
  static UniqueFd Dial(uint32_t port, int* error, int type = SOCK_STREAM, uint32_t cid = 1) {
    UniqueFd fd(socket(AF_VSOCK, type | SOCK_CLOEXEC, 0));
    const sockaddr_vm to = At(cid, port);
    *error = connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof(to)) == 0 ? 0 : errno;
    return fd;
  }
  std::string Read(const UniqueFd& fd, size_t size) {
    return vhost_user::Read(fd, size, absl::Now() + absl::Seconds(10), [this] { Pump(); });
  }

  // ---- the guest ----

  // The next packet but news of credit.
  VsockGuest::Packet Receive() {
    for (;;) {
      absl::StatusOr<VsockGuest::Packet> packet = guest_->Receive();
      EXPECT_TRUE(packet.ok()) << packet.status();
      if (!packet.ok()) return VsockGuest::Packet();
      if (packet->header.op != VSOCK_OP_CREDIT_UPDATE &&
          packet->header.op != VSOCK_OP_CREDIT_REQUEST) {
        return *std::move(packet);
      }
    }
  }
  void Request(uint32_t port, uint32_t guest_port, uint16_t type = VSOCK_TYPE_STREAM) {
    guest_->Send({.src_port = guest_port, .dst_port = port, .type = type, .op = VSOCK_OP_REQUEST});
  }
  // The guest connects to the host's port; the host program's end.
  UniqueFd ConnectFromGuest(const UniqueFd& listener, uint32_t port, uint32_t guest_port,
                            uint16_t type = VSOCK_TYPE_STREAM) {
    Request(port, guest_port, type);
    const VsockGuest::Packet answer = Receive();
    EXPECT_EQ(answer.header.op, VSOCK_OP_RESPONSE);
    EXPECT_EQ(answer.header.src_port, port);
    EXPECT_EQ(answer.header.dst_port, guest_port);
    return Accept(listener);
  }
  // A client of the host connects to a port of forward-listen, and the guest accepts.
  UniqueFd ConnectFromHost(uint32_t port, uint32_t* host_port) {
    int error;
    UniqueFd client = Dial(port, &error);
    EXPECT_EQ(error, 0) << strerror(error);
    const VsockGuest::Packet request = Receive();
    EXPECT_EQ(request.header.op, VSOCK_OP_REQUEST);
    EXPECT_EQ(request.header.dst_port, port);
    EXPECT_EQ(request.header.type, VSOCK_TYPE_STREAM);
    *host_port = request.header.src_port;
    guest_->Send({.src_port = port, .dst_port = *host_port, .op = VSOCK_OP_RESPONSE});
    return client;
  }
  // A host program that has 60,000 bytes to read, more than its socket holds, of a guest that has closed.
  UniqueFd ConnectSlowReader() {
    const UniqueFd listener = Listen(5000);
    const uint64_t small = 10'000;
    EXPECT_EQ(
        setsockopt(listener.get(), AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &small, sizeof(small)), 0);
    UniqueFd host = ConnectFromGuest(listener, 5000, 6000);
    guest_->Send({.src_port = 6000, .dst_port = 5000, .op = VSOCK_OP_RW}, std::string(60'000, 'x'));
    guest_->Send({.src_port = 6000,
                  .dst_port = 5000,
                  .op = VSOCK_OP_SHUTDOWN,
                  .flags = VSOCK_SHUTDOWN_SEND | VSOCK_SHUTDOWN_RCV});
    EXPECT_EQ(Receive().header.op, VSOCK_OP_RST);
    return host;
  }
  static ptrdiff_t OpenDescriptors() {
    const std::filesystem::directory_iterator open("/proc/self/fd");
    return std::distance(begin(open), end(open));
  }
  size_t connections() const { return vm_->endpoint().connections(); }

  EventLoop loop_;
  SiblingSwitch siblings_;
  bool clock_stands_ = false;  // no timer of the machine's fires
  const TemporaryDirectory directory_;
  const std::string folder_ = directory_.path();
  std::unique_ptr<HostVm> vm_;
  std::unique_ptr<VsockGuest> guest_;
};

// ---- from the guest ----

TEST_F(ForwardTest, CarriesBytesBothWaysFromTheGuest) {
  Start();
  const UniqueFd listener = Listen(5000);
  const UniqueFd host = ConnectFromGuest(listener, 5000, 6000);
  guest_->Send({.src_port = 6000, .dst_port = 5000, .op = VSOCK_OP_RW}, "from the guest");
  EXPECT_EQ(Read(host, 14), "from the guest");
  Write(host, "from the host");
  const VsockGuest::Packet packet = Receive();
  EXPECT_EQ(packet.payload, "from the host");
  EXPECT_EQ(packet.header.src_cid, 2u);
}

TEST_F(ForwardTest, TheGuestsHalfCloseReachesTheHost) {
  Start();
  const UniqueFd listener = Listen(5000);
  const UniqueFd host = ConnectFromGuest(listener, 5000, 6000);
  guest_->Send({.src_port = 6000, .dst_port = 5000, .op = VSOCK_OP_RW}, "last words");
  guest_->Send(
      {.src_port = 6000, .dst_port = 5000, .op = VSOCK_OP_SHUTDOWN, .flags = VSOCK_SHUTDOWN_SEND});
  EXPECT_EQ(Read(host, 100), "last words<eof>");
  Write(host, "an answer");
  EXPECT_EQ(Receive().payload, "an answer");
}

TEST_F(ForwardTest, TheHostsHalfCloseReachesTheGuest) {
  Start();
  const UniqueFd listener = Listen(5000);
  const UniqueFd host = ConnectFromGuest(listener, 5000, 6000);
  Write(host, "question");
  shutdown(host.get(), SHUT_WR);
  EXPECT_EQ(Receive().payload, "question");
  const VsockGuest::Packet end = Receive();
  EXPECT_EQ(end.header.op, VSOCK_OP_SHUTDOWN);
  EXPECT_EQ(end.header.flags, VSOCK_SHUTDOWN_SEND);
  guest_->Send({.src_port = 6000, .dst_port = 5000, .op = VSOCK_OP_RW, .fwd_cnt = 8}, "answer");
  EXPECT_EQ(Read(host, 6), "answer");
}

TEST_F(ForwardTest, TheHostsCloseIsTheEndOfBothDirections) {
  Start();
  const UniqueFd listener = Listen(5000);
  UniqueFd host = ConnectFromGuest(listener, 5000, 6000);
  Write(host, "bye");
  host.reset();
  EXPECT_EQ(Receive().payload, "bye");
  uint32_t flags = 0;
  while (flags != (VSOCK_SHUTDOWN_SEND | VSOCK_SHUTDOWN_RCV)) {
    const VsockGuest::Packet end = Receive();
    ASSERT_EQ(end.header.op, VSOCK_OP_SHUTDOWN);
    flags |= end.header.flags;
  }
}

TEST_F(ForwardTest, ThatTheHostReadsNoMoreReachesTheGuest) {
  Start();
  const UniqueFd listener = Listen(5000);
  const UniqueFd host = ConnectFromGuest(listener, 5000, 6000);
  shutdown(host.get(), SHUT_RD);
  // It shows with the first write that the kernel's other thread has told it before.
  packet::Header end;
  ASSERT_TRUE(PumpUntil([&] {
    guest_->Send({.src_port = 6000, .dst_port = 5000, .op = VSOCK_OP_RW}, "x");
    while (guest_->HasPacket() && end.op != VSOCK_OP_SHUTDOWN) end = guest_->Receive()->header;
    return end.op == VSOCK_OP_SHUTDOWN;
  }));
  EXPECT_EQ(end.flags, VSOCK_SHUTDOWN_RCV);
  Write(host, "still here");
  EXPECT_EQ(Receive().payload, "still here");
}

TEST_F(ForwardTest, ThatTheGuestReadsNoMoreReachesTheHost) {
  Start();
  const UniqueFd listener = Listen(5000);
  const UniqueFd host = ConnectFromGuest(listener, 5000, 6000);
  guest_->Send(
      {.src_port = 6000, .dst_port = 5000, .op = VSOCK_OP_SHUTDOWN, .flags = VSOCK_SHUTDOWN_RCV});
  ASSERT_TRUE(PumpUntil([&] { return send(host.get(), "x", 1, MSG_NOSIGNAL) < 0; }));
  EXPECT_EQ(errno, EPIPE);
  guest_->Send({.src_port = 6000, .dst_port = 5000, .op = VSOCK_OP_RW}, "still here");
  EXPECT_EQ(Read(host, 10), "still here");
}

TEST_F(ForwardTest, TheGuestsResetClosesTheHostsSocket) {
  Start();
  const UniqueFd listener = Listen(5000);
  const UniqueFd host = ConnectFromGuest(listener, 5000, 6000);
  guest_->Send({.src_port = 6000, .dst_port = 5000, .op = VSOCK_OP_RST});
  EXPECT_EQ(Read(host, 1), "<eof>");
  EXPECT_EQ(send(host.get(), "x", 1, MSG_NOSIGNAL), -1);
  EXPECT_EQ(errno, EPIPE);
  EXPECT_EQ(connections(), 0u);
}

// What the guest sent before its close is still written; unless nobody is left to read it.
TEST_F(ForwardTest, ASlowReaderGetsAllThatTheGuestSentBeforeItsClose) {
  Start();
  const UniqueFd host = ConnectSlowReader();
  EXPECT_EQ(connections(), 0u);
  EXPECT_EQ(Read(host, 60'001), std::string(60'000, 'x') + "<eof>");
}

TEST_F(ForwardTest, ASlowReaderMayVanish) {
  Start();
  const ptrdiff_t before = OpenDescriptors();
  UniqueFd host = ConnectSlowReader();
  EXPECT_EQ(OpenDescriptors(), before + 2);  // the two ends
  host.reset();
  EXPECT_TRUE(PumpUntil([&] { return OpenDescriptors() == before; }));
}

TEST_F(ForwardTest, RefusesAPortWhereNobodyListens) {
  Start();
  Request(5999, 6000);
  const VsockGuest::Packet answer = Receive();
  EXPECT_EQ(answer.header.op, VSOCK_OP_RST);
  EXPECT_EQ(answer.header.src_port, 5999u);
  EXPECT_EQ(answer.header.dst_port, 6000u);
  EXPECT_EQ(connections(), 0u);
}

TEST_F(ForwardTest, RefusesWhatTheHostsListenerIsNot) {
  Start();
  const UniqueFd listener = Listen(5000);
  Request(5000, 6000, VSOCK_TYPE_SEQPACKET);
  EXPECT_EQ(Receive().header.op, VSOCK_OP_RST);
}

// Both directions, more than any buffer holds, and a reader on the host that is slower.
TEST_F(ForwardTest, CarriesMuch) {
  Start();
  const UniqueFd listener = Listen(5000);
  const UniqueFd host = ConnectFromGuest(listener, 5000, 6000);
  fcntl(host.get(), F_SETFL, O_NONBLOCK);
  std::string text;
  for (int i = 0; text.size() < 1'000'000; ++i) text += absl::StrCat(i, " ");
  std::string at_host, at_guest;
  size_t from_host = 0, from_guest = 0;
  uint32_t taken = 0;  // by the device, of from_guest
  ASSERT_TRUE(PumpUntil([&] {
    const ssize_t wrote =
        send(host.get(), text.data() + from_host, text.size() - from_host, MSG_NOSIGNAL);
    if (wrote > 0) from_host += static_cast<size_t>(wrote);
    char bytes[5000];
    const ssize_t n = recv(host.get(), bytes, sizeof(bytes), 0);
    if (n > 0) at_host.append(bytes, static_cast<size_t>(n));
    while (guest_->HasPacket()) {
      const absl::StatusOr<VsockGuest::Packet> packet = guest_->Receive();
      EXPECT_TRUE(packet.ok());
      taken = packet->header.fwd_cnt;
      at_guest += packet->payload;
    }
    const std::string piece =
        text.substr(from_guest, std::min<size_t>(20'000, 65536 - (from_guest - taken)));
    from_guest += piece.size();
    guest_->Send(
        {.src_port = 6000,
         .dst_port = 5000,
         .op = static_cast<uint16_t>(piece.empty() ? VSOCK_OP_CREDIT_REQUEST : VSOCK_OP_RW),
         .fwd_cnt = static_cast<uint32_t>(at_guest.size())},
        piece);
    return at_host.size() == text.size() && at_guest.size() == text.size();
  })) << at_host.size()
      << " " << at_guest.size();
  EXPECT_TRUE(at_host == text);
  EXPECT_TRUE(at_guest == text);
}

// The kernel refuses who finds the backlog full.
TEST_F(ForwardTest, AListenerThatNeverAcceptsStallsNobody) {
  Start();
  const UniqueFd never = Listen(5500, SOCK_STREAM, 1), other = Listen(5000);
  int refused = 0;
  for (uint32_t i = 0; i < 8; ++i) {
    Request(5500, 6000 + i);
    if (Receive().header.op == VSOCK_OP_RST) ++refused;
  }
  EXPECT_GT(refused, 0);
  EXPECT_TRUE(ConnectFromGuest(other, 5000, 7000).valid());
}

// ---- a peer that does not answer ----

// forward-cid is a machine of this host's kernel that never starts its device: the kernel waits for it for
// 2 seconds.
class SilentTest : public ForwardTest {
 protected:
  static constexpr uint32_t kSilentCid = 50;

  SilentTest() : silent_(open("/dev/vhost-vsock", O_RDWR | O_CLOEXEC)) {
    const uint64_t cid = kSilentCid;
    EXPECT_EQ(ioctl(silent_.get(), kSetGuestCid, &cid), 0) << strerror(errno);
  }
  void StartSilent(uint32_t max_connections = 1024) {
    VmOptions options = Options();
    options.forward_cid = kSilentCid;
    options.forward_listen.clear();
    options.max_connections = max_connections;
    StartVm(options);
    StartGuest();
  }
  // The guest connects, and waits.
  void Ask(uint32_t guest_port) {
    Request(5000, guest_port);
    EXPECT_FALSE(guest_->HasPacket());
  }

  const UniqueFd silent_;
};

TEST_F(SilentTest, ARequestWaitsForItsAnswer) {
  StartSilent();
  Ask(6000);
  EXPECT_EQ(connections(), 1u);
  const VsockGuest::Packet answer = Receive();
  EXPECT_EQ(answer.header.op, VSOCK_OP_RST);
  EXPECT_EQ(answer.header.src_port, 5000u);
  EXPECT_EQ(answer.header.dst_port, 6000u);
  EXPECT_EQ(connections(), 0u);
}

TEST_F(SilentTest, AndStallsNobody) {
  StartSilent();
  Ask(6000);
  // Another machine of the same daemon; its guest takes the place of the one that waits.
  std::unique_ptr<HostVm> waiting_vm = std::move(vm_);
  std::unique_ptr<VsockGuest> waiting_guest = std::move(guest_);
  VmOptions options = Options();
  options.guest_cid = kCid + 1;
  options.socket += "2";
  StartVm(options);
  auto socket = ConnectUnix(options.socket, SOCK_STREAM);
  ASSERT_TRUE(socket.ok()) << socket.status();
  auto guest = VsockGuest::Start(*std::move(socket), {.pump = [this] { Pump(); }});
  ASSERT_TRUE(guest.ok()) << guest.status();
  guest_ = *std::move(guest);
  Pump();
  const UniqueFd listener = Listen(5000);
  const UniqueFd host = ConnectFromGuest(listener, 5000, 6000);
  guest_->Send({.src_port = 6000, .dst_port = 5000, .op = VSOCK_OP_RW}, "meanwhile");
  EXPECT_EQ(Read(host, 9), "meanwhile");
  EXPECT_EQ(waiting_vm->endpoint().connections(), 1u);
  waiting_guest.reset();
}

TEST_F(SilentTest, TheGuestMayGiveUp) {
  StartSilent();
  Ask(6000);
  guest_->Send({.src_port = 6000, .dst_port = 5000, .op = VSOCK_OP_RST});
  EXPECT_FALSE(guest_->HasPacket());
  EXPECT_EQ(connections(), 0u);
}

TEST_F(SilentTest, TheGuestMayAskAgain) {
  StartSilent();
  Ask(6000);
  Ask(6000);
  EXPECT_EQ(connections(), 1u);
  EXPECT_EQ(Receive().header.op, VSOCK_OP_RST);
  EXPECT_FALSE(guest_->HasPacket());
  Ask(6000);
}

TEST_F(SilentTest, WhatWaitsEndsWithTheGuestsDriver) {
  StartSilent();
  Ask(6000);
  ASSERT_TRUE(guest_->Reboot().ok());
  Pump();
  EXPECT_EQ(connections(), 0u);
  Ask(6000);
  EXPECT_EQ(Receive().header.op, VSOCK_OP_RST);
  EXPECT_FALSE(guest_->HasPacket());
}

TEST_F(SilentTest, WhatWaitsEndsWithTheVmm) {
  StartSilent();
  Ask(6000);
  guest_.reset();
  EXPECT_TRUE(PumpUntil([&] { return connections() == 0; }));
  StartGuest();
  Ask(6000);
}

TEST_F(SilentTest, WhatWaitsEndsWithTheDaemon) {
  StartSilent();
  Ask(6000);
  const absl::Time start = absl::Now();
  vm_.reset();
  Pump();
  EXPECT_LT(absl::Now() - start, absl::Seconds(1));
}

TEST_F(SilentTest, WhatWaitsIsLimited) {
  StartSilent(3);
  for (uint32_t i = 0; i < 3; ++i) Ask(6000 + i);
  Request(5000, 6003);
  const VsockGuest::Packet answer = Receive();
  EXPECT_EQ(answer.header.op, VSOCK_OP_RST);
  EXPECT_EQ(answer.header.dst_port, 6003u);
  EXPECT_EQ(connections(), 3u);
}

// ---- messages ----

TEST_F(ForwardTest, CarriesMessages) {
  Start();
  const UniqueFd listener = Listen(5000, SOCK_SEQPACKET);
  const UniqueFd host = ConnectFromGuest(listener, 5000, 6000, VSOCK_TYPE_SEQPACKET);
  packet::Header header = {
      .src_port = 6000, .dst_port = 5000, .type = VSOCK_TYPE_SEQPACKET, .op = VSOCK_OP_RW};
  guest_->Send(header, "one half ");
  header.flags = VSOCK_SEQ_EOM;
  guest_->Send(header, "and another");
  header.flags = VSOCK_SEQ_EOM | VSOCK_SEQ_EOR;
  guest_->Send(header, "record");
  const auto read = [&] {
    EXPECT_TRUE(WaitReadable(host.get(), absl::Now() + absl::Seconds(10), [this] { Pump(); }));
    char bytes[100];
    iovec piece = {bytes, sizeof(bytes)};
    msghdr message = {};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    const ssize_t n = recvmsg(host.get(), &message, MSG_DONTWAIT);
    return std::string(bytes, static_cast<size_t>(std::max<ssize_t>(n, 0))) +
           ((message.msg_flags & MSG_EOR) != 0 ? "|" : "");
  };
  EXPECT_EQ(read(), "one half and another");
  EXPECT_EQ(read(), "record|");
  ASSERT_EQ(send(host.get(), "marked", 6, MSG_EOR | MSG_NOSIGNAL), 6);
  VsockGuest::Packet packet = Receive();
  EXPECT_EQ(packet.payload, "marked");
  EXPECT_EQ(packet.header.flags, VSOCK_SEQ_EOM | VSOCK_SEQ_EOR);
  const std::string message(100'000, 'm');
  Write(host, message);
  std::string got;
  do {
    packet = Receive();
    got += packet.payload;
  } while (packet.header.op == VSOCK_OP_RW && (packet.header.flags & VSOCK_SEQ_EOM) == 0);
  EXPECT_TRUE(got == message);
  shutdown(host.get(), SHUT_WR);
  EXPECT_EQ(Receive().header.op, VSOCK_OP_SHUTDOWN);
}

// The host's buffer is smaller than what is under way, and no multiple of a message: each stays whole.
TEST_F(ForwardTest, MessagesStayWholeForASlowReader) {
  Start();
  const UniqueFd listener = Listen(5000, SOCK_SEQPACKET);
  const uint64_t small = 10'000;
  ASSERT_EQ(setsockopt(listener.get(), AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &small, sizeof(small)),
            0);
  const UniqueFd host = ConnectFromGuest(listener, 5000, 6000, VSOCK_TYPE_SEQPACKET);
  std::vector<std::string> sent;
  for (int i = 0; i < 12; ++i) sent.emplace_back(3000 + 7 * i, static_cast<char>('a' + i));
  for (const std::string& message : sent) {
    guest_->Send({.src_port = 6000,
                  .dst_port = 5000,
                  .type = VSOCK_TYPE_SEQPACKET,
                  .op = VSOCK_OP_RW,
                  .flags = VSOCK_SEQ_EOM},
                 message);
  }
  guest_->Send({.src_port = 6000,
                .dst_port = 5000,
                .type = VSOCK_TYPE_SEQPACKET,
                .op = VSOCK_OP_SHUTDOWN,
                .flags = VSOCK_SHUTDOWN_SEND});
  for (const std::string& message : sent) {
    char bytes[20'000];
    // Not poll(): to that, a message is there once its first bytes are.
    ssize_t n = -1;
    ASSERT_TRUE(PumpUntil([&] {
      n = recv(host.get(), bytes, sizeof(bytes), MSG_DONTWAIT);
      return n >= 0 || errno != EAGAIN;
    }));
    ASSERT_EQ(n, static_cast<ssize_t>(message.size()));
    EXPECT_TRUE(message == std::string(bytes, static_cast<size_t>(n)));
  }
  EXPECT_EQ(Read(host, 1), "<eof>");
}

TEST_F(ForwardTest, AReaderOfMessagesThatStopsHoldsNobodyUp) {
  Start();
  const UniqueFd listener = Listen(5000, SOCK_SEQPACKET), other = Listen(5001);
  const uint64_t small = 10'000;
  ASSERT_EQ(setsockopt(listener.get(), AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &small, sizeof(small)),
            0);
  const UniqueFd host = ConnectFromGuest(listener, 5000, 6000, VSOCK_TYPE_SEQPACKET);
  for (int i = 0; i < 6; ++i) {
    guest_->Send({.src_port = 6000,
                  .dst_port = 5000,
                  .type = VSOCK_TYPE_SEQPACKET,
                  .op = VSOCK_OP_RW,
                  .flags = VSOCK_SEQ_EOM},
                 std::string(9000, 'x'));
  }
  const UniqueFd quick = ConnectFromGuest(other, 5001, 6001);
  guest_->Send({.src_port = 6001, .dst_port = 5001, .op = VSOCK_OP_RW}, "meanwhile");
  EXPECT_EQ(Read(quick, 9), "meanwhile");
  // Nor does its end.
  guest_->Send(
      {.src_port = 6000, .dst_port = 5000, .type = VSOCK_TYPE_SEQPACKET, .op = VSOCK_OP_RST});
  EXPECT_TRUE(PumpUntil([&] { return connections() == 1; }));
}

// ---- clients of the host ----

TEST_F(ForwardTest, CarriesBytesBothWaysFromTheHost) {
  Start();
  uint32_t host_port;
  const UniqueFd client = ConnectFromHost(kListened, &host_port);
  Write(client, "question");
  shutdown(client.get(), SHUT_WR);
  EXPECT_EQ(Receive().payload, "question");
  EXPECT_EQ(Receive().header.op, VSOCK_OP_SHUTDOWN);
  guest_->Send({.src_port = kListened, .dst_port = host_port, .op = VSOCK_OP_RW, .fwd_cnt = 8},
               "answer");
  guest_->Send({.src_port = kListened,
                .dst_port = host_port,
                .op = VSOCK_OP_SHUTDOWN,
                .flags = VSOCK_SHUTDOWN_SEND,
                .fwd_cnt = 8});
  EXPECT_EQ(Read(client, 100), "answer<eof>");
}

TEST_F(ForwardTest, KeepsWhatAClientSendsBeforeTheGuestAnswers) {
  Start();
  int error;
  const UniqueFd client = Dial(kListened, &error);
  ASSERT_EQ(error, 0);
  Write(client, "at once");
  const VsockGuest::Packet request = Receive();
  guest_->Send(
      {.src_port = kListened, .dst_port = request.header.src_port, .op = VSOCK_OP_RESPONSE});
  EXPECT_EQ(Receive().payload, "at once");
}

// Each is told apart by the port that it has here, whatever its own is.
TEST_F(ForwardTest, ClientsAreNotMixedUp) {
  Start();
  uint32_t ports[3];
  const UniqueFd clients[3] = {ConnectFromHost(kListened, &ports[0]),
                               ConnectFromHost(kListened, &ports[1]),
                               ConnectFromHost(kAlsoListened, &ports[2])};
  EXPECT_NE(ports[0], ports[1]);
  for (int i = 0; i < 3; ++i) {
    const uint32_t guest_port = i < 2 ? kListened : kAlsoListened;
    const std::string name = absl::StrCat("client ", i);
    Write(clients[i], name);
    const VsockGuest::Packet packet = Receive();
    EXPECT_EQ(packet.payload, name);
    EXPECT_EQ(packet.header.src_port, ports[i]);
    EXPECT_EQ(packet.header.dst_port, guest_port);
    guest_->Send({.src_port = guest_port, .dst_port = ports[i], .op = VSOCK_OP_RW}, name);
    EXPECT_EQ(Read(clients[i], name.size()), name);
  }
}

TEST_F(ForwardTest, ClosesOnAClientWhomTheGuestRefuses) {
  Start();
  int error;
  const UniqueFd client = Dial(kListened, &error);
  ASSERT_EQ(error, 0);
  const VsockGuest::Packet request = Receive();
  guest_->Send({.src_port = kListened, .dst_port = request.header.src_port, .op = VSOCK_OP_RST});
  EXPECT_EQ(Read(client, 1), "<eof>");
  EXPECT_EQ(connections(), 0u);
}

TEST_F(ForwardTest, TakesAConnectBackWhenTheClientVanishes) {
  Start();
  int error;
  UniqueFd client = Dial(kListened, &error);
  ASSERT_EQ(error, 0);
  Receive();
  clock_stands_ = true;
  client.reset();
  EXPECT_TRUE(PumpUntil([&] { return connections() == 0; }));
  EXPECT_EQ(Receive().header.op, VSOCK_OP_RST);
}

TEST_F(ForwardTest, AClientThatOnlySendsIsNotGone) {
  Start();
  int error;
  const UniqueFd client = Dial(kListened, &error);
  ASSERT_EQ(error, 0);
  Write(client, "one way");
  shutdown(client.get(), SHUT_WR);
  const VsockGuest::Packet request = Receive();
  // The kernel's thread has carried both by the time that a later client's request is here.
  uint32_t later_port;
  const UniqueFd later = ConnectFromHost(kAlsoListened, &later_port);
  guest_->Send(
      {.src_port = kListened, .dst_port = request.header.src_port, .op = VSOCK_OP_RESPONSE});
  EXPECT_EQ(Receive().payload, "one way");
  const VsockGuest::Packet end = Receive();
  EXPECT_EQ(end.header.op, VSOCK_OP_SHUTDOWN);
  EXPECT_EQ(end.header.flags, VSOCK_SHUTDOWN_SEND);
}

TEST_F(ForwardTest, TheGuestsResetClosesTheClientsSocket) {
  Start();
  uint32_t host_port;
  const UniqueFd client = ConnectFromHost(kListened, &host_port);
  guest_->Send({.src_port = kListened, .dst_port = host_port, .op = VSOCK_OP_RST});
  EXPECT_EQ(Read(client, 1), "<eof>");
}

TEST_F(ForwardTest, AListenedPortTakesStreamsOnly) {
  Start();
  int error;
  const UniqueFd client = Dial(kListened, &error, SOCK_SEQPACKET);
  EXPECT_EQ(error, ECONNRESET);
}

TEST_F(ForwardTest, AClientOfAGuestThatDoesNotRunIsTurnedAway) {
  StartVm(Options());
  int error;
  const UniqueFd client = Dial(kListened, &error);
  ASSERT_EQ(error, 0);
  EXPECT_EQ(Read(client, 1), "<eof>");
}

// Of another machine than forward-cid, as far as one machine can tell: all clients here have CID 1.
TEST_F(ForwardTest, AClientOfAnotherCidIsTurnedAway) {
  VmOptions options = Options();
  options.forward_cid = 50;
  StartVm(options);
  StartGuest();
  int error;
  const UniqueFd client = Dial(kListened, &error);
  ASSERT_EQ(error, 0);
  EXPECT_EQ(Read(client, 1), "<eof>");
  EXPECT_FALSE(guest_->HasPacket());
  // And the guest's connections have no way there.
  Request(5000, 6000);
  EXPECT_EQ(Receive().header.op, VSOCK_OP_RST);
}

// CID 2 is this machine where no hypervisor is around it; its clients have CID 1 all the same.
TEST_F(ForwardTest, TheHostsOwnCidIsThisHost) {
  VmOptions options = Options();
  options.forward_cid = VMADDR_CID_HOST;
  StartVm(options);
  StartGuest();
  uint32_t host_port;
  const UniqueFd client = ConnectFromHost(kListened, &host_port);
  const UniqueFd listener = Listen(5000);
  EXPECT_TRUE(ConnectFromGuest(listener, 5000, 6000).valid());
}

TEST_F(ForwardTest, APortThatIsTaken) {
  const UniqueFd listener = Listen(kListened);
  const auto vm = HostVm::Create(loop_, siblings_, Options());
  EXPECT_EQ(ErrnoOf(vm.status()), EADDRINUSE);
  EXPECT_EQ(vm.status().message(), "forward-listen 9001: another program listens there");
}

TEST_F(ForwardTest, AnEndedMachineLeavesItsPorts) {
  Start();
  guest_.reset();
  vm_.reset();
  Pump();
  EXPECT_EQ(Bind(UniqueFd(socket(AF_VSOCK, SOCK_STREAM, 0)), VMADDR_CID_ANY, kListened), 0);
}

}  // namespace
}  // namespace argosy::vhost_user
