// SPDX-License-Identifier: Apache-2.0
#include "transport/unix_socket.h"

#include <sys/socket.h>

#include <cerrno>
#include <string>

#include "gtest/gtest.h"
#include "transport/error.h"
#include "transport/testing/listen_unix.h"
#include "transport/testing/temporary_directory.h"
#include "transport/unique_fd.h"

namespace argosy {
namespace {

TEST(UnixSocketTest, APathHas1To107Characters) {
  EXPECT_EQ(ErrnoOf(UnixAddress("").status()), EINVAL);
  EXPECT_EQ(ErrnoOf(UnixAddress(std::string(108, 'x')).status()), EINVAL);
  const std::string longest(107, 'x');
  const absl::StatusOr<sockaddr_un> address = UnixAddress(longest);
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_EQ(address->sun_family, AF_UNIX);
  EXPECT_EQ(address->sun_path, longest);
}

TEST(UnixSocketTest, ConnectsToAListenerOfItsType) {
  const TemporaryDirectory dir;
  const std::string path = dir.path() + "/socket";
  EXPECT_EQ(ErrnoOf(ConnectUnix("", SOCK_STREAM).status()), EINVAL);
  EXPECT_EQ(ErrnoOf(ConnectUnix(path, SOCK_STREAM).status()), ENOENT);
  UniqueFd listener = ListenUnix(path, SOCK_SEQPACKET, 0);
  EXPECT_EQ(ErrnoOf(ConnectUnix(path, SOCK_STREAM).status()), EPROTOTYPE);
  const auto fd = ConnectUnix(path, SOCK_SEQPACKET | SOCK_NONBLOCK);
  ASSERT_TRUE(fd.ok()) << fd.status();
  // The backlog is full.
  EXPECT_EQ(ErrnoOf(ConnectUnix(path, SOCK_SEQPACKET | SOCK_NONBLOCK).status()), EAGAIN);
  listener.reset();
  EXPECT_EQ(ErrnoOf(ConnectUnix(path, SOCK_SEQPACKET).status()), ECONNREFUSED);
}

}  // namespace
}  // namespace argosy
