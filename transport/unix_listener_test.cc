// SPDX-License-Identifier: Apache-2.0
#include "transport/unix_listener.h"

#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string>

#include "gtest/gtest.h"
#include "transport/error.h"
#include "transport/testing/temporary_directory.h"
#include "transport/unix_socket.h"

namespace argosy {
namespace {

class UnixListenerTest : public testing::Test {
 protected:
  // A socket at the path that somebody bound who knows no locks.
  UniqueFd Bind(int type) {
    const sockaddr_un address = *UnixAddress(path_);
    UniqueFd fd(socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    EXPECT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    return fd;
  }
  absl::StatusOr<UnixListener> Create(int type = SOCK_STREAM) {
    return UnixListener::Create(path_, type, UnixListener::Folder::kExpect);
  }

  const TemporaryDirectory dir_;
  const std::string path_ = dir_.path() + "/socket";
};

TEST_F(UnixListenerTest, IsItsUsersAloneAndRemovesItself) {
  const mode_t before = umask(0);
  {
    const auto listener = Create();
    ASSERT_TRUE(listener.ok()) << listener.status();
    struct stat st;
    ASSERT_EQ(stat(path_.c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 0777, 0600u);
  }
  umask(before);
  EXPECT_TRUE(std::filesystem::is_empty(dir_.path()));
}

TEST_F(UnixListenerTest, AnotherOwnerOfTheLockIsInTheWay) {
  const auto first = Create();
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(ErrnoOf(Create().status()), EADDRINUSE);
  EXPECT_EQ(ErrnoOf(Create(SOCK_SEQPACKET).status()), EADDRINUSE);
}

TEST_F(UnixListenerTest, AProgramWithoutTheLockIsInTheWayAndNotDisturbed) {
  for (const int type : {SOCK_STREAM, SOCK_SEQPACKET}) {
    const UniqueFd theirs = Bind(type);
    ASSERT_EQ(listen(theirs.get(), 1), 0);
    EXPECT_EQ(ErrnoOf(Create().status()), EADDRINUSE);
    EXPECT_EQ(accept(theirs.get(), nullptr, nullptr), -1);
    EXPECT_EQ(errno, EAGAIN) << "somebody has connected";
    EXPECT_FALSE(std::filesystem::exists(path_ + ".lock"));
    unlink(path_.c_str());
  }
}

TEST_F(UnixListenerTest, WhatADeadProgramLeftIsReplaced) {
  Bind(SOCK_STREAM).reset();
  ASSERT_TRUE(std::filesystem::exists(path_));
  const auto listener = Create();
  EXPECT_TRUE(listener.ok()) << listener.status();
}

TEST_F(UnixListenerTest, AFileIsNoSocket) {
  std::ofstream(path_) << "mine";
  EXPECT_EQ(ErrnoOf(Create().status()), EEXIST);
  EXPECT_TRUE(std::filesystem::exists(path_));
}

}  // namespace
}  // namespace argosy
