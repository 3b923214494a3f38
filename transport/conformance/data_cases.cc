// SPDX-License-Identifier: Apache-2.0
// What connections carry: bytes and messages.
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "transport/conformance/fixture.h"

namespace argosy::conformance {
namespace {

constexpr uint64_t kToTheEnd = std::numeric_limits<uint64_t>::max();

TEST_P(ConnectionTest, CarriesBothWays) {
  for (const Opener opener : {Opener::kNear, Opener::kFar}) {
    ASSERT_OK_AND_ASSIGN(const Pair pair, Connected(opener));
    ASSERT_TRUE(SendAll(pair.near, "question"));
    EXPECT_EQ(far().ReadSome(pair.far), "question");
    ASSERT_OK(far().Send(pair.far, "answer"));
    EXPECT_EQ(ReadSome(pair.near), "answer");
  }
}

// Much more than any buffer holds, both ways at once; both ends compare every byte.
TEST_P(ConnectionTest, ALotOfDataBothWaysAtOnce) {
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  const uint64_t chunk = type() == SocketType::kStream ? kChunk : 65'536;
  const Pattern there = {a_lot, 0}, back = {a_lot, 1};
  auto far_sends = far().StartSendPattern(pair.far, back, chunk);
  auto far_receives = far().StartReceivePattern(pair.far, {kToTheEnd, there.first}, chunk);
  int error = 0;
  std::thread near_sends([&] {
    EXPECT_EQ(SendPattern(pair.near.fd(), there, chunk, &error), a_lot) << strerror(error);
    shutdown(pair.near.fd(), SHUT_WR);
  });
  const Received here = ReceivePattern(pair.near.fd(), back, chunk);
  near_sends.join();
  EXPECT_OK(far_sends.Get());
  EXPECT_EQ(here.bytes, a_lot) << strerror(here.error);
  EXPECT_TRUE(here.matches) << "first at byte " << here.first_wrong;
  ASSERT_OK_AND_ASSIGN(const Received over_there, far_receives.Get());
  EXPECT_EQ(over_there.bytes, a_lot) << strerror(over_there.error);
  EXPECT_TRUE(over_there.matches) << "first at byte " << over_there.first_wrong;
}

TEST_P(ConnectionTest, ReadingNothingWithoutBlocking) {
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  char byte;
  EXPECT_EQ(recv(pair.near.fd(), &byte, 1, MSG_DONTWAIT), -1);
  EXPECT_EQ(errno, EAGAIN);
}

TEST_P(ConnectionTest, WriterWithoutRoomIsToldAndWoken) {
  constexpr size_t kBound = 256 << 20;
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  const std::vector<char> bytes(16 * 1024);
  size_t sent = 0;
  // A carrier may move data on behind the descriptor: it is full when no room comes any more.
  do {
    ssize_t n;
    while ((n = send(pair.near.fd(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL)) >
           0) {
      sent += n;
      ASSERT_LT(sent, kBound) << "no end of buffers";
    }
    ASSERT_EQ(errno, EAGAIN);
  } while (PollFor(pair.near.fd(), POLLOUT, absl::Milliseconds(20)) != 0);
  auto reads = far().StartReceivePattern(pair.far, {sent}, bytes.size());
  EXPECT_EQ(PollFor(pair.near.fd(), POLLOUT), POLLOUT);
  ASSERT_OK_AND_ASSIGN(const Received got, reads.Get());
  EXPECT_EQ(got.bytes, sent);
}

TEST_P(ConnectionTest, DescriptorMayBePassedOn) {
  ASSERT_OK_AND_ASSIGN(Pair pair, Connected());
  int both[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, both), 0);
  const UniqueFd here(both[0]), there(both[1]);
  alignas(cmsghdr) char ancillary[CMSG_SPACE(sizeof(int))] = {};
  char byte = 'x';
  iovec iov = {&byte, 1};
  msghdr message = {};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  message.msg_control = ancillary;
  message.msg_controllen = sizeof(ancillary);
  cmsghdr* const header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  const int fd = pair.near.fd();
  std::memcpy(CMSG_DATA(header), &fd, sizeof(fd));
  ASSERT_EQ(sendmsg(here.get(), &message, 0), 1);
  CloseSocket(std::move(pair.near));
  message.msg_controllen = sizeof(ancillary);
  ASSERT_EQ(recvmsg(there.get(), &message, MSG_CMSG_CLOEXEC), 1);
  int passed = -1;
  std::memcpy(&passed, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(passed));
  const UniqueFd owned(passed);
  ASSERT_EQ(send(passed, "passed on", 9, MSG_NOSIGNAL), 9);
  EXPECT_EQ(far().ReadSome(pair.far), "passed on");
}

TEST_P(StreamTest, ZeroLengthWriteSendsNothing) {
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  EXPECT_EQ(send(pair.near.fd(), "", 0, MSG_NOSIGNAL), 0);
  ASSERT_TRUE(SendAll(pair.near, "x"));
  EXPECT_EQ(far().ReadSome(pair.far), "x");
}

// It arrives, or not: on AF_UNIX it reads like end-of-file, Linux's AF_VSOCK does not send it.
TEST_P(SeqpacketTest, ZeroLengthMessageHurtsNoOther) {
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  EXPECT_EQ(send(pair.near.fd(), "", 0, MSG_NOSIGNAL), 0);
  ASSERT_TRUE(SendAll(pair.near, "x"));
  std::string got = far().ReadSome(pair.far);
  if (got.empty()) got = far().ReadSome(pair.far);
  EXPECT_EQ(got, "x");
}

TEST_P(SeqpacketTest, MessagesKeepTheirBoundaries) {
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  const std::vector<size_t> sizes = {1, 2, 4095, 4096, 65536, 65537, capabilities().max_message, 3};
  std::thread sender([&] {
    for (size_t i = 0; i < sizes.size(); ++i) {
      const std::vector<uint8_t> message = Pattern{sizes[i], i}.Bytes();
      ASSERT_EQ(send(pair.near.fd(), message.data(), message.size(), MSG_NOSIGNAL),
                static_cast<ssize_t>(message.size()))
          << strerror(errno);
    }
  });
  for (size_t i = 0; i < sizes.size(); ++i) {
    const auto got = far().ReceiveMessage(pair.far, {capabilities().max_message + 1, i});
    EXPECT_OK(got);
    if (!got.ok()) break;
    EXPECT_EQ(got->size, sizes[i]);
    EXPECT_TRUE(got->matches) << "message " << i;
  }
  sender.join();
}

TEST_P(SeqpacketTest, ShortReadCutsTheMessage) {
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  ASSERT_TRUE(SendAll(pair.near, "long message"));
  ASSERT_TRUE(SendAll(pair.near, "next"));
  ASSERT_OK_AND_ASSIGN(const FarText cut, far().Receive(pair.far, 4, MSG_TRUNC));
  EXPECT_EQ(cut.size, 12u);
  EXPECT_EQ(cut.text, "long");
  EXPECT_EQ(far().ReadSome(pair.far), "next");
}

TEST_P(SeqpacketTest, RefusedMessageHurtsNoOther) {
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  const std::vector<uint8_t> message = Pattern{capabilities().max_message + 1}.Bytes();
  EXPECT_EQ(send(pair.near.fd(), message.data(), message.size(), MSG_NOSIGNAL), -1);
  ASSERT_TRUE(SendAll(pair.near, "ok"));
  EXPECT_EQ(far().ReadSome(pair.far), "ok");
}

TEST_P(SeqpacketTest, MessageTooLarge) {
  NEEDS(too_large_is_emsgsize);
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  const std::vector<uint8_t> message = Pattern{capabilities().max_message + 1}.Bytes();
  EXPECT_EQ(send(pair.near.fd(), message.data(), message.size(), MSG_NOSIGNAL), -1);
  EXPECT_EQ(errno, EMSGSIZE);
}

TEST_P(SeqpacketTest, RecordMarksArrive) {
  NEEDS(record_marks);
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  for (const int mark : {0, int{MSG_EOR}, 0}) {
    ASSERT_EQ(send(pair.near.fd(), "x", 1, MSG_NOSIGNAL | mark), 1) << strerror(errno);
    ASSERT_OK_AND_ASSIGN(const FarText got, far().Receive(pair.far));
    EXPECT_EQ(got.text, "x");
    EXPECT_EQ(got.flags & MSG_EOR, mark);
  }
}

TEST_P(StreamTest, PollHonoursRcvlowat) {
  NEEDS(rcvlowat);
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  const int wanted = 100;
  ASSERT_EQ(setsockopt(pair.near.fd(), SOL_SOCKET, SO_RCVLOWAT, &wanted, sizeof(wanted)), 0);
  ASSERT_OK(far().SendPattern(pair.far, {wanted - 1}));
  char buffer[wanted];
  ASSERT_EQ(recv(pair.near.fd(), buffer, wanted - 1, MSG_PEEK | MSG_WAITALL), wanted - 1);
  EXPECT_EQ(PollFor(pair.near.fd(), POLLIN, absl::ZeroDuration()), 0);
  ASSERT_OK(far().Send(pair.far, "x"));
  EXPECT_EQ(PollFor(pair.near.fd(), POLLIN), POLLIN);
}

}  // namespace
}  // namespace argosy::conformance
