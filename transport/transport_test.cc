// SPDX-License-Identifier: Apache-2.0
#include "transport/transport.h"

#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cerrno>
#include <memory>
#include <utility>

#include "gtest/gtest.h"
#include "transport/error.h"

namespace argosy {
namespace {

// Answers from a list, and checks that the write side was shut down first.
class ScriptedEnding : public Socket::Ending {
 public:
  ScriptedEnding(int peer, int* calls) : peer_(peer), calls_(calls) {}
  absl::Status Wait(int, absl::Time) override {
    char c;
    EXPECT_EQ(recv(peer_, &c, 1, MSG_DONTWAIT), 0) << "the peer sees no end-of-file";
    constexpr int kScript[] = {ETIMEDOUT, EMFILE, ECONNRESET};
    return ErrnoError(kScript[(*calls_)++], "scripted");
  }

 private:
  const int peer_;
  int* const calls_;
};

TEST(SocketTest, FinishRepeatsTheFinalAnswerOnly) {
  int fds[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
  const UniqueFd peer(fds[1]);
  int calls = 0;
  Socket socket(UniqueFd(fds[0]), {1, 2}, {3, 4}, SocketType::kStream,
                std::make_unique<ScriptedEnding>(peer.get(), &calls));
  EXPECT_EQ(ErrnoOf(socket.Finish(absl::Now())), ETIMEDOUT);
  EXPECT_EQ(ErrnoOf(socket.Finish(absl::Now())), EMFILE);
  EXPECT_EQ(ErrnoOf(socket.Finish(absl::Now())), ECONNRESET);
  EXPECT_EQ(ErrnoOf(socket.Finish(absl::Now())), ECONNRESET);
  EXPECT_EQ(calls, 3);
}

TEST(SocketTest, ReleaseGivesTheDescriptorAway) {
  int fds[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
  const UniqueFd peer(fds[1]);
  int calls = 0;
  Socket socket(UniqueFd(fds[0]), {1, 2}, {3, 4}, SocketType::kStream,
                std::make_unique<ScriptedEnding>(peer.get(), &calls));
  const UniqueFd fd = std::move(socket).Release();
  EXPECT_EQ(fd.get(), fds[0]);
  EXPECT_EQ(write(fd.get(), "x", 1), 1);
  EXPECT_EQ(ErrnoOf(socket.Finish(absl::Now())), EINVAL);
}

// Never has a connection; its descriptor never becomes ready.
class SilentListener : public Listener {
 public:
  SilentListener() : fd_(eventfd(0, EFD_CLOEXEC)) {}
  int fd() const override { return fd_.get(); }
  Address local() const override { return {1, 1}; }
  absl::StatusOr<Socket> Accept() override { return ErrnoError(EAGAIN, "none waits"); }

 private:
  UniqueFd fd_;
};

TEST(AcceptBlockingTest, EndsAtTheDeadline) {
  SilentListener listener;
  const auto socket = AcceptBlocking(listener, absl::Now() + absl::Milliseconds(5));
  EXPECT_EQ(ErrnoOf(socket.status()), ETIMEDOUT);
}

}  // namespace
}  // namespace argosy
