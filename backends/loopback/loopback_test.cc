// SPDX-License-Identifier: Apache-2.0
// What is loopback's own: its directory, stale files, strangers.  What every transport does:
// conformance_test.cc.
#include "backends/loopback/loopback.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <string>

#include "gtest/gtest.h"
#include "transport/error.h"
#include "transport/testing/temporary_directory.h"
#include "transport/unix_socket.h"

namespace argosy {
namespace {

class LoopbackTest : public testing::Test {
 protected:
  std::unique_ptr<Transport> Open() {
    absl::StatusOr<std::unique_ptr<Transport>> transport = OpenLoopback("loopback:" + dir_.path());
    EXPECT_TRUE(transport.ok()) << transport.status();
    return *std::move(transport);
  }
  // Names in the directory, without the file of locks.
  int SocketFiles() {
    int n = 0;
    for (const auto& entry : std::filesystem::directory_iterator(dir_.path())) {
      n += entry.path().filename() != "ports";
    }
    return n;
  }

  TemporaryDirectory dir_;
};

TEST_F(LoopbackTest, MakesAPrivateDirectory) {
  const std::string path = dir_.path() + "/new";
  ASSERT_TRUE(OpenLoopback("loopback:" + path).ok());
  struct stat st;
  ASSERT_EQ(stat(path.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0700u);
}

TEST_F(LoopbackTest, DefaultsToTheRuntimeDirectory) {
  ASSERT_EQ(setenv("XDG_RUNTIME_DIR", dir_.path().c_str(), 1), 0);
  ASSERT_TRUE(OpenLoopback("loopback:").ok());
  EXPECT_TRUE(std::filesystem::is_directory(dir_.path() + "/argosy"));
  unsetenv("XDG_RUNTIME_DIR");
}

TEST_F(LoopbackTest, RefusesADirectoryOthersMayEnter) {
  ASSERT_EQ(chmod(dir_.path().c_str(), 0755), 0);
  EXPECT_EQ(ErrnoOf(OpenLoopback("loopback:" + dir_.path()).status()), EACCES);
}

TEST_F(LoopbackTest, RefusesASymbolicLink) {
  const std::string link = dir_.path() + "/link";
  ASSERT_EQ(mkdir((dir_.path() + "/real").c_str(), 0700), 0);
  ASSERT_EQ(symlink("real", link.c_str()), 0);
  EXPECT_EQ(ErrnoOf(OpenLoopback("loopback:" + link).status()), EACCES);
  EXPECT_EQ(ErrnoOf(OpenLoopback("loopback:" + link + "/").status()), EACCES);
}

TEST_F(LoopbackTest, RefusesWhatCannotWork) {
  EXPECT_EQ(ErrnoOf(OpenLoopback("loopback:" + dir_.path() + "/" + std::string(80, 'x')).status()),
            EINVAL);
  EXPECT_EQ(ErrnoOf(OpenLoopback("loopback:" + dir_.path() + "/no/such").status()), ENOENT);
  EXPECT_EQ(ErrnoOf(OpenLoopback("kernel:").status()), EINVAL);
}

TEST_F(LoopbackTest, LeavesNoSocketFiles) {
  const std::unique_ptr<Transport> t = Open();
  {
    auto listener = t->Listen(kPortAny, SocketType::kStream, {});
    ASSERT_TRUE(listener.ok());
    EXPECT_EQ(SocketFiles(), 1);
    auto socket = ConnectBlocking(*t, {kCidLocal, (*listener)->local().port}, SocketType::kStream);
    ASSERT_TRUE(socket.ok());
    EXPECT_EQ(SocketFiles(), 1) << "the connected socket's name has served";
    EXPECT_FALSE(ConnectBlocking(*t, {kCidLocal, 1}, SocketType::kStream).ok());
    EXPECT_TRUE(t->BindDatagram(kPortAny).ok());
    EXPECT_EQ(SocketFiles(), 1);
  }
  EXPECT_EQ(SocketFiles(), 0);
}

TEST_F(LoopbackTest, PortOfAKilledListenerIsFree) {
  constexpr uint32_t kPort = 4000;
  int ready[2];
  ASSERT_EQ(pipe2(ready, O_CLOEXEC), 0);
  const UniqueFd read_end(ready[0]);
  UniqueFd write_end(ready[1]);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto t = OpenLoopback("loopback:" + dir_.path());
    auto listener = (*t)->Listen(kPort, SocketType::kStream, {});
    if (listener.ok() && write(write_end.get(), "x", 1) == 1) pause();
    _exit(1);
  }
  write_end.reset();
  char byte;
  ASSERT_EQ(read(read_end.get(), &byte, 1), 1) << "the child cannot listen";
  const std::unique_ptr<Transport> t = Open();
  EXPECT_EQ(ErrnoOf(t->Listen(kPort, SocketType::kStream, {}).status()), EADDRINUSE);

  ASSERT_EQ(kill(child, SIGKILL), 0);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  EXPECT_EQ(SocketFiles(), 1) << "it could not clean up";
  EXPECT_EQ(ErrnoOf(ConnectBlocking(*t, {kCidLocal, kPort}, SocketType::kStream).status()),
            ECONNRESET);
  EXPECT_TRUE(t->Listen(kPort, SocketType::kStream, {}).ok());
}

TEST_F(LoopbackTest, NoPortIsLeft) {
  auto t = Open();
  ASSERT_TRUE(t->Listen(4000, SocketType::kStream, {}).ok());  // makes the file of locks
  // Somebody has every port.
  const UniqueFd ports(open((dir_.path() + "/ports").c_str(), O_RDWR | O_CLOEXEC));
  struct flock all = {};
  all.l_type = F_WRLCK;
  all.l_whence = SEEK_SET;
  ASSERT_EQ(fcntl(ports.get(), F_OFD_SETLK, &all), 0) << strerror(errno);
  EXPECT_EQ(ErrnoOf(t->Listen(kPortAny, SocketType::kStream, {}).status()), EADDRNOTAVAIL);
  EXPECT_EQ(ErrnoOf(t->BindDatagram(kPortAny).status()), EADDRNOTAVAIL);
  const auto connecting = t->Connect({kCidLocal, 4001}, SocketType::kStream, {});
  EXPECT_EQ(ErrnoOf(connecting.status()), EADDRNOTAVAIL);
}

// A program that is not ours has no address; it is turned away and holds nobody up.
TEST_F(LoopbackTest, StrangersAreTurnedAway) {
  const std::unique_ptr<Transport> t = Open();
  auto listener = t->Listen(5000, SocketType::kStream, {});
  ASSERT_TRUE(listener.ok());
  const UniqueFd stranger = ConnectUnix(dir_.path() + "/conn-5000", SOCK_STREAM).value();
  auto friendly = ConnectBlocking(*t, {kCidLocal, 5000}, SocketType::kStream);
  ASSERT_TRUE(friendly.ok());

  const auto accepted = AcceptBlocking(**listener, absl::Now() + absl::Seconds(60));
  ASSERT_TRUE(accepted.ok()) << accepted.status();
  EXPECT_EQ(accepted->peer().port, friendly->local().port);
  char byte;
  EXPECT_EQ(read(stranger.get(), &byte, 1), 0);
}

}  // namespace
}  // namespace argosy
