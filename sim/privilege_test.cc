// SPDX-License-Identifier: Apache-2.0
// Ports below 1024 are root's: the daemon goes by the user that a program runs as.
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "gtest/gtest.h"
#include "sim/testing/bystander.h"
#include "transport/error.h"

namespace argosy::sim {
namespace {

// Takes root's user away from this thread, but not root's way through folders.
class AsNobody {
 public:
  AsNobody() : root_(geteuid() == 0) {
    if (!root_) return;
    EXPECT_EQ(syscall(SYS_setresuid, -1, 65534, -1), 0) << strerror(errno);
    setfsuid(0);
  }
  ~AsNobody() {
    if (!root_) return;
    EXPECT_EQ(syscall(SYS_setresuid, -1, 0, -1), 0) << strerror(errno);
  }

 private:
  const bool root_;
};

TEST(PrivilegeTest, LowPortNeedsRoot) {
  auto daemon = Start();
  absl::Status listening, connecting, datagram;
  {
    const AsNobody nobody;
    auto dom0 = Join(*daemon, "dom0");
    listening = dom0->Listen(1023, SocketType::kStream, {}).status();
    connecting =
        ConnectBlocking(*dom0, {3, 5000}, SocketType::kStream, {.local_port = 1023}).status();
    datagram = dom0->BindDatagram(1023).status();
    EXPECT_TRUE(dom0->Listen(1024, SocketType::kStream, {}).ok());
  }
  EXPECT_EQ(ErrnoOf(listening), EACCES);
  EXPECT_EQ(ErrnoOf(connecting), EACCES);
  EXPECT_EQ(ErrnoOf(datagram), EACCES);
  if (geteuid() == 0) {
    EXPECT_TRUE(Join(*daemon, "dom0")->Listen(1023, SocketType::kStream, {}).ok());
  }
}

}  // namespace
}  // namespace argosy::sim
