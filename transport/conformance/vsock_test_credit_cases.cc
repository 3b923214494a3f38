// SPDX-License-Identifier: Apache-2.0
// vsock_test: buffers and credit.
//
// What Linux's vsock_test checks of buffers and credit.  Its numbers stand above each case.
#include <linux/vm_sockets.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "transport/conformance/fixture.h"

namespace argosy::conformance {
namespace {

// Of AF_VSOCK's buffer, which is the receiver's credit.
uint64_t BufferSize(const Socket& socket) {
  uint64_t size = 0;
  socklen_t length = sizeof(size);
  EXPECT_EQ(getsockopt(socket.fd(), AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &size, &length), 0)
      << strerror(errno);
  return size;
}

bool SetRcvlowat(const Socket& socket, uint64_t bytes) {
  const int wanted = static_cast<int>(bytes);
  return setsockopt(socket.fd(), SOL_SOCKET, SO_RCVLOWAT, &wanted, sizeof(wanted)) == 0;
}

// What goes out, in pieces of `chunk`, before the sender would have to wait.
uint64_t SendUntilItWouldBlock(const Socket& socket, size_t chunk, uint64_t limit) {
  uint64_t sent = 0;
  while (sent < limit) {
    const std::vector<uint8_t> bytes = Pattern{chunk, sent}.Bytes();
    const ssize_t n = send(socket.fd(), bytes.data(), chunk, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0) {
      EXPECT_EQ(errno, EAGAIN) << strerror(errno);
      break;
    }
    sent += n;
  }
  return sent;
}

// 22: who raises SO_RCVLOWAT gets the credit sent that it takes to fill it.
TEST_P(StreamTest, RaisedRcvlowatIsReached) {
  NEEDS(full_rcvlowat);
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  const uint64_t buffer = BufferSize(pair.near);
  auto sender = far().StartSendPattern(pair.far, {buffer + 1});
  ASSERT_TRUE(SetRcvlowat(pair.near, buffer));
  ASSERT_NE(PollFor(pair.near.fd(), POLLIN), 0);  // the buffer is full, one byte does not fit
  ASSERT_TRUE(SetRcvlowat(pair.near, 1));
  char byte;
  ASSERT_EQ(recv(pair.near.fd(), &byte, 1, 0), 1);
  ASSERT_TRUE(SetRcvlowat(pair.near, buffer));
  EXPECT_NE(PollFor(pair.near.fd(), POLLIN), 0);
  shutdown(pair.near.fd(), SHUT_RDWR);  // ends the sender, if something was wrong
  EXPECT_OK(sender.Get());
}

// 23: so does who reads below SO_RCVLOWAT.
TEST_P(StreamTest, RcvlowatIsReachedAgain) {
  NEEDS(full_rcvlowat);
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  const uint64_t buffer = BufferSize(pair.near);
  ASSERT_TRUE(SetRcvlowat(pair.near, buffer));
  auto sender = far().StartSendPattern(pair.far, {buffer + 1});
  ASSERT_NE(PollFor(pair.near.fd(), POLLIN), 0);
  char byte;
  ASSERT_EQ(recv(pair.near.fd(), &byte, 1, 0), 1);
  EXPECT_NE(PollFor(pair.near.fd(), POLLIN), 0);
  shutdown(pair.near.fd(), SHUT_RDWR);  // ends the sender, if something was wrong
  EXPECT_OK(sender.Get());
}

// 22, 23: who waits for much of a buffer gets it, again and again.
TEST_P(StreamTest, WaitallTakesMostOfABuffer) {
  // Linux tells the sender of room when three quarters of 256 KiB were read, whoever waits.
  constexpr size_t kPart = 200'000;
  constexpr int kParts = 20;
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  auto sender = far().StartSendPattern(pair.far, {kPart * kParts});
  for (size_t i = 0; i < kParts; ++i) {
    std::vector<uint8_t> bytes(kPart);
    const ssize_t n = recv(pair.near.fd(), bytes.data(), kPart, MSG_WAITALL);
    EXPECT_EQ(n, static_cast<ssize_t>(kPart)) << strerror(errno);
    if (n != static_cast<ssize_t>(kPart)) break;
    EXPECT_TRUE((bytes == Pattern{kPart, i * kPart}.Bytes())) << "part " << i;
  }
  shutdown(pair.near.fd(), SHUT_RDWR);  // ends the sender, if something was wrong
  EXPECT_OK(sender.Get());
}

// 38.  Linux before 7.0 without the fix fails here: whoever announces a large buffer makes it keep as
// much for a reader that never comes.
TEST_P(StreamTest, OwnBufferBoundsTheSender) {
  NEEDS(af_vsock);
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  const uint64_t theirs = BufferSize(pair.near), own = theirs / 4;
  ASSERT_EQ(setsockopt(pair.near.fd(), AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &own, sizeof(own)), 0)
      << strerror(errno);
  EXPECT_EQ(SendUntilItWouldBlock(pair.near, 4096, theirs), own);
}

// 40
TEST_P(ConnectionTest, ManySmallWritesMeetASlowReader) {
  constexpr uint64_t kSize = 2 << 20;
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  std::atomic<uint64_t> sent = 0;
  std::thread sender([&] {
    std::minstd_rand random(40);
    while (sent < kSize) {
      const uint64_t size = std::min<uint64_t>(129 + random() % 384, kSize - sent);
      const std::vector<uint8_t> bytes = Pattern{size, sent}.Bytes();
      const ssize_t n = send(pair.near.fd(), bytes.data(), size, MSG_NOSIGNAL);
      ASSERT_GT(n, 0) << strerror(errno);
      sent += n;
    }
    shutdown(pair.near.fd(), SHUT_WR);
  });
  // The reader begins when there is no room for more; no event says that room has gone.
  const absl::Time deadline = Patience();
  while (PollFor(pair.near.fd(), POLLOUT, absl::ZeroDuration()) != 0 && absl::Now() < deadline) {
    poll(nullptr, 0, 1);
  }
  EXPECT_LT(sent, kSize);
  const absl::StatusOr<Received> got = far().ReceivePattern(pair.far, {kSize}, 512);
  if (!got.ok()) shutdown(pair.near.fd(), SHUT_RDWR);  // ends the sender
  sender.join();
  ASSERT_OK(got);
  EXPECT_EQ(got->bytes, kSize) << strerror(got->error);
  EXPECT_TRUE(got->matches) << "first at byte " << got->first_wrong;
}

// Beside 38 and 40: messages that do not fit what is left of a buffer.
TEST_P(SeqpacketTest, MessageThatWouldBlockIsNotSentInPart) {
  NEEDS(refuses_whole_messages);
  constexpr size_t kSize = 1000;
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  const uint64_t sent = SendUntilItWouldBlock(pair.near, kSize, 8 << 20);
  ASSERT_OK_AND_ASSIGN(const Received got, far().ReceivePattern(pair.far, {sent}, kSize));
  EXPECT_EQ(got.bytes, sent);
  ASSERT_TRUE(SendAll(pair.near, "next"));
  EXPECT_EQ(far().ReadSome(pair.far), "next");
}

}  // namespace
}  // namespace argosy::conformance
