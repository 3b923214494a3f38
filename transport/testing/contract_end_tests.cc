// SPDX-License-Identifier: Apache-2.0
// How connections end: half-close, close, reset, Finish().
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "transport/error.h"
#include "transport/testing/contract_tests.h"

namespace argosy {
namespace {

TEST_P(ContractTest, HalfCloseFromEitherSide) {
  for (SocketType type : Types()) {
    for (bool client_first : {true, false}) {
      Connection c = Connected(type);
      const Socket& first = client_first ? c.client : c.server;
      const Socket& second = client_first ? c.server : c.client;
      ASSERT_TRUE(SendAll(first.fd(), "last words", 10));
      ASSERT_EQ(shutdown(first.fd(), SHUT_WR), 0);
      EXPECT_EQ(ReadSome(second.fd()), "last words");
      EXPECT_EQ(ReadSome(second.fd()), "");
      // The other direction is still open.
      ASSERT_TRUE(SendAll(second.fd(), "answer", 6));
      EXPECT_EQ(ReadSome(first.fd()), "answer");
      ASSERT_EQ(shutdown(second.fd(), SHUT_WR), 0);
      EXPECT_EQ(ReadSome(first.fd()), "");
    }
  }
}

TEST_P(ContractTest, DataBeforeCloseIsDelivered) {
  Connection c = Connected(SocketType::kStream);
  const std::vector<uint8_t> bytes = Pattern(50'000);
  ASSERT_TRUE(SendAll(c.client.fd(), bytes.data(), bytes.size()));
  UniqueFd(std::move(c.client).Release()).reset();
  EXPECT_EQ(ReadToEnd(c.server.fd()), bytes);
}

TEST_P(ContractTest, WritingAfterThePeerClosed) {
  for (SocketType type : Types()) {
    Connection c = Connected(type);
    UniqueFd(std::move(c.client).Release()).reset();
    EXPECT_EQ(ReadSome(c.server.fd()), "");
    EXPECT_EQ(send(c.server.fd(), "x", 1, MSG_NOSIGNAL), -1);
    EXPECT_EQ(errno, EPIPE);
  }
}

TEST_P(ContractTest, WritingAfterShutdown) {
  Connection c = Connected(SocketType::kStream);
  ASSERT_EQ(shutdown(c.client.fd(), SHUT_WR), 0);
  EXPECT_EQ(send(c.client.fd(), "x", 1, MSG_NOSIGNAL), -1);
  EXPECT_EQ(errno, EPIPE);
}

TEST_P(ContractTest, FinishAfterACleanEnd) {
  for (SocketType type : Types()) {
    Connection c = Connected(type);
    ASSERT_TRUE(SendAll(c.client.fd(), "data", 4));
    absl::Status client_end;
    std::thread client([&] { client_end = c.client.Finish(Far()); });
    EXPECT_EQ(ReadSome(c.server.fd()), "data");
    EXPECT_EQ(ReadSome(c.server.fd()), "");
    const absl::Status server_end = c.server.Finish(Far());
    client.join();
    EXPECT_TRUE(client_end.ok()) << client_end;
    EXPECT_TRUE(server_end.ok()) << server_end;
    EXPECT_TRUE(c.client.Finish(Far()).ok()) << "another answer the second time";
  }
}

TEST_P(ContractTest, FinishAfterThePeerClosed) {
  for (SocketType type : Types()) {
    Connection c = Connected(type);
    ASSERT_TRUE(SendAll(c.client.fd(), "data", 4));
    EXPECT_EQ(ReadSome(c.server.fd()), "data");
    UniqueFd(std::move(c.server).Release()).reset();
    const absl::Status end = c.client.Finish(Far());
    EXPECT_TRUE(end.ok()) << end;
  }
}

TEST_P(ContractTest, FinishTellsLostData) {
  if (!Has(&Capabilities::reports_lost_data)) GTEST_SKIP() << "no reports_lost_data";
  for (SocketType type : Types()) {
    Connection c = Connected(type);
    ASSERT_TRUE(SendAll(c.client.fd(), "never read", 10));
    UniqueFd(std::move(c.server).Release()).reset();
    EXPECT_EQ(ErrnoOf(c.client.Finish(Far())), ECONNRESET);
    EXPECT_EQ(ErrnoOf(c.client.Finish(Far())), ECONNRESET) << "another answer the second time";
  }
}

TEST_P(ContractTest, FinishWaitsUntilEverythingIsRead) {
  if (!Has(&Capabilities::reports_lost_data)) GTEST_SKIP() << "no reports_lost_data";
  for (SocketType type : Types()) {
    Connection c = Connected(type);
    ASSERT_TRUE(SendAll(c.client.fd(), "data", 4));
    ASSERT_EQ(shutdown(c.server.fd(), SHUT_WR), 0);
    // Both directions have ended, but the data may yet be lost.
    EXPECT_EQ(ErrnoOf(c.client.Finish(absl::Now() + absl::Milliseconds(20))), ETIMEDOUT);
    absl::Status end;
    std::thread client([&] { end = c.client.Finish(Far()); });
    EXPECT_EQ(ReadSome(c.server.fd()), "data");
    EXPECT_EQ(ReadSome(c.server.fd()), "");
    client.join();
    EXPECT_TRUE(end.ok()) << end;
  }
}

TEST_P(ContractTest, FinishEndsAtItsDeadline) {
  Connection c = Connected(SocketType::kStream);
  EXPECT_EQ(ErrnoOf(c.client.Finish(absl::Now() + absl::Milliseconds(20))), ETIMEDOUT);
  EXPECT_EQ(ErrnoOf(c.client.Finish(absl::InfinitePast())), ETIMEDOUT);
  // The peer goes on as if nothing had happened.
  EXPECT_EQ(ReadSome(c.server.fd()), "");
  ASSERT_TRUE(SendAll(c.server.fd(), "late", 4));
  EXPECT_EQ(ReadSome(c.client.fd()), "late");
  UniqueFd(std::move(c.server).Release()).reset();
  EXPECT_TRUE(c.client.Finish(Far()).ok());
}

TEST_P(ContractTest, ClosingTheListenerResetsWhoWaits) {
  std::unique_ptr<Listener> listener = Listen(SocketType::kStream);
  absl::StatusOr<Socket> client = Connect(listener->local().port, SocketType::kStream);
  ASSERT_TRUE(client.ok()) << client.status();
  listener.reset();
  const absl::Status end = client->Finish(Far());
  if (Has(&Capabilities::reset_on_fd)) {
    EXPECT_EQ(ErrnoOf(end), ECONNRESET) << end;
  } else {
    EXPECT_NE(ErrnoOf(end), ETIMEDOUT) << end;
  }
}

TEST_P(ContractTest, ResetShowsOnTheDescriptor) {
  if (!Has(&Capabilities::reset_on_fd)) GTEST_SKIP() << "no reset_on_fd";
  Connection c = Connected(SocketType::kStream);
  ASSERT_TRUE(SendAll(c.client.fd(), "never read", 10));
  UniqueFd(std::move(c.server).Release()).reset();
  char byte;
  EXPECT_EQ(read(c.client.fd(), &byte, 1), -1);
  EXPECT_EQ(errno, ECONNRESET);
}

}  // namespace
}  // namespace argosy
