// SPDX-License-Identifier: Apache-2.0
// vsock_test: reading.
//
// What Linux's vsock_test checks of reading: MSG_PEEK, parts, time-outs, buffers that are none.  Its
// numbers stand above each case.
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "transport/conformance/fixture.h"

namespace argosy::conformance {
namespace {

// recv() as text; "errno N" if it failed.
std::string Receive(const Socket& socket, size_t size, int flags) {
  std::string buffer(size, '\0');
  const ssize_t n = recv(socket.fd(), buffer.data(), size, flags);
  if (n < 0) return "errno " + std::to_string(errno);
  buffer.resize(std::min<size_t>(n, size));
  return buffer;
}

const std::string kNothingYet = "errno " + std::to_string(EAGAIN);

// 5, 15
TEST_P(ConnectionTest, PeekedBytesStay) {
  if (type() == SocketType::kSeqpacket) NEEDS(peeks_messages);
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  EXPECT_EQ(Receive(pair.near, 1, MSG_PEEK | MSG_DONTWAIT), kNothingYet);
  ASSERT_OK(far().Send(pair.far, "0123456789"));
  EXPECT_EQ(Receive(pair.near, 4, MSG_PEEK), "0123");
  EXPECT_EQ(Receive(pair.near, 100, MSG_PEEK), "0123456789");
  EXPECT_EQ(Receive(pair.near, 100, 0), "0123456789");
  EXPECT_EQ(Receive(pair.near, 1, MSG_PEEK | MSG_DONTWAIT), kNothingYet);
}

// 15
TEST_P(SeqpacketTest, PeekTellsTheSizeOfTheMessage) {
  NEEDS(peeks_messages);
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  ASSERT_OK(far().Send(pair.far, "first message"));
  ASSERT_OK(far().Send(pair.far, "second"));
  char byte;
  EXPECT_EQ(recv(pair.near.fd(), &byte, 1, MSG_PEEK | MSG_TRUNC), 13);
  EXPECT_EQ(byte, 'f');
  EXPECT_EQ(ReadSome(pair.near), "first message");
  EXPECT_EQ(recv(pair.near.fd(), &byte, 1, MSG_PEEK | MSG_TRUNC), 6);
  EXPECT_EQ(ReadSome(pair.near), "second");
}

// 39
TEST_P(StreamTest, PeekBeginsWhereReadingStopped) {
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  ASSERT_OK(far().Send(pair.far, "0123456789"));
  EXPECT_EQ(Receive(pair.near, 3, 0), "012");
  EXPECT_EQ(Receive(pair.near, 3, MSG_PEEK), "345");
  EXPECT_EQ(Receive(pair.near, 3, 0), "345");
  EXPECT_EQ(Receive(pair.near, 100, MSG_PEEK), "6789");
  EXPECT_EQ(Receive(pair.near, 100, 0), "6789");
}

// 14
TEST_P(StreamTest, OneReadTakesWhatSeveralWritesLeft) {
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  ASSERT_OK(far().Send(pair.far, "HELLO"));
  EXPECT_EQ(Receive(pair.near, 2, 0), "HE");
  ASSERT_OK(far().Send(pair.far, "WORLD"));
  EXPECT_EQ(Receive(pair.near, 8, MSG_WAITALL), "LLOWORLD");
  EXPECT_EQ(Receive(pair.near, 1, MSG_DONTWAIT), kNothingYet);
}

// 8
TEST_P(ConnectionTest, ReadingEndsAtSoRcvtimeo) {
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  const timeval timeout = {.tv_sec = 0, .tv_usec = 50'000};
  ASSERT_EQ(setsockopt(pair.near.fd(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)), 0);
  timespec before, after;
  // By the clock that ticks with the kernel's timers: in an emulated machine ticks come late, and then several at once.
  ASSERT_EQ(clock_gettime(CLOCK_MONOTONIC_COARSE, &before), 0);
  EXPECT_EQ(Receive(pair.near, 1, 0), kNothingYet);
  ASSERT_EQ(clock_gettime(CLOCK_MONOTONIC_COARSE, &after), 0);
  // The first tick has begun: 10 ms at most.
  EXPECT_GE(absl::DurationFromTimespec(after) - absl::DurationFromTimespec(before),
            absl::DurationFromTimeval(timeout) - absl::Milliseconds(10));
  // The connection goes on, however long the next bytes take.
  const timeval none = {};
  ASSERT_EQ(setsockopt(pair.near.fd(), SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none)), 0);
  ASSERT_OK(far().Send(pair.far, "late"));
  EXPECT_EQ(ReadSome(pair.near), "late");
}

// Two pages, of which the second cannot be touched.
class HalfBadBuffer {
 public:
  HalfBadBuffer() {
    void* const pages =
        mmap(nullptr, 2 * page_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) return;
    if (mprotect(static_cast<char*>(pages) + page_, page_, PROT_NONE) == 0) {
      first_ = static_cast<char*>(pages);
    } else {
      munmap(pages, 2 * page_);
    }
  }
  ~HalfBadBuffer() {
    if (first_ != nullptr) munmap(first_, 2 * page_);
  }
  HalfBadBuffer(const HalfBadBuffer&) = delete;
  HalfBadBuffer& operator=(const HalfBadBuffer&) = delete;

  bool valid() const { return first_ != nullptr; }
  // Bad from its byte `good` on.
  char* at(size_t good) const { return first_ + page_ - good; }

 private:
  const size_t page_ = sysconf(_SC_PAGESIZE);
  char* first_ = nullptr;
};

// 12
TEST_P(StreamTest, BadBufferLosesNoBytes) {
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  const HalfBadBuffer buffer;
  ASSERT_TRUE(buffer.valid());
  ASSERT_OK(far().Send(pair.far, "0123456789"));
  EXPECT_EQ(recv(pair.near.fd(), buffer.at(0), 10, 0), -1);
  EXPECT_EQ(Receive(pair.near, 10, MSG_WAITALL), "0123456789");
}

// 9, 13
TEST_P(SeqpacketTest, BadBufferLosesOneMessage) {
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  const HalfBadBuffer buffer;
  ASSERT_TRUE(buffer.valid());
  for (const size_t good : {size_t{0}, size_t{4}}) {
    ASSERT_OK(far().Send(pair.far, "0123456789"));
    EXPECT_EQ(recv(pair.near.fd(), buffer.at(good), 10, 0), -1);
    EXPECT_EQ(Receive(pair.near, 10, MSG_DONTWAIT), kNothingYet);
  }
  ASSERT_OK(far().Send(pair.far, "next"));
  EXPECT_EQ(ReadSome(pair.near), "next");
}

// 9, 12, 13
TEST_P(ConnectionTest, BadBufferIsEfault) {
  NEEDS(bad_buffer_is_efault);
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  const HalfBadBuffer buffer;
  ASSERT_TRUE(buffer.valid());
  ASSERT_OK(far().Send(pair.far, "x"));
  EXPECT_EQ(recv(pair.near.fd(), buffer.at(0), 1, 0), -1);
  EXPECT_EQ(errno, EFAULT);
}

// The sender's side of 12 and 13.
TEST_P(ConnectionTest, SendingFromABadBufferSendsNothing) {
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  const HalfBadBuffer buffer;
  ASSERT_TRUE(buffer.valid());
  EXPECT_EQ(send(pair.near.fd(), buffer.at(0), 10, MSG_NOSIGNAL), -1);
  ASSERT_TRUE(SendAll(pair.near, "good"));
  EXPECT_EQ(far().ReadSome(pair.far), "good");
}

}  // namespace
}  // namespace argosy::conformance
