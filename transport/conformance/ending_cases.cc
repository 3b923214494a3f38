// SPDX-License-Identifier: Apache-2.0
// How connections end: half-close, close, reset, Finish().
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <thread>

#include "transport/conformance/fixture.h"

namespace argosy::conformance {
namespace {

TEST_P(ConnectionTest, HalfCloseHere) {
  for (const Opener opener : {Opener::kNear, Opener::kFar}) {
    ASSERT_OK_AND_ASSIGN(const Pair pair, Connected(opener));
    ASSERT_TRUE(SendAll(pair.near, "last words"));
    ASSERT_EQ(shutdown(pair.near.fd(), SHUT_WR), 0);
    EXPECT_EQ(far().ReadSome(pair.far), "last words");
    EXPECT_EQ(far().ReadSome(pair.far), "");
    // The other direction is still open.
    ASSERT_OK(far().Send(pair.far, "answer"));
    EXPECT_EQ(ReadSome(pair.near), "answer");
    ASSERT_OK(far().Shutdown(pair.far, SHUT_WR));
    EXPECT_EQ(ReadSome(pair.near), "");
  }
}

TEST_P(ConnectionTest, HalfCloseThere) {
  for (const Opener opener : {Opener::kNear, Opener::kFar}) {
    ASSERT_OK_AND_ASSIGN(const Pair pair, Connected(opener));
    ASSERT_OK(far().Send(pair.far, "last words"));
    ASSERT_OK(far().Shutdown(pair.far, SHUT_WR));
    EXPECT_EQ(ReadSome(pair.near), "last words");
    EXPECT_EQ(ReadSome(pair.near), "");
    ASSERT_TRUE(SendAll(pair.near, "answer"));
    EXPECT_EQ(far().ReadSome(pair.far), "answer");
    ASSERT_EQ(shutdown(pair.near.fd(), SHUT_WR), 0);
    EXPECT_EQ(far().ReadSome(pair.far), "");
  }
}

TEST_P(StreamTest, DataBeforeCloseIsDelivered) {
  constexpr uint64_t kSize = 50'000;
  ASSERT_OK_AND_ASSIGN(Pair pair, Connected());
  int error = 0;
  ASSERT_EQ(SendPattern(pair.near.fd(), {kSize}, kSize, &error), kSize) << strerror(error);
  CloseSocket(std::move(pair.near));
  ASSERT_OK_AND_ASSIGN(const Received got, far().ReceivePattern(pair.far, {2 * kSize}));
  EXPECT_EQ(got.bytes, kSize);
  EXPECT_EQ(got.error, 0);
  EXPECT_TRUE(got.matches);
}

// More than credit and buffers hold: the writer closes as soon as the last byte is taken from it.
TEST_P(ConnectionTest, ALotOfDataBeforeCloseIsDelivered) {
  ASSERT_OK_AND_ASSIGN(Pair pair, Connected());
  auto far_reads = far().StartReceivePattern(pair.far, {2 * a_lot}, 65'536);
  int error = 0;
  ASSERT_EQ(SendPattern(pair.near.fd(), {a_lot}, 65'536, &error), a_lot) << strerror(error);
  CloseSocket(std::move(pair.near));
  ASSERT_OK_AND_ASSIGN(const Received got, far_reads.Get());
  EXPECT_EQ(got.bytes, a_lot);
  EXPECT_EQ(got.error, 0);
  EXPECT_TRUE(got.matches);
}

TEST_P(ConnectionTest, DataBeforeResetIsDelivered) {
  ASSERT_OK_AND_ASSIGN(Pair pair, Connected());
  ASSERT_OK(far().Send(pair.far, "never read"));
  ASSERT_EQ(PollFor(pair.near.fd(), POLLIN), POLLIN);
  ASSERT_TRUE(SendAll(pair.near, "last words"));
  ASSERT_OK_AND_ASSIGN(const short arrived, far().Poll(pair.far, POLLIN, kPatience));
  ASSERT_EQ(arrived, POLLIN);
  CloseSocket(std::move(pair.near));  // with data unread: a reset
  std::string got = far().ReadSome(pair.far);
  // On a SEQPACKET descriptor of AF_UNIX the error shows first.
  if (type() == SocketType::kSeqpacket && capabilities().reset_on_fd && got == "errno 104") {
    got = far().ReadSome(pair.far);
  }
  EXPECT_EQ(got, "last words");
}

// Connects from and to the ports of a connection that both ends have closed.  Its last packets may
// still be under way, and no event tells: until then its ports are taken, or a late reset meets the
// new connection.  But no end may be left to the time-out of a close, which is 8 seconds.
absl::Status ConnectOnceEnded(const std::function<absl::Status()>& connect) {
  const absl::Time deadline = absl::Now() + absl::Seconds(5);
  for (;;) {
    const absl::Status status = connect();
    const int error = ErrnoOf(status);
    if ((error != EADDRINUSE && error != ECONNRESET) || absl::Now() > deadline) return status;
    poll(nullptr, 0, 1);
  }
}

TEST_P(ConnectionTest, SimultaneousClose) {
  for (int i = 0; i < 50; ++i) {
    ASSERT_OK_AND_ASSIGN(Pair pair, Connected(i % 2 == 0 ? Opener::kNear : Opener::kFar));
    const uint32_t here = pair.near.local().port, there = pair.far.local.port;
    auto far_closes = far().StartClose(pair.far);
    CloseSocket(std::move(pair.near));
    ASSERT_OK(far_closes.Get());
    // Neither end keeps anything of it.
    if (i % 2 == 0) {
      ASSERT_OK_AND_ASSIGN(const FarListener listener, far().Listen(type(), there));
      ASSERT_OK(ConnectOnceEnded(
          [&] { return Connect(listener, type(), {.local_port = here}).status(); }));
    } else {
      ASSERT_OK_AND_ASSIGN(const auto listener, near().Listen(here, type(), {}));
      ASSERT_OK(ConnectOnceEnded([&] {
        return far().Connect({near_cid(), here}, type(), {.local_port = there}).status();
      }));
    }
  }
}

TEST_P(ConnectionTest, SimultaneousFinish) {
  for (int i = 0; i < 50; ++i) {
    ASSERT_OK_AND_ASSIGN(Pair pair, Connected(i % 2 == 0 ? Opener::kNear : Opener::kFar));
    auto far_end = far().StartFinish(pair.far);
    EXPECT_OK(pair.near.Finish(Patience()));
    EXPECT_OK(far_end.Get());
  }
}

TEST_P(ConnectionTest, PollTellsDataAndEnds) {
  constexpr short kAll = POLLIN | POLLRDHUP;
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  const int fd = pair.near.fd();
  EXPECT_EQ(PollFor(fd, kAll, absl::ZeroDuration()), 0);
  ASSERT_OK(far().Send(pair.far, "data"));
  EXPECT_EQ(PollFor(fd, kAll), POLLIN);
  EXPECT_EQ(ReadSome(pair.near), "data");
  EXPECT_EQ(PollFor(fd, kAll, absl::ZeroDuration()), 0);
  ASSERT_OK(far().Shutdown(pair.far, SHUT_WR));
  EXPECT_EQ(PollFor(fd, kAll), POLLIN | POLLRDHUP);
  ASSERT_EQ(shutdown(fd, SHUT_WR), 0);
  EXPECT_EQ(PollFor(fd, kAll), POLLIN | POLLRDHUP | POLLHUP);
}

TEST_P(ConnectionTest, ClosingWakesABlockedReader) {
  for (const Opener opener : {Opener::kNear, Opener::kFar}) {
    ASSERT_OK_AND_ASSIGN(Pair pair, Connected(opener));
    auto reads = far().StartReceive(pair.far);
    CloseSocket(std::move(pair.near));
    ASSERT_OK_AND_ASSIGN(const FarText got, reads.Get());
    EXPECT_EQ(got.text, "");
  }
}

TEST_P(ConnectionTest, ClosingWakesABlockedWriter) {
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  int error = 0;
  std::thread writer([&] { SendPattern(pair.near.fd(), {uint64_t{1} << 40}, 65'536, &error); });
  // It has begun, and sooner or later it is blocked.
  EXPECT_OK(far().Receive(pair.far));
  EXPECT_OK(far().Close(pair.far));
  writer.join();
  // It was closed with data unread: the writer may see that as a reset.
  EXPECT_TRUE(error == EPIPE || error == ECONNRESET) << strerror(error);
}

TEST_P(ConnectionTest, WritingAfterThePeerClosed) {
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  ASSERT_OK(far().Close(pair.far));
  EXPECT_EQ(ReadSome(pair.near), "");
  EXPECT_EQ(send(pair.near.fd(), "x", 1, MSG_NOSIGNAL), -1);
  EXPECT_EQ(errno, EPIPE);
}

TEST_P(ConnectionTest, WritingAfterShutdown) {
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  ASSERT_EQ(shutdown(pair.near.fd(), SHUT_WR), 0);
  EXPECT_EQ(send(pair.near.fd(), "x", 1, MSG_NOSIGNAL), -1);
  EXPECT_EQ(errno, EPIPE);
}

TEST_P(ConnectionTest, FinishAfterACleanEnd) {
  ASSERT_OK_AND_ASSIGN(Pair pair, Connected());
  ASSERT_OK(far().Send(pair.far, "data"));
  auto far_end = far().StartFinish(pair.far);
  EXPECT_EQ(ReadSome(pair.near), "data");
  EXPECT_EQ(ReadSome(pair.near), "");
  EXPECT_OK(pair.near.Finish(Patience()));
  EXPECT_OK(far_end.Get());
  EXPECT_OK(pair.near.Finish(Patience())) << "another answer the second time";
  EXPECT_OK(far().Finish(pair.far)) << "another answer the second time";
}

TEST_P(ConnectionTest, FinishAfterThePeerClosed) {
  ASSERT_OK_AND_ASSIGN(Pair pair, Connected());
  ASSERT_TRUE(SendAll(pair.near, "data"));
  EXPECT_EQ(far().ReadSome(pair.far), "data");
  ASSERT_OK(far().Close(pair.far));
  EXPECT_OK(pair.near.Finish(Patience()));
}

TEST_P(ConnectionTest, FinishTellsLostData) {
  NEEDS(reports_lost_data);
  ASSERT_OK_AND_ASSIGN(Pair pair, Connected());
  ASSERT_TRUE(SendAll(pair.near, "never read"));
  ASSERT_OK(far().Close(pair.far));
  EXPECT_ERRNO(pair.near.Finish(Patience()), ECONNRESET);
  EXPECT_ERRNO(pair.near.Finish(Patience()), ECONNRESET) << "another answer the second time";
}

TEST_P(ConnectionTest, FinishWaitsUntilEverythingIsRead) {
  NEEDS(reports_lost_data);
  ASSERT_OK_AND_ASSIGN(Pair pair, Connected());
  ASSERT_OK(far().Send(pair.far, "data"));
  ASSERT_EQ(shutdown(pair.near.fd(), SHUT_WR), 0);
  // Both directions have ended, but the data may yet be lost.
  EXPECT_ERRNO(far().Finish(pair.far, absl::Milliseconds(20)), ETIMEDOUT);
  auto far_end = far().StartFinish(pair.far);
  EXPECT_EQ(ReadSome(pair.near), "data");
  EXPECT_EQ(ReadSome(pair.near), "");
  EXPECT_OK(far_end.Get());
}

TEST_P(ConnectionTest, FinishEndsAtItsDeadline) {
  ASSERT_OK_AND_ASSIGN(Pair pair, Connected());
  EXPECT_ERRNO(pair.near.Finish(absl::Now() + absl::Milliseconds(20)), ETIMEDOUT);
  EXPECT_ERRNO(pair.near.Finish(absl::InfinitePast()), ETIMEDOUT);
  // The peer goes on as if nothing had happened.
  EXPECT_EQ(far().ReadSome(pair.far), "");
  ASSERT_OK(far().Send(pair.far, "late"));
  EXPECT_EQ(ReadSome(pair.near), "late");
  ASSERT_OK(far().Close(pair.far));
  EXPECT_OK(pair.near.Finish(Patience()));
}

TEST_P(ConnectionTest, ClosingTheListenerEndsWhoWaits) {
  ASSERT_OK_AND_ASSIGN(const FarListener listener, far().Listen(type()));
  ASSERT_OK_AND_ASSIGN(Socket socket, Connect(listener, type()));
  ASSERT_OK(far().Close(listener));
  const absl::Status end = socket.Finish(Patience());
  if (capabilities().reset_on_fd) {
    EXPECT_ERRNO(end, ECONNRESET);
  } else {
    EXPECT_TRUE(end.ok() || ErrnoOf(end) == ECONNRESET) << end;
  }
}

TEST_P(ConnectionTest, ResetShowsOnTheDescriptor) {
  NEEDS(reset_on_fd);
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  ASSERT_TRUE(SendAll(pair.near, "never read"));
  ASSERT_OK(far().Close(pair.far));
  char byte;
  EXPECT_EQ(read(pair.near.fd(), &byte, 1), -1);
  EXPECT_EQ(errno, ECONNRESET);
}

// A program that was killed looks like one that closed: see docs/architecture.md.
TEST_P(ConnectionTest, KillingThePeerWakesABlockedReader) {
  for (const Opener opener : {Opener::kNear, Opener::kFar}) {
    ASSERT_OK_AND_ASSIGN(Pair pair, Connected(opener));
    ASSERT_OK_AND_ASSIGN(const FarChild child, far().Hold(pair.far));
    // The child keeps the connection open.
    ASSERT_EQ(PollFor(pair.near.fd(), POLLIN | POLLRDHUP, absl::Milliseconds(20)), 0);
    std::thread reader([&] { EXPECT_EQ(ReadSome(pair.near), ""); });
    EXPECT_OK(far().Kill(child));
    reader.join();
    EXPECT_OK(pair.near.Finish(Patience()));
  }
}

}  // namespace
}  // namespace argosy::conformance
