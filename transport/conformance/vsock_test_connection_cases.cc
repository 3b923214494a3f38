// SPDX-License-Identifier: Apache-2.0
// vsock_test: connections.
//
// What Linux's vsock_test checks of connections and their ends.  Its numbers stand above each case.
#include <linux/vm_sockets.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "transport/conformance/fixture.h"
#include "transport/unique_fd.h"

namespace argosy::conformance {
namespace {

// An AF_VSOCK socket of the near end's kernel, not yet connected.
UniqueFd VsockSocket(SocketType type) {
  return UniqueFd(socket(
      AF_VSOCK, (type == SocketType::kStream ? SOCK_STREAM : SOCK_SEQPACKET) | SOCK_CLOEXEC, 0));
}

sockaddr_vm VsockAddress(uint32_t cid, uint32_t port) {
  sockaddr_vm address = {};
  address.svm_family = AF_VSOCK;
  address.svm_cid = cid;
  address.svm_port = port;
  return address;
}

// 1, where connections need a listener to be bound: datagrams do not.
TEST_P(DatagramTest, PortTakesNoConnections) {
  ASSERT_OK_AND_ASSIGN(const FarDatagramSocket there, far().BindDatagram());
  EXPECT_ERRNO(ConnectBlocking(near(), {far().cid(), there.port}, SocketType::kStream), ECONNRESET);
}

// 1
TEST_P(ConnectionTest, BoundSocketThatDoesNotListenRefuses) {
  NEEDS(af_vsock);
  const UniqueFd bound = VsockSocket(type());
  sockaddr_vm address = VsockAddress(VMADDR_CID_ANY, VMADDR_PORT_ANY);
  socklen_t size = sizeof(address);
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(bind(bound.get(), generic, size), 0) << strerror(errno);
  ASSERT_EQ(getsockname(bound.get(), generic, &size), 0) << strerror(errno);
  EXPECT_ERRNO(far().Connect({near_cid(), address.svm_port}, type()), ECONNRESET);
}

// 2, 3
TEST_P(ConnectionTest, WhatWasSentBeforeCloseIsReadAfterEpipe) {
  for (const Opener opener : {Opener::kNear, Opener::kFar}) {
    ASSERT_OK_AND_ASSIGN(const Pair pair, Connected(opener));
    ASSERT_OK(far().Send(pair.far, "A"));
    ASSERT_OK(far().Close(pair.far));
    ASSERT_NE(PollFor(pair.near.fd(), POLLRDHUP), 0);
    EXPECT_EQ(send(pair.near.fd(), "B", 1, MSG_NOSIGNAL), -1);
    EXPECT_EQ(errno, EPIPE);
    EXPECT_EQ(ReadSome(pair.near), "A");
    EXPECT_EQ(ReadSome(pair.near), "");
  }
}

// 4
TEST_P(ConnectionTest, AHundredWaitAtTheListener) {
  constexpr int kConnections = 100;
  ASSERT_OK_AND_ASSIGN(const FarListener listener, far().Listen(type()));
  std::vector<Socket> sockets;
  for (int i = 0; i < kConnections; ++i) {
    ASSERT_OK_AND_ASSIGN(Socket socket, Connect(listener, type()));
    sockets.push_back(std::move(socket));
  }
  std::vector<FarSocket> accepted;
  for (int i = 0; i < kConnections; ++i) {
    ASSERT_OK_AND_ASSIGN(const FarSocket far_socket, far().Accept(listener));
    if (capabilities().knows_both_addresses) {
      EXPECT_EQ(far_socket.peer.port, sockets[i].local().port) << "not in the order of connecting";
    }
    accepted.push_back(far_socket);
  }
  // Either end may close first.
  for (int i = 0; i < kConnections; ++i) {
    if (i % 2 == 0) {
      ASSERT_OK(far().Close(accepted[i]));
      EXPECT_EQ(ReadSome(sockets[i]), "");
    } else {
      CloseSocket(std::move(sockets[i]));
      EXPECT_EQ(far().ReadSome(accepted[i]), "");
    }
  }
}

// What a write gives that nobody will take: EPIPE and, unless MSG_NOSIGNAL, SIGPIPE.
void ExpectBrokenPipe(const Socket& socket) {
  // Blocked in this thread, so that the signal waits to be asked for.
  sigset_t broken_pipe, before;
  sigemptyset(&broken_pipe);
  sigaddset(&broken_pipe, SIGPIPE);
  ASSERT_EQ(pthread_sigmask(SIG_BLOCK, &broken_pipe, &before), 0);
  const timespec now = {};
  for (const int flags : {int{MSG_NOSIGNAL}, 0}) {
    EXPECT_EQ(send(socket.fd(), "x", 1, flags), -1);
    EXPECT_EQ(errno, EPIPE);
    EXPECT_EQ(sigtimedwait(&broken_pipe, nullptr, &now), flags == 0 ? SIGPIPE : -1);
  }
  ASSERT_EQ(pthread_sigmask(SIG_SETMASK, &before, nullptr), 0);
}

// 16
TEST_P(StreamTest, WritingAfterShutdownRaisesSigpipe) {
  NEEDS(raises_sigpipe);
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  ASSERT_EQ(shutdown(pair.near.fd(), SHUT_WR), 0);
  ExpectBrokenPipe(pair.near);
}

// 17
TEST_P(ConnectionTest, PeerThatStoppedReadingEndsWriting) {
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  ASSERT_OK(far().Shutdown(pair.far, SHUT_RD));
  // Some carriers find out when there is something to read.
  ssize_t n;
  do {
    n = send(pair.near.fd(), "x", 1, MSG_NOSIGNAL);
  } while (n == 1);
  EXPECT_EQ(errno, EPIPE);
  // The other direction is still open.
  ASSERT_OK(far().Send(pair.far, "still here"));
  EXPECT_EQ(ReadSome(pair.near), "still here");
}

// 17
TEST_P(ConnectionTest, PeerThatStoppedReadingEndsWritingAtOnce) {
  NEEDS(tells_stopped_reading);
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  ASSERT_OK(far().Shutdown(pair.far, SHUT_RD));
  EXPECT_EQ(send(pair.near.fd(), "x", 1, MSG_NOSIGNAL), -1);
  EXPECT_EQ(errno, EPIPE);
}

// 17
TEST_P(StreamTest, WritingAfterThePeerStoppedReadingRaisesSigpipe) {
  NEEDS(tells_stopped_reading);
  NEEDS(raises_sigpipe);
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  ASSERT_OK(far().Shutdown(pair.far, SHUT_RD));
  ExpectBrokenPipe(pair.near);
}

// 21
TEST_P(ConnectionTest, SamePortsServeAgainAtOnce) {
  NEEDS(knows_both_addresses);
  ASSERT_OK_AND_ASSIGN(const FarListener listener, far().Listen(type()));
  ASSERT_OK_AND_ASSIGN(const uint32_t port, FreePort());
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK_AND_ASSIGN(Socket socket, Connect(listener, type(), {.local_port = port}));
    ASSERT_OK_AND_ASSIGN(const FarSocket accepted, far().Accept(listener));
    EXPECT_EQ(accepted.peer.port, port);
    CloseSocket(std::move(socket));
    // The peer knows, and has not closed its own end.
    ASSERT_OK_AND_ASSIGN(const short events, far().Poll(accepted, POLLRDHUP, kPatience));
    EXPECT_NE(events, 0);
  }
}

// 30
TEST_P(ConnectionTest, PortConnectsAfterARefusal) {
  NEEDS(knows_both_addresses);
  ASSERT_OK_AND_ASSIGN(const uint32_t there, FreeFarPort());
  ASSERT_OK_AND_ASSIGN(const uint32_t here, FreePort());
  const ConnectOptions from_here = {.local_port = here};
  EXPECT_ERRNO(ConnectBlocking(near(), {far().cid(), there}, type(), from_here), ECONNRESET);
  ASSERT_OK_AND_ASSIGN(const FarListener listener, far().Listen(type(), there));
  ASSERT_OK_AND_ASSIGN(const Socket socket, Connect(listener, type(), from_here));
  ASSERT_TRUE(SendAll(socket, "at last"));
  ASSERT_OK_AND_ASSIGN(const FarSocket accepted, far().Accept(listener));
  EXPECT_EQ(far().ReadSome(accepted), "at last");
}

// 30, with one descriptor: the contract makes one for each attempt, AF_VSOCK leaves it to the program.
TEST_P(ConnectionTest, DescriptorConnectsAfterARefusal) {
  NEEDS(af_vsock);
  ASSERT_OK_AND_ASSIGN(const uint32_t there, FreeFarPort());
  const UniqueFd socket = VsockSocket(type());
  const sockaddr_vm address = VsockAddress(far().cid(), there);
  const auto* const generic = reinterpret_cast<const sockaddr*>(&address);
  ASSERT_EQ(connect(socket.get(), generic, sizeof(address)), -1);
  EXPECT_EQ(errno, ECONNRESET);
  ASSERT_OK_AND_ASSIGN(const FarListener listener, far().Listen(type(), there));
  ASSERT_EQ(connect(socket.get(), generic, sizeof(address)), 0) << strerror(errno);
  ASSERT_OK(far().Accept(listener));
}

// 32
TEST_P(StreamTest, CloseDoesNotLingerForTheReader) {
  NEEDS(lingers_for_unsent_only);
  ASSERT_OK_AND_ASSIGN(Pair pair, Connected());
  const linger wait = {.l_onoff = 1, .l_linger = 30};
  ASSERT_EQ(setsockopt(pair.near.fd(), SOL_SOCKET, SO_LINGER, &wait, sizeof(wait)), 0);
  ASSERT_TRUE(SendAll(pair.near, "read late"));
  const absl::Time before = absl::Now();
  CloseSocket(std::move(pair.near));
  EXPECT_LT(absl::Now() - before, absl::Seconds(15));
  EXPECT_EQ(far().ReadSome(pair.far), "read late");
  EXPECT_EQ(far().ReadSome(pair.far), "");
}

}  // namespace
}  // namespace argosy::conformance
