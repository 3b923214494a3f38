// SPDX-License-Identifier: Apache-2.0
// The device is a part of each test.  What every transport does is the conformance suite's:
// //nested-test/vhost_user:conformance_6.1_test.
#include "backends/uds/uds.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "transport/error.h"
#include "transport/testing/listen_unix.h"
#include "transport/testing/temporary_directory.h"
#include "transport/unique_fd.h"
#include "transport/unix_socket.h"

namespace argosy {
namespace {

std::string Read(int fd) {
  char buffer[256];
  const ssize_t n = read(fd, buffer, sizeof(buffer));
  return n < 0 ? absl::StrCat("errno ", errno) : std::string(buffer, n);
}

void Write(int fd, absl::string_view bytes) {
  ASSERT_EQ(send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
}

bool IsReady(const Connecting& connecting, absl::Duration wait = absl::ZeroDuration()) {
  pollfd p = {connecting.fd(), connecting.events(), 0};
  return poll(&p, 1, static_cast<int>(absl::ToInt64Milliseconds(wait))) == 1;
}

absl::StatusOr<Socket> Await(Connecting& connecting) {
  for (;;) {
    absl::StatusOr<Socket> socket = connecting.Complete();
    if (ErrnoOf(socket.status()) != EAGAIN) return socket;
    EXPECT_TRUE(IsReady(connecting, absl::Seconds(60)));
  }
}

class UdsTest : public testing::TestWithParam<SocketType> {
 protected:
  UdsTest() {
    absl::StatusOr<std::unique_ptr<Transport>> transport = OpenUds("uds:" + path_);
    EXPECT_TRUE(transport.ok()) << transport.status();
    transport_ = *std::move(transport);
  }

  int type() const { return GetParam() == SocketType::kStream ? SOCK_STREAM : SOCK_SEQPACKET; }

  // The device begins to serve.
  void Serve(int backlog = 8) {
    stream_ = ListenUnix(path_, SOCK_STREAM, backlog);
    seqpacket_ = ListenUnix(path_ + "_seqpacket", SOCK_SEQPACKET, backlog);
  }
  // It accepts a client, whose line was `line`.
  UniqueFd Accept(absl::string_view line) {
    const UniqueFd& listener = GetParam() == SocketType::kStream ? stream_ : seqpacket_;
    UniqueFd fd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    EXPECT_EQ(Read(fd.get()), line);
    return fd;
  }
  absl::StatusOr<std::unique_ptr<Connecting>> Connect(Address to,
                                                      const ConnectOptions& options = {
                                                          .timeout = absl::Seconds(60)}) {
    return transport_->Connect(to, GetParam(), options);
  }
  // A client of which the device has read the line.
  std::unique_ptr<Connecting> Asking(UniqueFd* device) {
    Serve();
    absl::StatusOr<std::unique_ptr<Connecting>> connecting = Connect({3, 1234});
    EXPECT_TRUE(connecting.ok()) << connecting.status();
    *device = Accept("CONNECT 1234\n");
    return *std::move(connecting);
  }

  const TemporaryDirectory dir_;
  const std::string path_ = dir_.path() + "/vm";
  std::unique_ptr<Transport> transport_;
  UniqueFd stream_, seqpacket_;
};

INSTANTIATE_TEST_SUITE_P(Types, UdsTest,
                         testing::Values(SocketType::kStream, SocketType::kSeqpacket),
                         [](const auto& info) {
                           return info.param == SocketType::kStream ? "stream" : "seqpacket";
                         });

TEST_P(UdsTest, ConnectsWithWhateverPortTheAnswerNames) {
  Serve();
  for (const char* answer : {"OK 1234\n", "OK 1073741824\n"}) {
    auto connecting = Connect({3, 1234});
    ASSERT_TRUE(connecting.ok()) << connecting.status();
    EXPECT_FALSE(IsReady(**connecting));
    EXPECT_EQ(ErrnoOf((*connecting)->Complete().status()), EAGAIN);
    const UniqueFd device = Accept("CONNECT 1234\n");
    Write(device.get(), answer);
    EXPECT_TRUE(IsReady(**connecting));
    const absl::StatusOr<Socket> socket = (*connecting)->Complete();
    ASSERT_TRUE(socket.ok()) << socket.status();
    EXPECT_EQ(socket->local(), (Address{kCidHost, kPortAny}));
    EXPECT_EQ(socket->peer(), (Address{3, 1234}));
    EXPECT_EQ(fcntl(socket->fd(), F_GETFL) & O_NONBLOCK, 0);
    Write(socket->fd(), "there");
    EXPECT_EQ(Read(device.get()), "there");
    Write(device.get(), "back");
    EXPECT_EQ(Read(socket->fd()), "back");
  }
}

TEST_P(UdsTest, WhatComesBehindTheAnswerIsTheProgramsOwn) {
  UniqueFd device;
  const auto connecting = Asking(&device);
  if (GetParam() == SocketType::kStream) {
    Write(device.get(), "OK 1234\nhello\nOK 5\n");
  } else {
    Write(device.get(), "OK 1234\n");
    Write(device.get(), "hello\nOK 5\n");
  }
  const absl::StatusOr<Socket> socket = Await(*connecting);
  ASSERT_TRUE(socket.ok()) << socket.status();
  EXPECT_EQ(Read(socket->fd()), "hello\nOK 5\n");
}

TEST_P(UdsTest, RefusalIsAnEndOfFile) {
  UniqueFd device;
  const auto connecting = Asking(&device);
  device.reset();
  EXPECT_EQ(ErrnoOf(Await(*connecting).status()), ECONNRESET);
}

TEST_P(UdsTest, RefusalWithTheLineUnread) {
  Serve();
  const auto connecting = Connect({3, 1234});
  ASSERT_TRUE(connecting.ok()) << connecting.status();
  stream_.reset();
  seqpacket_.reset();
  EXPECT_EQ(ErrnoOf(Await(**connecting).status()), ECONNRESET);
}

TEST_P(UdsTest, OtherAnswersAreErrors) {
  Serve();
  for (const std::string& answer : {std::string("HTTP/1.0 400\n"), std::string("\n"),
                                    std::string("OKAY 1234\n"), std::string(100, 'x')}) {
    const auto connecting = Connect({3, 1234});
    ASSERT_TRUE(connecting.ok()) << connecting.status();
    const UniqueFd device = Accept("CONNECT 1234\n");
    Write(device.get(), answer);
    EXPECT_EQ(ErrnoOf(Await(**connecting).status()), EPROTO) << answer;
  }
}

TEST_P(UdsTest, NoAnswerIsATimeout) {
  Serve();
  const auto connecting = Connect({3, 1234}, {.timeout = absl::Milliseconds(20)});
  ASSERT_TRUE(connecting.ok()) << connecting.status();
  EXPECT_EQ(ErrnoOf((*connecting)->Complete().status()), EAGAIN);
  EXPECT_TRUE(IsReady(**connecting, absl::Seconds(60)));
  EXPECT_EQ(ErrnoOf((*connecting)->Complete().status()), ETIMEDOUT);
}

TEST_P(UdsTest, FullBacklogIsWaitedFor) {
  Serve(/*backlog=*/0);  // AF_UNIX holds one more
  const auto first = Connect({3, 1});
  ASSERT_TRUE(first.ok()) << first.status();
  const auto impatient = Connect({3, 2}, {.timeout = absl::Milliseconds(20)});
  ASSERT_TRUE(impatient.ok()) << impatient.status();
  const auto patient = Connect({3, 3});
  ASSERT_TRUE(patient.ok()) << patient.status();
  EXPECT_EQ(ErrnoOf(Await(**impatient).status()), ETIMEDOUT);
  EXPECT_EQ(ErrnoOf((*patient)->Complete().status()), EAGAIN);
  Accept("CONNECT 1\n");
  // Its turn comes by a timer, and brings it into the backlog.
  EXPECT_TRUE(IsReady(**patient, absl::Seconds(60)));
  EXPECT_EQ(ErrnoOf((*patient)->Complete().status()), EAGAIN);
  const UniqueFd device = Accept("CONNECT 3\n");
  Write(device.get(), "OK 3\n");
  EXPECT_TRUE(Await(**patient).ok());
}

TEST_P(UdsTest, AttemptIsGivenUp) {
  UniqueFd device;
  auto connecting = Asking(&device);
  connecting.reset();
  EXPECT_EQ(Read(device.get()), "");
}

TEST_P(UdsTest, OnlyTheGuestIsThere) {
  Serve();
  for (const uint32_t cid : {kCidHypervisor, kCidLocal, kCidHost}) {
    EXPECT_EQ(ErrnoOf(Connect({cid, 1234}).status()), ENODEV);
  }
  for (const uint32_t cid : {3u, 4242u, kCidAny}) {
    const auto connecting = Connect({cid, 1234});
    ASSERT_TRUE(connecting.ok()) << connecting.status();
    Accept("CONNECT 1234\n");
  }
}

TEST_P(UdsTest, OwnPortCannotBeChosen) {
  Serve();
  EXPECT_EQ(ErrnoOf(Connect({3, 1234}, {.local_port = 5000}).status()), EADDRNOTAVAIL);
}

TEST_P(UdsTest, NoDevice) {
  EXPECT_EQ(ErrnoOf(Connect({3, 1234}).status()), ENODEV);
  Serve();
  stream_.reset();
  seqpacket_.reset();
  // Its files are left.
  EXPECT_EQ(ErrnoOf(Connect({3, 1234}).status()), ENODEV);
}

TEST_P(UdsTest, GuestComesToAListener) {
  Serve();
  const auto listener = transport_->Listen(5000, GetParam(), {});
  ASSERT_TRUE(listener.ok()) << listener.status();
  EXPECT_EQ((*listener)->local(), (Address{kCidHost, 5000}));
  EXPECT_EQ(ErrnoOf((*listener)->Accept().status()), EAGAIN);
  const UniqueFd device = *ConnectUnix(path_ + "_5000", type());
  const absl::StatusOr<Socket> socket = (*listener)->Accept();
  ASSERT_TRUE(socket.ok()) << socket.status();
  EXPECT_EQ(socket->peer(), (Address{kCidAny, kPortAny}));
  Write(device.get(), "hello");
  EXPECT_EQ(Read(socket->fd()), "hello");
}

TEST_P(UdsTest, ListenerLeavesNothing) {
  Serve();
  uint32_t port;
  {
    const auto listener = transport_->Listen(kPortAny, GetParam(), {});
    ASSERT_TRUE(listener.ok()) << listener.status();
    port = (*listener)->local().port;
    EXPECT_GE(port, 1024u);
    EXPECT_TRUE(std::filesystem::exists(absl::StrCat(path_, "_", port)));
  }
  EXPECT_FALSE(std::filesystem::exists(absl::StrCat(path_, "_", port)));
  EXPECT_FALSE(std::filesystem::exists(absl::StrCat(path_, "_", port, ".lock")));
}

TEST_P(UdsTest, PortIsOneForBothTypesAndForOtherPrograms) {
  Serve();
  const auto listener = transport_->Listen(5000, GetParam(), {});
  ASSERT_TRUE(listener.ok()) << listener.status();
  const UniqueFd stranger = ListenUnix(path_ + "_5001", SOCK_STREAM);
  for (const uint32_t port : {5000, 5001}) {
    for (const SocketType other : {SocketType::kStream, SocketType::kSeqpacket}) {
      EXPECT_EQ(ErrnoOf(transport_->Listen(port, other, {}).status()), EADDRINUSE);
    }
  }
  // What a dead one left is in nobody's way.
  ListenUnix(path_ + "_5002", SOCK_STREAM).reset();
  EXPECT_TRUE(transport_->Listen(5002, GetParam(), {}).ok());
}

TEST_P(UdsTest, FinishTellsTheEnd) {
  UniqueFd device;
  const auto connecting = Asking(&device);
  Write(device.get(), "OK 1234\n");
  absl::StatusOr<Socket> socket = Await(*connecting);
  ASSERT_TRUE(socket.ok()) << socket.status();
  EXPECT_EQ(ErrnoOf(socket->Finish(absl::Now())), ETIMEDOUT);
  EXPECT_EQ(Read(device.get()), "");
  device.reset();
  EXPECT_TRUE(socket->Finish(absl::InfiniteFuture()).ok());
}

class StreamUdsTest : public UdsTest {};
INSTANTIATE_TEST_SUITE_P(Types, StreamUdsTest, testing::Values(SocketType::kStream));

TEST_P(StreamUdsTest, AnswerComesInParts) {
  UniqueFd device;
  const auto connecting = Asking(&device);
  for (const char* part : {"O", "K 12", "34"}) {
    Write(device.get(), part);
    EXPECT_TRUE(IsReady(*connecting));
    EXPECT_EQ(ErrnoOf(connecting->Complete().status()), EAGAIN);
    EXPECT_FALSE(IsReady(*connecting)) << "it would be asked again and again";
  }
  Write(device.get(), "\nhello");
  const absl::StatusOr<Socket> socket = Await(*connecting);
  ASSERT_TRUE(socket.ok()) << socket.status();
  EXPECT_EQ(Read(socket->fd()), "hello");
}

TEST_P(StreamUdsTest, DeviceWithoutSeqpacket) {
  EXPECT_FALSE(transport_->capabilities().seqpacket);
  stream_ = ListenUnix(path_, SOCK_STREAM);
  EXPECT_FALSE(transport_->capabilities().seqpacket);
  const SocketType type = SocketType::kSeqpacket;
  EXPECT_EQ(ErrnoOf(transport_->Connect({3, 1234}, type, {}).status()), ESOCKTNOSUPPORT);
  EXPECT_EQ(ErrnoOf(transport_->Listen(5000, type, {}).status()), ESOCKTNOSUPPORT);
  seqpacket_ = ListenUnix(path_ + "_seqpacket", SOCK_SEQPACKET);
  EXPECT_TRUE(transport_->capabilities().seqpacket);
}

class SeqpacketUdsTest : public UdsTest {};
INSTANTIATE_TEST_SUITE_P(Types, SeqpacketUdsTest, testing::Values(SocketType::kSeqpacket));

TEST_P(SeqpacketUdsTest, AnswerIsOneMessage) {
  Serve();
  for (const char* answer : {"OK 12", "OK 1234\nhello", "OK 1\nOK 2\n"}) {
    const auto connecting = Connect({3, 1234});
    ASSERT_TRUE(connecting.ok()) << connecting.status();
    const UniqueFd device = Accept("CONNECT 1234\n");
    Write(device.get(), answer);
    EXPECT_EQ(ErrnoOf(Await(**connecting).status()), EPROTO) << answer;
  }
}

TEST(OpenUdsTest, RefusesWhatIsNoPath) {
  for (const std::string& uri : {std::string("uds:"), std::string("loopback:/x"),
                                 absl::StrCat("uds:/", std::string(107, 'x'))}) {
    EXPECT_EQ(ErrnoOf(OpenUds(uri).status()), EINVAL) << uri;
  }
}

}  // namespace
}  // namespace argosy
