// SPDX-License-Identifier: Apache-2.0
// Connecting, listening, ports and addresses.
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "transport/error.h"
#include "transport/testing/contract_tests.h"

namespace argosy {
namespace {

TEST_P(ContractTest, ConnectsAndKnowsBothAddresses) {
  for (SocketType type : Types()) {
    const std::unique_ptr<Listener> listener = Listen(type);
    ASSERT_NE(listener, nullptr);
    absl::StatusOr<Socket> client = Connect(listener->local().port, type);
    ASSERT_TRUE(client.ok()) << client.status();
    absl::StatusOr<Socket> server = AcceptBlocking(*listener, Far());
    ASSERT_TRUE(server.ok()) << server.status();

    EXPECT_EQ(client->peer(), (Address{server_cid(), listener->local().port}));
    EXPECT_EQ(server->peer().port, client->local().port);
    EXPECT_EQ(server->local().port, listener->local().port);
    EXPECT_EQ(client->type(), type);
    EXPECT_EQ(server->type(), type);
    for (int fd : {client->fd(), server->fd()}) {
      EXPECT_EQ(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
      EXPECT_NE(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    }
  }
}

TEST_P(ContractTest, ConnectingDoesNotWaitForAccept) {
  const std::unique_ptr<Listener> listener = Listen(SocketType::kStream);
  absl::StatusOr<Socket> client = Connect(listener->local().port, SocketType::kStream);
  ASSERT_TRUE(client.ok()) << client.status();
  // What was sent before accept() is there after it.
  ASSERT_TRUE(SendAll(client->fd(), "early", 5));
  absl::StatusOr<Socket> server = AcceptBlocking(*listener, Far());
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_EQ(ReadSome(server->fd()), "early");
}

TEST_P(ContractTest, ConnectingIsPollable) {
  const std::unique_ptr<Listener> listener = Listen(SocketType::kStream);
  for (uint32_t port : {listener->local().port, listener->local().port ^ 0x10000}) {
    auto connecting = client().Connect({server_cid(), port}, SocketType::kStream, {});
    ASSERT_TRUE(connecting.ok()) << connecting.status();
    absl::StatusOr<Socket> socket = ErrnoError(EAGAIN, "");
    while (ErrnoOf(socket.status()) == EAGAIN) {
      pollfd p = {(*connecting)->fd(), (*connecting)->events(), 0};
      ASSERT_EQ(poll(&p, 1, 60'000), 1);
      socket = (*connecting)->Complete();
    }
    EXPECT_EQ(ErrnoOf(socket.status()), port == listener->local().port ? 0 : ECONNRESET)
        << socket.status();
  }
}

TEST_P(ContractTest, NobodyListens) {
  for (SocketType type : Types()) {
    const uint32_t port = Listen(type)->local().port;  // closed again at once
    EXPECT_EQ(ErrnoOf(Connect(port, type).status()), ECONNRESET);
  }
}

TEST_P(ContractTest, ListenerOfAnotherTypeRefuses) {
  if (Types().size() < 2) GTEST_SKIP() << "one type only";
  const std::unique_ptr<Listener> listener = Listen(SocketType::kStream);
  EXPECT_EQ(ErrnoOf(Connect(listener->local().port, SocketType::kSeqpacket).status()), ECONNRESET);
}

TEST_P(ContractTest, UnknownCid) {
  const absl::StatusOr<Socket> socket =
      ConnectBlocking(client(), {GetParam().absent_cid, 1234}, SocketType::kStream);
  EXPECT_EQ(ErrnoOf(socket.status()), ENODEV) << socket.status();
}

TEST_P(ContractTest, PortIsTakenForAllTypes) {
  const std::unique_ptr<Listener> listener = Listen(SocketType::kStream);
  for (SocketType type : Types()) {
    EXPECT_EQ(ErrnoOf(server().Listen(listener->local().port, type, {}).status()), EADDRINUSE);
  }
}

TEST_P(ContractTest, PortIsFreeAgainAfterClose) {
  const uint32_t port = Listen(SocketType::kStream)->local().port;
  const std::unique_ptr<Listener> again = Listen(SocketType::kStream, port);
  ASSERT_NE(again, nullptr);
  EXPECT_EQ(again->local().port, port);
  EXPECT_TRUE(Connect(port, SocketType::kStream).ok());
}

TEST_P(ContractTest, ChosenPortsDiffer) {
  const std::unique_ptr<Listener> a = Listen(SocketType::kStream);
  const std::unique_ptr<Listener> b = Listen(SocketType::kStream);
  EXPECT_NE(a->local().port, b->local().port);
  EXPECT_GE(a->local().port, 1024u);
  EXPECT_NE(a->local().port, kPortAny);
}

TEST_P(ContractTest, ConnectsFromAGivenPort) {
  const std::unique_ptr<Listener> listener = Listen(SocketType::kStream);
  // A port that was free a moment ago.
  absl::StatusOr<std::unique_ptr<Listener>> probe =
      client().Listen(kPortAny, SocketType::kStream, {});
  ASSERT_TRUE(probe.ok()) << probe.status();
  const uint32_t port = (*probe)->local().port;
  probe->reset();

  const Address peer = {server_cid(), listener->local().port};
  absl::StatusOr<Socket> socket =
      ConnectBlocking(client(), peer, SocketType::kStream, {.local_port = port});
  ASSERT_TRUE(socket.ok()) << socket.status();
  EXPECT_EQ(socket->local().port, port);
  absl::StatusOr<Socket> accepted = AcceptBlocking(*listener, Far());
  ASSERT_TRUE(accepted.ok()) << accepted.status();
  EXPECT_EQ(accepted->peer().port, port);
  EXPECT_EQ(ErrnoOf(ConnectFrom(port, peer.port)), EADDRINUSE);
}

TEST_P(ContractTest, AcceptNeverBlocks) {
  const std::unique_ptr<Listener> listener = Listen(SocketType::kStream);
  EXPECT_EQ(ErrnoOf(listener->Accept().status()), EAGAIN);
}

TEST_P(ContractTest, FullBacklogRefuses) {
  const std::unique_ptr<Listener> listener = Listen(SocketType::kStream, kPortAny, 1);
  std::vector<Socket> waiting;
  absl::Status refused;
  while (refused.ok() && waiting.size() < 16) {
    absl::StatusOr<Socket> socket = Connect(listener->local().port, SocketType::kStream);
    if (socket.ok()) {
      waiting.push_back(*std::move(socket));
    } else {
      refused = socket.status();
    }
  }
  EXPECT_EQ(ErrnoOf(refused), ECONNRESET) << refused;
  EXPECT_GE(waiting.size(), 1u);
  // Accepting makes room.
  EXPECT_TRUE(AcceptBlocking(*listener, Far()).ok());
  EXPECT_TRUE(Connect(listener->local().port, SocketType::kStream).ok());
}

TEST_P(ContractTest, LowPortNeedsPrivilege) {
  if (!GetParam().low_ports_by_capability) GTEST_SKIP() << "decided by the daemon";
  // Capabilities belong to the thread: this one goes without.
  std::thread([this] {
    __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
    ASSERT_EQ(syscall(SYS_capget, &header, data), 0);
    data[CAP_TO_INDEX(CAP_NET_BIND_SERVICE)].effective &= ~CAP_TO_MASK(CAP_NET_BIND_SERVICE);
    ASSERT_EQ(syscall(SYS_capset, &header, data), 0);
    EXPECT_EQ(ErrnoOf(server().Listen(1023, SocketType::kStream, {}).status()), EACCES);
    EXPECT_EQ(ErrnoOf(ConnectFrom(1023, 5000)), EACCES);
  }).join();
}

TEST_P(ContractTest, ResolvesCidsAndNoOtherNames) {
  EXPECT_EQ(*client().Resolve("local"), kCidLocal);
  EXPECT_EQ(*client().Resolve("77"), 77u);
  EXPECT_EQ(ErrnoOf(client().Resolve("no-such-machine").status()), ENODEV);
}

TEST_P(ContractTest, ManyConnectionsAtOnce) {
  const std::unique_ptr<Listener> listener = Listen(SocketType::kStream);
  std::vector<Socket> clients, servers;
  for (int i = 0; i < 64; ++i) {
    absl::StatusOr<Socket> client = Connect(listener->local().port, SocketType::kStream);
    ASSERT_TRUE(client.ok()) << client.status();
    absl::StatusOr<Socket> server = AcceptBlocking(*listener, Far());
    ASSERT_TRUE(server.ok()) << server.status();
    clients.push_back(*std::move(client));
    servers.push_back(*std::move(server));
  }
  for (int i = 0; i < 64; ++i) {
    const std::string text = std::to_string(i);
    ASSERT_TRUE(SendAll(clients[i].fd(), text.data(), text.size()));
  }
  for (int i = 63; i >= 0; --i) EXPECT_EQ(ReadSome(servers[i].fd()), std::to_string(i));
}

}  // namespace
}  // namespace argosy
