// SPDX-License-Identifier: Apache-2.0
// vsock_test: counters.
//
// What Linux's vsock_test checks of SIOCINQ and SIOCOUTQ.  Its numbers stand above each case.
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "transport/conformance/fixture.h"

namespace argosy::conformance {
namespace {

int Count(const Socket& socket, unsigned long counter) {
  int bytes = -1;
  EXPECT_EQ(ioctl(socket.fd(), counter, &bytes), 0) << strerror(errno);
  return bytes;
}

// 24, 25
TEST_P(ConnectionTest, NothingIsUnsentWhenAllWasRead) {
  NEEDS(counts_unsent);
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  EXPECT_EQ(Count(pair.near, SIOCOUTQ), 0);
  ASSERT_TRUE(SendAll(pair.near, "0123456789"));
  ASSERT_EQ(far().ReadSome(pair.far), "0123456789");
  // The carrier may learn that the bytes arrived later than the program there; no event tells.
  const absl::Time deadline = Patience();
  while (Count(pair.near, SIOCOUTQ) != 0 && absl::Now() < deadline) poll(nullptr, 0, 1);
  EXPECT_EQ(Count(pair.near, SIOCOUTQ), 0);
}

// 34, 35
TEST_P(ConnectionTest, UnreadBytesAreCounted) {
  NEEDS(counts_unread);
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  EXPECT_EQ(Count(pair.near, SIOCINQ), 0);
  ASSERT_OK(far().Send(pair.far, "0123456789"));
  ASSERT_EQ(PollFor(pair.near.fd(), POLLIN), POLLIN);
  EXPECT_EQ(Count(pair.near, SIOCINQ), 10);
  if (type() == SocketType::kStream) {
    char part[4];
    ASSERT_EQ(recv(pair.near.fd(), part, sizeof(part), 0), 4);
    EXPECT_EQ(Count(pair.near, SIOCINQ), 6);
  }
  EXPECT_EQ(ReadSome(pair.near), type() == SocketType::kStream ? "456789" : "0123456789");
  EXPECT_EQ(Count(pair.near, SIOCINQ), 0);
}

}  // namespace
}  // namespace argosy::conformance
