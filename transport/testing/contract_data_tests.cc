// SPDX-License-Identifier: Apache-2.0
// What is carried: bytes, messages, datagrams.
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>

#include "transport/error.h"
#include "transport/testing/contract_tests.h"

namespace argosy {
namespace {

TEST_P(ContractTest, CarriesBothWays) {
  for (SocketType type : Types()) {
    Connection c = Connected(type);
    ASSERT_TRUE(SendAll(c.client.fd(), "question", 8));
    EXPECT_EQ(ReadSome(c.server.fd()), "question");
    ASSERT_TRUE(SendAll(c.server.fd(), "answer", 6));
    EXPECT_EQ(ReadSome(c.client.fd()), "answer");
  }
}

// Much more than any buffer, both ways at once.
TEST_P(ContractTest, CarriesALargeStream) {
  static constexpr uint64_t kSize = 16 << 20;
  Connection c = Connected(SocketType::kStream);
  auto sending = [](int fd, uint64_t first) {
    constexpr size_t kChunk = 100'003;  // fits no page, ring or packet
    for (uint64_t at = 0; at < kSize; at += kChunk) {
      const std::vector<uint8_t> bytes =
          Pattern(std::min<uint64_t>(kChunk, kSize - at), first + at);
      if (!SendAll(fd, bytes.data(), bytes.size())) break;
    }
    shutdown(fd, SHUT_WR);
  };
  auto receiving = [](int fd, uint64_t first) {
    const std::vector<uint8_t> got = ReadToEnd(fd);
    EXPECT_EQ(got.size(), kSize);
    EXPECT_TRUE(got == Pattern(got.size(), first));
  };
  std::thread client_sends(sending, c.client.fd(), 0);
  std::thread server_sends(sending, c.server.fd(), 1);
  std::thread client_receives(receiving, c.client.fd(), 1);
  receiving(c.server.fd(), 0);
  client_sends.join();
  server_sends.join();
  client_receives.join();
}

TEST_P(ContractTest, MessagesKeepTheirBoundaries) {
  if (Types().size() < 2) GTEST_SKIP() << "no SEQPACKET";
  Connection c = Connected(SocketType::kSeqpacket);
  const std::vector<size_t> sizes = {
      1, 2, 4095, 4096, 65536, 65537, client().capabilities().max_message, 3};
  std::thread sender([&] {
    for (size_t i = 0; i < sizes.size(); ++i) {
      const std::vector<uint8_t> message = Pattern(sizes[i], i);
      ASSERT_EQ(send(c.client.fd(), message.data(), message.size(), MSG_NOSIGNAL),
                static_cast<ssize_t>(message.size()))
          << strerror(errno);
    }
  });
  std::vector<uint8_t> buffer(client().capabilities().max_message + 1);
  for (size_t i = 0; i < sizes.size(); ++i) {
    const ssize_t n = recv(c.server.fd(), buffer.data(), buffer.size(), 0);
    EXPECT_EQ(n, static_cast<ssize_t>(sizes[i]));
    if (n < 0) break;
    EXPECT_EQ(std::vector<uint8_t>(buffer.begin(), buffer.begin() + n), Pattern(n, i));
  }
  sender.join();
}

TEST_P(ContractTest, ShortReadCutsTheMessage) {
  if (Types().size() < 2) GTEST_SKIP() << "no SEQPACKET";
  Connection c = Connected(SocketType::kSeqpacket);
  ASSERT_TRUE(SendAll(c.client.fd(), "long message", 12));
  ASSERT_TRUE(SendAll(c.client.fd(), "next", 4));
  char buffer[4];
  EXPECT_EQ(recv(c.server.fd(), buffer, sizeof(buffer), MSG_TRUNC), 12);
  EXPECT_EQ(ReadSome(c.server.fd()), "next");
}

TEST_P(ContractTest, MessageTooLarge) {
  if (Types().size() < 2) GTEST_SKIP() << "no SEQPACKET";
  Connection c = Connected(SocketType::kSeqpacket);
  const std::vector<uint8_t> message = Pattern(client().capabilities().max_message + 1);
  ASSERT_EQ(send(c.client.fd(), message.data(), message.size(), MSG_NOSIGNAL), -1);
  // Linux's AF_VSOCK before 6.2 makes ENOMEM of every failure here.
  EXPECT_TRUE(errno == EMSGSIZE || (errno == ENOMEM && client().capabilities().af_vsock))
      << strerror(errno);
  // The connection has not suffered.
  ASSERT_TRUE(SendAll(c.client.fd(), "ok", 2));
  EXPECT_EQ(ReadSome(c.server.fd()), "ok");
}

TEST_P(ContractTest, RecordMarksArrive) {
  if (!Has(&Capabilities::record_marks)) GTEST_SKIP() << "no record_marks";
  Connection c = Connected(SocketType::kSeqpacket);
  for (const int mark : {0, int{MSG_EOR}, 0}) {
    ASSERT_EQ(send(c.client.fd(), "x", 1, MSG_NOSIGNAL | mark), 1) << strerror(errno);
    char byte;
    iovec iov = {&byte, 1};
    msghdr message = {};
    message.msg_iov = &iov;
    message.msg_iovlen = 1;
    ASSERT_EQ(recvmsg(c.server.fd(), &message, 0), 1) << strerror(errno);
    EXPECT_EQ(message.msg_flags & MSG_EOR, mark);
  }
}

TEST_P(ContractTest, PollHonoursRcvlowat) {
  if (!Has(&Capabilities::rcvlowat)) GTEST_SKIP() << "no rcvlowat";
  Connection c = Connected(SocketType::kStream);
  const int wanted = 100;
  ASSERT_EQ(setsockopt(c.server.fd(), SOL_SOCKET, SO_RCVLOWAT, &wanted, sizeof(wanted)), 0);
  const std::vector<uint8_t> bytes = Pattern(wanted);
  ASSERT_TRUE(SendAll(c.client.fd(), bytes.data(), wanted - 1));
  char buffer[wanted];
  ASSERT_EQ(recv(c.server.fd(), buffer, sizeof(buffer), MSG_PEEK), wanted - 1);
  pollfd p = {c.server.fd(), POLLIN, 0};
  EXPECT_EQ(poll(&p, 1, 0), 0);
  ASSERT_TRUE(SendAll(c.client.fd(), bytes.data() + wanted - 1, 1));
  EXPECT_EQ(poll(&p, 1, 60'000), 1);
}

// What a datagram socket has for us within a minute.
std::string Receive(DatagramSocket& socket, Address* from) {
  for (;;) {
    uint8_t buffer[64];
    const absl::StatusOr<DatagramSocket::Datagram> got = socket.ReceiveFrom(absl::MakeSpan(buffer));
    if (got.ok()) {
      *from = got->from;
      return std::string(reinterpret_cast<char*>(buffer), std::min(got->size, sizeof(buffer)));
    }
    if (ErrnoOf(got.status()) != EAGAIN) return got.status().ToString();
    pollfd p = {socket.fd(), POLLIN, 0};
    if (poll(&p, 1, 60'000) != 1) return "nothing came";
  }
}

absl::Span<const uint8_t> Bytes(absl::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

TEST_P(ContractTest, DatagramsAreAnswered) {
  if (!Has(&Capabilities::datagram)) {
    EXPECT_EQ(ErrnoOf(client().BindDatagram(kPortAny).status()), ESOCKTNOSUPPORT);
    GTEST_SKIP() << "no datagrams";
  }
  auto there = server().BindDatagram(kPortAny);
  ASSERT_TRUE(there.ok()) << there.status();
  auto here = client().BindDatagram(kPortAny);
  ASSERT_TRUE(here.ok()) << here.status();
  uint8_t buffer[8];
  EXPECT_EQ(ErrnoOf((*there)->ReceiveFrom(absl::MakeSpan(buffer)).status()), EAGAIN);

  const Address to = {server_cid(), (*there)->local().port};
  Address from;
  ASSERT_TRUE((*here)->SendTo(Bytes("ping"), to).ok());
  EXPECT_EQ(Receive(**there, &from), "ping");
  EXPECT_EQ(from.port, (*here)->local().port);
  ASSERT_TRUE((*there)->SendTo(Bytes("pong"), from).ok());
  EXPECT_EQ(Receive(**here, &from), "pong");
  EXPECT_EQ(from.port, to.port);

  EXPECT_EQ(ErrnoOf(server().BindDatagram(to.port).status()), EADDRINUSE);
}

TEST_P(ContractTest, DatagramSizes) {
  if (!Has(&Capabilities::datagram)) GTEST_SKIP() << "no datagrams";
  auto there = server().BindDatagram(kPortAny);
  ASSERT_TRUE(there.ok()) << there.status();
  auto here = client().BindDatagram(kPortAny);
  ASSERT_TRUE(here.ok()) << here.status();
  const Address to = {server_cid(), (*there)->local().port};
  const size_t max = client().capabilities().max_datagram;

  EXPECT_EQ(ErrnoOf((*here)->SendTo(Pattern(max + 1), to)), EMSGSIZE);
  ASSERT_TRUE((*here)->SendTo(Pattern(max), to).ok());
  pollfd p = {(*there)->fd(), POLLIN, 0};
  ASSERT_EQ(poll(&p, 1, 60'000), 1);
  // A short buffer cuts, and the true size is told.
  std::vector<uint8_t> buffer(10);
  const auto got = (*there)->ReceiveFrom(absl::MakeSpan(buffer));
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(got->size, max);
  EXPECT_EQ(buffer, Pattern(10));
}

TEST_P(ContractTest, DatagramToNobodyIsDropped) {
  if (!Has(&Capabilities::datagram)) GTEST_SKIP() << "no datagrams";
  auto here = client().BindDatagram(kPortAny);
  ASSERT_TRUE(here.ok()) << here.status();
  const uint32_t nobody = (*server().BindDatagram(kPortAny))->local().port;
  EXPECT_TRUE((*here)->SendTo(Bytes("x"), {server_cid(), nobody}).ok());
}

}  // namespace
}  // namespace argosy
