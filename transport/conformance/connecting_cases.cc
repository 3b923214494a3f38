// SPDX-License-Identifier: Apache-2.0
// Connecting, listening, ports and addresses.
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <thread>
#include <vector>

#include "transport/conformance/fixture.h"

namespace argosy::conformance {
namespace {

// A CID that is nobody's.
constexpr uint32_t kAbsentCid = 4242;

bool Blocks(int fd) { return (fcntl(fd, F_GETFL) & O_NONBLOCK) == 0; }
bool ClosesOnExec(int fd) { return (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0; }

TEST_P(ConnectionTest, BothEndsKnowBothAddresses) {
  NEEDS(knows_both_addresses);
  for (const Opener opener : {Opener::kNear, Opener::kFar}) {
    ASSERT_OK_AND_ASSIGN(const Pair pair, Connected(opener));
    EXPECT_EQ(pair.near.peer().cid, far().cid());
    EXPECT_EQ(pair.near.peer().port, pair.far.local.port);
    EXPECT_EQ(pair.far.peer, (Address{near_cid(), pair.near.local().port}));
    EXPECT_EQ(pair.near.type(), type());
    EXPECT_EQ(pair.far.type, type());
  }
}

TEST_P(ConnectionTest, DescriptorsBlockAndCloseOnExec) {
  for (const Opener opener : {Opener::kNear, Opener::kFar}) {
    ASSERT_OK_AND_ASSIGN(const Pair pair, Connected(opener));
    EXPECT_TRUE(Blocks(pair.near.fd()));
    EXPECT_TRUE(ClosesOnExec(pair.near.fd()));
    EXPECT_TRUE(pair.far.blocks);
    EXPECT_TRUE(pair.far.close_on_exec);
  }
}

TEST_P(ConnectionTest, DataSentBeforeAcceptIsThereAfterIt) {
  ASSERT_OK_AND_ASSIGN(const FarListener listener, far().Listen(type()));
  ASSERT_OK_AND_ASSIGN(const Socket socket, Connect(listener, type()));
  ASSERT_TRUE(SendAll(socket, "early"));
  ASSERT_OK_AND_ASSIGN(const FarSocket accepted, far().Accept(listener));
  EXPECT_EQ(far().ReadSome(accepted), "early");
}

TEST_P(ConnectionTest, ConnectingIsPollable) {
  ASSERT_OK_AND_ASSIGN(const FarListener listener, far().Listen(type()));
  ASSERT_OK_AND_ASSIGN(const uint32_t nobody, FreeFarPort());
  for (const uint32_t port : {listener.port, nobody}) {
    ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Connecting> connecting,
                         near().Connect({far().cid(), port}, type(), {}));
    absl::StatusOr<Socket> socket = ErrnoError(EAGAIN, "");
    while (ErrnoOf(socket.status()) == EAGAIN) {
      ASSERT_NE(PollFor(connecting->fd(), connecting->events()), 0);
      socket = connecting->Complete();
    }
    EXPECT_ERRNO(socket, port == listener.port ? 0 : ECONNRESET);
  }
}

TEST_P(ConnectionTest, NobodyListens) {
  ASSERT_OK_AND_ASSIGN(const uint32_t port, FreeFarPort());
  EXPECT_ERRNO(Connect({.port = port}, type()), ECONNRESET);
}

TEST_P(SeqpacketTest, ListenerOfTheOtherTypeRefuses) {
  for (const SocketType type : {SocketType::kStream, SocketType::kSeqpacket}) {
    ASSERT_OK_AND_ASSIGN(const FarListener listener, far().Listen(type));
    EXPECT_ERRNO(Connect(listener, type == SocketType::kStream ? SocketType::kSeqpacket
                                                               : SocketType::kStream),
                 ECONNRESET);
  }
}

TEST_P(ConnectionTest, OwnCidAndCidLocalAreThisMachine) {
  NEEDS(reaches_itself);
  for (const uint32_t cid : {near_cid(), kCidLocal}) {
    ASSERT_OK_AND_ASSIGN(const auto listener, near().Listen(kPortAny, type(), {}));
    EXPECT_EQ(listener->local().cid, near_cid());
    ASSERT_OK_AND_ASSIGN(const Socket socket,
                         ConnectBlocking(near(), {cid, listener->local().port}, type()));
    ASSERT_OK_AND_ASSIGN(const Socket accepted, AcceptBlocking(*listener, Patience()));
    ASSERT_TRUE(SendAll(socket, "to myself"));
    EXPECT_EQ(ReadSome(accepted), "to myself");
  }
}

// CIDs that are no machine's: "any" is for binding alone, and nobody is the hypervisor's.  A guest's
// transport to its host sends even these there.
TEST_P(ConnectionTest, NobodyIsAtCidAnyOrCidHypervisor) {
  NEEDS(knows_cids);
  for (const uint32_t cid : {kCidAny, kCidHypervisor}) {
    EXPECT_ERRNO(ConnectBlocking(near(), {cid, 1234}, type()), ENODEV);
  }
}

TEST_P(ConnectionTest, UnknownCid) {
  NEEDS(knows_cids);
  EXPECT_ERRNO(ConnectBlocking(near(), {kAbsentCid, 1234}, type()), ENODEV);
}

TEST_P(SeqpacketTest, PortIsTakenForBothTypes) {
  for (const SocketType type : {SocketType::kStream, SocketType::kSeqpacket}) {
    ASSERT_OK_AND_ASSIGN(const auto listener, near().Listen(kPortAny, type, {}));
    const uint32_t port = listener->local().port;
    EXPECT_ERRNO(near().Listen(port, SocketType::kStream, {}), EADDRINUSE);
    EXPECT_ERRNO(near().Listen(port, SocketType::kSeqpacket, {}), EADDRINUSE);
  }
}

TEST_P(ConnectionTest, PortIsTaken) {
  ASSERT_OK_AND_ASSIGN(const auto listener, near().Listen(kPortAny, type(), {}));
  EXPECT_ERRNO(near().Listen(listener->local().port, type(), {}), EADDRINUSE);
}

TEST_P(ConnectionTest, PortIsFreeAgainAfterClose) {
  ASSERT_OK_AND_ASSIGN(const uint32_t port, FreePort());
  ASSERT_OK_AND_ASSIGN(const auto again, near().Listen(port, type(), {}));
  EXPECT_EQ(again->local().port, port);
  EXPECT_OK(far().Connect({near_cid(), port}, type()));
}

TEST_P(TransportTest, ChosenPortsDiffer) {
  ASSERT_OK_AND_ASSIGN(const auto a, near().Listen(kPortAny, SocketType::kStream, {}));
  ASSERT_OK_AND_ASSIGN(const auto b, near().Listen(kPortAny, SocketType::kStream, {}));
  EXPECT_NE(a->local().port, b->local().port);
  EXPECT_GE(a->local().port, 1024u);
  EXPECT_NE(a->local().port, kPortAny);
}

TEST_P(ConnectionTest, ConnectsFromAGivenPort) {
  NEEDS(knows_both_addresses);
  ASSERT_OK_AND_ASSIGN(const FarListener listener, far().Listen(type()));
  ASSERT_OK_AND_ASSIGN(const uint32_t port, FreePort());
  ASSERT_OK_AND_ASSIGN(const Socket socket, Connect(listener, type(), {.local_port = port}));
  EXPECT_EQ(socket.local().port, port);
  ASSERT_OK_AND_ASSIGN(const FarSocket accepted, far().Accept(listener));
  EXPECT_EQ(accepted.peer.port, port);
  EXPECT_ERRNO(Connect(listener, type(), {.local_port = port}), EADDRINUSE);
}

TEST_P(ConnectionTest, BothConnectAtOnce) {
  ASSERT_OK_AND_ASSIGN(const FarListener there, far().Listen(type()));
  ASSERT_OK_AND_ASSIGN(const auto here, near().Listen(kPortAny, type(), {}));
  for (int i = 0; i < 20; ++i) {
    auto far_connects = far().StartConnect({near_cid(), here->local().port}, type());
    ASSERT_OK_AND_ASSIGN(const Socket mine, Connect(there, type()));
    ASSERT_OK_AND_ASSIGN(const FarSocket accepted_there, far().Accept(there));
    ASSERT_OK_AND_ASSIGN(const Socket accepted_here, AcceptBlocking(*here, Patience()));
    ASSERT_OK_AND_ASSIGN(const FarSocket theirs, far_connects.Get());
    ASSERT_TRUE(SendAll(mine, "mine"));
    ASSERT_OK(far().Send(theirs, "theirs"));
    EXPECT_EQ(far().ReadSome(accepted_there), "mine");
    EXPECT_EQ(ReadSome(accepted_here), "theirs");
  }
}

TEST_P(ConnectionTest, AcceptNeverBlocks) {
  ASSERT_OK_AND_ASSIGN(const auto listener, near().Listen(kPortAny, type(), {}));
  EXPECT_ERRNO(listener->Accept(), EAGAIN);
}

TEST_P(ConnectionTest, AcceptIsPollable) {
  ASSERT_OK_AND_ASSIGN(const auto listener, near().Listen(kPortAny, type(), {}));
  EXPECT_EQ(PollFor(listener->fd(), POLLIN, absl::ZeroDuration()), 0);
  ASSERT_OK(far().Connect({near_cid(), listener->local().port}, type()));
  EXPECT_EQ(PollFor(listener->fd(), POLLIN), POLLIN);
  EXPECT_OK(listener->Accept());
  EXPECT_ERRNO(listener->Accept(), EAGAIN);
  EXPECT_EQ(PollFor(listener->fd(), POLLIN, absl::ZeroDuration()), 0);
}

TEST_P(ConnectionTest, AcceptEndsAtItsDeadline) {
  ASSERT_OK_AND_ASSIGN(const auto listener, near().Listen(kPortAny, type(), {}));
  EXPECT_ERRNO(AcceptBlocking(*listener, absl::Now() + absl::Milliseconds(10)), ETIMEDOUT);
}

TEST_P(ConnectionTest, BacklogHoldsWhatItPromises) {
  constexpr int kBacklog = 10;
  ASSERT_OK_AND_ASSIGN(const FarListener listener, far().Listen(type(), kPortAny, kBacklog));
  std::vector<Socket> waiting;
  for (int i = 0; i < kBacklog; ++i) {
    ASSERT_OK_AND_ASSIGN(Socket socket, Connect(listener, type()));
    waiting.push_back(std::move(socket));
  }
  for (int i = 0; i < kBacklog; ++i) {
    ASSERT_OK_AND_ASSIGN(const FarSocket accepted, far().Accept(listener));
    if (capabilities().knows_both_addresses) {
      EXPECT_EQ(accepted.peer.port, waiting[i].local().port) << "not in order";
    }
  }
}

TEST_P(ConnectionTest, FullBacklogRefuses) {
  ASSERT_OK_AND_ASSIGN(const FarListener listener, far().Listen(type(), kPortAny, 1));
  std::vector<Socket> waiting;
  absl::Status refused;
  while (refused.ok() && waiting.size() < 16) {
    absl::StatusOr<Socket> socket = Connect(listener, type());
    refused = socket.status();
    if (socket.ok()) waiting.push_back(*std::move(socket));
  }
  EXPECT_ERRNO(refused, ECONNRESET);
  EXPECT_GE(waiting.size(), 1u);
  // Accepting makes room.
  EXPECT_OK(far().Accept(listener));
  EXPECT_OK(Connect(listener, type()));
}

TEST_P(TransportTest, LowPortNeedsPrivilege) {
  NEEDS(port_privilege_by_thread);
  ASSERT_OK_AND_ASSIGN(const FarListener listener, far().Listen(SocketType::kStream));
  // This thread goes without the capability.
  std::thread([&] {
    __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
    ASSERT_EQ(syscall(SYS_capget, &header, data), 0);
    data[CAP_TO_INDEX(CAP_NET_BIND_SERVICE)].effective &= ~CAP_TO_MASK(CAP_NET_BIND_SERVICE);
    ASSERT_EQ(syscall(SYS_capset, &header, data), 0);
    EXPECT_ERRNO(near().Listen(1023, SocketType::kStream, {}), EACCES);
    EXPECT_ERRNO(Connect(listener, SocketType::kStream, {.local_port = 1023}), EACCES);
  }).join();
}

TEST_P(ConnectionTest, NothingOpensWithoutDescriptors) {
  ASSERT_OK_AND_ASSIGN(const FarListener listener, far().Listen(type()));
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit none = {0, limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const absl::Status listening = near().Listen(kPortAny, type(), {}).status();
  const absl::Status connecting = Connect(listener, type()).status();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_ERRNO(listening, EMFILE);
  EXPECT_ERRNO(connecting, EMFILE);
  EXPECT_OK(Connect(listener, type()));
}

TEST_P(TransportTest, SeqpacketIsThereOrRefused) {
  EXPECT_ERRNO(near().Listen(kPortAny, SocketType::kSeqpacket, {}),
               capabilities().seqpacket ? 0 : ESOCKTNOSUPPORT);
}

TEST_P(TransportTest, ResolvesCidsAndNoUnknownNames) {
  ASSERT_OK_AND_ASSIGN(const uint32_t local, near().Resolve("local"));
  EXPECT_EQ(local, kCidLocal);
  ASSERT_OK_AND_ASSIGN(const uint32_t number, near().Resolve("77"));
  EXPECT_EQ(number, 77u);
  EXPECT_ERRNO(near().Resolve("no-such-machine"), ENODEV);
}

}  // namespace
}  // namespace argosy::conformance
