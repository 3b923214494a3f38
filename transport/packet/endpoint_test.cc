// SPDX-License-Identifier: Apache-2.0
// Ports, listeners, routing, limits, datagrams, and a carrier that blocks or dies.
#include "transport/packet/endpoint.h"

#include <cerrno>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "transport/error.h"
#include "transport/packet/raw_peer.h"
#include "transport/packet/test_users.h"

namespace argosy::packet {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

constexpr uint32_t kBoth = VSOCK_SHUTDOWN_SEND | VSOCK_SHUTDOWN_RCV;

class EndpointTest : public testing::Test {
 protected:
  void Listen(int backlog = 8, uint16_t type = VSOCK_TYPE_STREAM) {
    ASSERT_TRUE(peer.endpoint.Listen(RawPeer::kListenPort, type, backlog, &listener).ok());
  }
  // A REQUEST from this port of the peer.
  void Request(uint32_t port) {
    peer.peer_port = port;
    peer.local_port = RawPeer::kListenPort;
    peer.In(VSOCK_OP_REQUEST);
  }
  absl::StatusOr<Connection*> Connect(TestUser& user, uint32_t local_port = kPortAny,
                                      Address to = {4, 1234}) {
    return peer.endpoint.Connect(local_port, to, VSOCK_TYPE_STREAM, kConnectTimeout, &user);
  }
  const Endpoint::Counters& counters() { return peer.endpoint.counters(); }

  RawPeer peer;
  TestListener listener;
  TestUser user;
};

class SinkUser : public DatagramUser {
 public:
  bool OnDatagram(Address from, const Payload& datagram) override {
    if (!room) return false;
    got.push_back(ToString(from) + " " + Text(datagram));
    return true;
  }
  bool room = true;
  std::vector<std::string> got;
};

// ---- listening ----

TEST_F(EndpointTest, AnIncomingConnectionIsAnswered) {
  Listen();
  Request(5000);
  EXPECT_THAT(peer.Ops(), ElementsAre("RESPONSE"));
  EXPECT_EQ(peer.last.src_port, RawPeer::kListenPort);
  EXPECT_EQ(peer.last.dst_port, 5000u);
  ASSERT_THAT(listener.users, SizeIs(1));
  peer.In(VSOCK_OP_RW, 0, "hello");
  EXPECT_EQ(listener.last().received, "hello");
  EXPECT_EQ(counters().connected, 1u);
}

TEST_F(EndpointTest, TheBacklogCountsWhatNobodyAccepted) {
  Listen(2);
  Request(5000);
  Request(5001);
  peer.Ops();
  Request(5002);
  EXPECT_THAT(peer.Ops(), ElementsAre("RST"));
  EXPECT_EQ(counters().refused_backlog, 1u);
  peer.endpoint.Accepted(*listener.users[0]->connection);
  Request(5003);
  EXPECT_THAT(peer.Ops(), ElementsAre("RESPONSE"));
  // One that ends leaves the backlog too.
  listener.users[1]->connection->Reset();
  peer.Ops();
  Request(5004);
  EXPECT_THAT(peer.Ops(), ElementsAre("RESPONSE"));
  Request(5005);
  EXPECT_THAT(peer.Ops(), ElementsAre("RST"));
}

TEST_F(EndpointTest, ABacklogIsAtLeastOne) {
  for (const int backlog : {0, 1}) {
    Listen(backlog);
    Request(5000);
    EXPECT_THAT(peer.Ops(), ElementsAre("RESPONSE"));
    Request(5001);
    EXPECT_THAT(peer.Ops(), ElementsAre("RST"));
    peer.endpoint.StopListening(RawPeer::kListenPort);
    peer.Ops();
  }
}

TEST_F(EndpointTest, NobodyListens) {
  Request(5000);
  EXPECT_THAT(peer.Ops(), ElementsAre("RST"));
  EXPECT_EQ(counters().drop_no_connection, 1u);
}

// Answers for ports without a listener.
class TestRequestUser : public RequestUser {
 public:
  ConnectionUser* OnRequest(Connection& connection) override {
    asked.push_back(connection.local().port);
    if (later) connection.AnswerLater();
    user.connection = &connection;
    return accepts ? &user : nullptr;
  }
  bool accepts = true;
  bool later = false;
  std::vector<uint32_t> asked;
  TestUser user;
};

TEST_F(EndpointTest, SomebodyMayAnswerForPortsWithoutAListener) {
  TestRequestUser any;
  peer.endpoint.set_request_user(&any);
  Request(5000);
  EXPECT_THAT(peer.Ops(), ElementsAre("RESPONSE"));
  EXPECT_THAT(any.asked, ElementsAre(RawPeer::kListenPort));
  peer.In(VSOCK_OP_RW, 0, "hello");
  EXPECT_EQ(any.user.received, "hello");
  EXPECT_EQ(counters().connected, 1u);
}

TEST_F(EndpointTest, OrRefuse) {
  TestRequestUser any;
  any.accepts = false;
  peer.endpoint.set_request_user(&any);
  Request(5000);
  EXPECT_THAT(peer.Ops(), ElementsAre("RST"));
  EXPECT_EQ(any.user.ends, 0);
  EXPECT_EQ(peer.endpoint.connections(), 0u);
  EXPECT_EQ(counters().drop_no_connection, 1u);
  // The address is free again.
  any.accepts = true;
  Request(5000);
  EXPECT_THAT(peer.Ops(), ElementsAre("RESPONSE"));
}

TEST_F(EndpointTest, AListenerComesBeforeThat) {
  TestRequestUser any;
  peer.endpoint.set_request_user(&any);
  Listen();
  Request(5000);
  EXPECT_THAT(listener.users, SizeIs(1));
  EXPECT_THAT(any.asked, IsEmpty());
}

TEST_F(EndpointTest, NobodyIsAskedBeyondTheLimit) {
  RawPeer small({.cid = RawPeer::kCid, .max_connections = 1});
  TestRequestUser any;
  small.endpoint.set_request_user(&any);
  for (const uint32_t port : {5000u, 5001u}) {
    small.peer_port = port;
    small.local_port = RawPeer::kListenPort;
    small.In(VSOCK_OP_REQUEST);
  }
  EXPECT_THAT(small.Ops(), ElementsAre("RESPONSE", "RST"));
  EXPECT_THAT(any.asked, SizeIs(1));
}

// ---- answers that come later ----

class LaterTest : public EndpointTest {
 protected:
  LaterTest() {
    any.later = true;
    peer.endpoint.set_request_user(&any);
    Request(5000);
    EXPECT_THAT(peer.Ops(), IsEmpty());
    EXPECT_EQ(counters().connected, 0u);
  }
  TestRequestUser any;
};

TEST_F(LaterTest, TheAnswerMayComeLater) {
  Connection* c = any.user.connection;
  EXPECT_EQ(c->SendCapacity(), 0u);
  EXPECT_FALSE(c->CanSendMessage(1));
  // Longer than a peer waits, and longer than any timer.
  peer.Advance(absl::Minutes(1));
  EXPECT_THAT(peer.Ops(), IsEmpty());
  c->Accept();
  EXPECT_EQ(counters().connected, 1u);
  ASSERT_GT(c->SendCapacity(), 0u);
  c->Send(Bytes("hello"));
  EXPECT_THAT(peer.Ops(), ElementsAre("RESPONSE", "RW"));
  peer.In(VSOCK_OP_RW, 0, "hello yourself");
  EXPECT_EQ(any.user.received, "hello yourself");
}

TEST_F(LaterTest, WhatItsProgramDidMeanwhileIsToldBehindIt) {
  any.user.connection->StopReading();
  any.user.connection->FinishSending();
  EXPECT_THAT(peer.Ops(), IsEmpty());
  any.user.connection->Accept();
  EXPECT_THAT(peer.Ops(), ElementsAre("RESPONSE", "SHUTDOWN:3"));
}

TEST_F(LaterTest, TheAnswerMayBeNo) {
  any.user.connection->Reset();
  EXPECT_THAT(peer.Ops(), ElementsAre("RST"));
  EXPECT_EQ(any.user.end, End::kLocal);
  EXPECT_EQ(peer.endpoint.connections(), 0u);
  EXPECT_EQ(counters().drop_no_connection, 1u);
  EXPECT_EQ(counters().reset_sent, 1u);
}

TEST_F(LaterTest, OrNoAtOnceAfterAll) {
  any.accepts = false;
  Request(5001);
  EXPECT_THAT(peer.Ops(), ElementsAre("RST"));
  EXPECT_EQ(peer.endpoint.connections(), 1u);
}

TEST_F(LaterTest, ThePeerMayGiveUp) {
  peer.In(VSOCK_OP_RST);
  EXPECT_THAT(peer.Ops(), IsEmpty());
  EXPECT_EQ(any.user.end, End::kReset);
  EXPECT_EQ(peer.endpoint.connections(), 0u);
}

TEST_F(LaterTest, ARequestThatIsRepeatedHasTheSameAnswer) {
  peer.buf_alloc = 100;  // the program has another socket now
  peer.In(VSOCK_OP_REQUEST);
  EXPECT_THAT(peer.Ops(), IsEmpty());
  EXPECT_THAT(any.asked, SizeIs(1));
  any.user.connection->Accept();
  EXPECT_THAT(peer.Ops(), ElementsAre("RESPONSE"));
  EXPECT_EQ(any.user.connection->Credit(), 100u);
  // From now on it is a breach.
  peer.In(VSOCK_OP_REQUEST);
  EXPECT_EQ(any.user.end, End::kReset);
}

TEST_F(LaterTest, NothingElseMayComeBeforeTheAnswer) {
  for (const uint16_t op : {VSOCK_OP_RW, VSOCK_OP_SHUTDOWN, VSOCK_OP_RESPONSE,
                            VSOCK_OP_CREDIT_UPDATE, VSOCK_OP_CREDIT_REQUEST}) {
    Request(6000 + op);
    peer.In(op, 0, op == VSOCK_OP_RW ? "x" : "");
    EXPECT_THAT(peer.Ops(), ElementsAre("RST")) << op;
    EXPECT_EQ(any.user.end, End::kReset);
    EXPECT_EQ(any.user.received, "");
    any.user.end = std::nullopt;
  }
  EXPECT_EQ(peer.endpoint.connections(), 1u);
}

TEST_F(LaterTest, ItEndsWithThePeersSession) {
  peer.endpoint.OnPeerReset(4);
  EXPECT_EQ(any.user.end, End::kCarrierLost);
  EXPECT_EQ(peer.endpoint.connections(), 0u);
  EXPECT_THAT(peer.Ops(), IsEmpty());
}

TEST_F(LaterTest, WhatWaitsCountsAsAConnection) {
  RawPeer small({.cid = RawPeer::kCid, .max_connections = 1});
  small.endpoint.set_request_user(&any);
  small.peer_port = 5000;
  small.local_port = RawPeer::kListenPort;
  small.In(VSOCK_OP_REQUEST);
  small.peer_port = 5001;
  small.In(VSOCK_OP_REQUEST);
  EXPECT_THAT(small.Ops(), ElementsAre("RST"));
  EXPECT_EQ(small.last.dst_port, 5001u);
  EXPECT_EQ(small.endpoint.counters().refused_limit, 1u);
}

// A peer does not know of it, so it owes a bounded number of resets, as other strangers.
TEST_F(LaterTest, RefusalsWhileTheCarrierIsBlockedAreBounded) {
  peer.link.can_send = false;
  for (uint32_t port = 0; port < 2 * kMaxOwedResets; ++port) {
    Request(10000 + port);
    any.user.connection->Reset();
  }
  EXPECT_EQ(peer.endpoint.owed(4), kMaxOwedResets);
  EXPECT_EQ(counters().lost_resets, kMaxOwedResets);
}

TEST_F(LaterTest, AnAnswerWaitsForTheCarrier) {
  peer.link.can_send = false;
  any.user.connection->Accept();
  EXPECT_THAT(peer.Ops(), IsEmpty());
  peer.link.can_send = true;
  peer.endpoint.OnCanSend(4);
  EXPECT_THAT(peer.Ops(), ElementsAre("RESPONSE"));
}

TEST_F(EndpointTest, AListenerOfAnotherTypeRefuses) {
  Listen(8, VSOCK_TYPE_SEQPACKET);
  Request(5000);
  EXPECT_THAT(peer.Ops(), ElementsAre("RST"));
  EXPECT_THAT(listener.users, IsEmpty());
}

TEST_F(EndpointTest, StopListeningResetsWhatNobodyAccepted) {
  Listen();
  Request(5000);
  Request(5001);
  peer.endpoint.Accepted(*listener.users[0]->connection);
  peer.Ops();
  peer.endpoint.StopListening(RawPeer::kListenPort);
  EXPECT_THAT(peer.Ops(), ElementsAre("RST"));
  EXPECT_EQ(listener.users[0]->end, std::nullopt);
  EXPECT_EQ(listener.users[1]->end, End::kLocal);
  Listen();
  Request(5002);
  EXPECT_THAT(peer.Ops(), ElementsAre("RESPONSE"));
  peer.peer_port = 5000;
  peer.In(VSOCK_OP_RW, 0, "still here");
  EXPECT_EQ(listener.users[0]->received, "still here");
}

TEST_F(EndpointTest, StopListeningEndsWhatIsDrainedAndNotAccepted) {
  Listen();
  listener.on_incoming = [](Connection&, TestUser& program) { program.appetite = 0; };
  Request(5000);
  peer.In(VSOCK_OP_RW, 0, "kept");
  peer.In(VSOCK_OP_SHUTDOWN, kBoth);
  peer.In(VSOCK_OP_RST);
  ASSERT_EQ(listener.last().connection->state(), Connection::State::kDraining);
  ASSERT_TRUE(peer.endpoint.Listen(81, VSOCK_TYPE_STREAM, 8, &listener).ok());
  peer.endpoint.StopListening(81);
  EXPECT_EQ(listener.last().end, std::nullopt);
  peer.endpoint.StopListening(RawPeer::kListenPort);
  EXPECT_EQ(listener.last().end, End::kLocal);
  EXPECT_EQ(peer.endpoint.connections(), 0u);
}

TEST_F(EndpointTest, AListenerMayResetInsideOnIncoming) {
  Listen();
  listener.on_incoming = [](Connection& c, TestUser&) { c.Reset(); };
  Request(5000);
  EXPECT_EQ(listener.last().end, End::kLocal);
  EXPECT_EQ(listener.last().ends, 1);
  EXPECT_EQ(peer.endpoint.connections(), 0u);
}

TEST_F(EndpointTest, AListenerMayStopInsideOnIncoming) {
  Listen();
  listener.on_incoming = [&](Connection&, TestUser&) {
    peer.endpoint.StopListening(RawPeer::kListenPort);
  };
  Request(5000);
  EXPECT_EQ(listener.last().end, End::kLocal);
  EXPECT_EQ(peer.endpoint.connections(), 0u);
}

TEST_F(EndpointTest, AListenerMaySendInsideOnIncoming) {
  Listen();
  listener.on_incoming = [](Connection& c, TestUser&) {
    EXPECT_GT(c.SendCapacity(), 5u);
    c.Send(Bytes("hello"));
    c.FinishSending();
  };
  Request(5000);
  EXPECT_THAT(peer.Ops(), ElementsAre("RESPONSE", "RW", "SHUTDOWN:2"));
}

// ---- ports ----

TEST_F(EndpointTest, TakenPorts) {
  Listen();
  EXPECT_EQ(
      ErrnoOf(peer.endpoint.Listen(RawPeer::kListenPort, VSOCK_TYPE_STREAM, 1, &listener).status()),
      EADDRINUSE);
  EXPECT_EQ(ErrnoOf(Connect(user, RawPeer::kListenPort).status()), EADDRINUSE);
  TestUser other;
  ASSERT_TRUE(Connect(user, 77).ok());
  EXPECT_EQ(ErrnoOf(Connect(other, 77).status()), EADDRINUSE);
  EXPECT_TRUE(Connect(other, 77, {4, 1235}).ok());
}

TEST_F(EndpointTest, AutomaticPortsSkipTakenOnesAndWrap) {
  RawPeer late({.cid = 3, .first_port = kPortAny - 1});
  TestListener l;
  EXPECT_EQ(*late.endpoint.Listen(kFirstEphemeralPort, VSOCK_TYPE_STREAM, 1, &l),
            kFirstEphemeralPort);
  EXPECT_EQ(*late.endpoint.Listen(kPortAny, VSOCK_TYPE_STREAM, 1, &l), kPortAny - 1);
  TestUser a, b;
  const auto connect = [&](TestUser& u) {
    return (*late.endpoint.Connect(kPortAny, {4, 1}, VSOCK_TYPE_STREAM, kConnectTimeout, &u))
        ->local()
        .port;
  };
  EXPECT_EQ(connect(a), kFirstEphemeralPort + 1);
  EXPECT_EQ(connect(b), kFirstEphemeralPort + 2);
}

TEST_F(EndpointTest, ConnectErrors) {
  EXPECT_EQ(
      ErrnoOf(peer.endpoint.Connect(kPortAny, {4, 1}, VSOCK_TYPE_DGRAM, kConnectTimeout, &user)
                  .status()),
      ESOCKTNOSUPPORT);
  EXPECT_EQ(ErrnoOf(peer.endpoint.Listen(1, VSOCK_TYPE_DGRAM, 1, &listener).status()),
            ESOCKTNOSUPPORT);
  peer.link.reach = Link::Reach::kNobody;
  EXPECT_EQ(ErrnoOf(Connect(user).status()), ENODEV);
  EXPECT_EQ(peer.endpoint.connections(), 0u);
}

TEST_F(EndpointTest, TheLocalCidIsTheOwnOne) {
  auto made = Connect(user, kPortAny, {kCidLocal, 9});
  ASSERT_TRUE(made.ok());
  EXPECT_EQ((*made)->peer().cid, 3u);
  peer.Ops();
  EXPECT_EQ(peer.last.dst_cid, 3u);
  // From a port to itself there is no connection.
  EXPECT_EQ(ErrnoOf(Connect(user, 9, {kCidLocal, 9}).status()), EADDRINUSE);
}

// ---- limits ----

TEST_F(EndpointTest, ConnectionsAreLimited) {
  RawPeer small({.cid = 3, .max_connections = 1});
  ASSERT_TRUE(
      small.endpoint.Connect(kPortAny, {4, 1}, VSOCK_TYPE_STREAM, kConnectTimeout, &user).ok());
  EXPECT_EQ(
      ErrnoOf(small.endpoint.Connect(kPortAny, {4, 1}, VSOCK_TYPE_STREAM, kConnectTimeout, &user)
                  .status()),
      ENOBUFS);
  ASSERT_TRUE(small.endpoint.Listen(80, VSOCK_TYPE_STREAM, 8, &listener).ok());
  small.Ops();
  small.In(VSOCK_OP_REQUEST);
  EXPECT_THAT(small.Ops(), ElementsAre("RST"));
  EXPECT_EQ(small.endpoint.counters().refused_limit, 2u);
}

TEST_F(EndpointTest, TheBudgetBoundsAndIsGivenBack) {
  TestBudget budget;
  budget.limit = 2 * kDefaultBufAlloc;
  {
    RawPeer bounded;
    bounded.endpoint.set_budget(&budget);
    ASSERT_TRUE(bounded.endpoint.Listen(80, VSOCK_TYPE_STREAM, 8, &listener).ok());
    Connection* c = bounded.Connect(user);
    bounded.local_port = 80;
    bounded.peer_port = 5000;
    bounded.In(VSOCK_OP_REQUEST);
    EXPECT_THAT(bounded.Ops(), ElementsAre("RESPONSE"));
    EXPECT_EQ(budget.used, budget.limit);
    bounded.peer_port = 5001;
    bounded.In(VSOCK_OP_REQUEST);
    EXPECT_THAT(bounded.Ops(), ElementsAre("RST"));
    EXPECT_EQ(bounded.endpoint.counters().refused_limit, 1u);
    c->Reset();
    EXPECT_EQ(budget.used, size_t{kDefaultBufAlloc});
  }
  EXPECT_EQ(budget.used, 0u);
}

// ---- packets of no connection ----

TEST_F(EndpointTest, UnknownConnectionsAreReset) {
  for (const uint16_t op : {VSOCK_OP_INVALID, VSOCK_OP_RESPONSE, VSOCK_OP_SHUTDOWN, VSOCK_OP_RW,
                            VSOCK_OP_CREDIT_UPDATE, VSOCK_OP_CREDIT_REQUEST, 99u}) {
    peer.In(op);
    EXPECT_THAT(peer.Ops(), ElementsAre("RST")) << op;
    EXPECT_EQ(peer.last.dst_port, peer.peer_port);
    EXPECT_EQ(peer.last.type, VSOCK_TYPE_STREAM);
  }
  EXPECT_EQ(counters().reset_sent, 7u);
  peer.In(VSOCK_OP_RST);
  EXPECT_THAT(peer.Ops(), IsEmpty());
}

TEST_F(EndpointTest, UnknownTypesAreResetAndTouchNothing) {
  peer.Connect(user);
  Header header = peer.Packet(VSOCK_OP_RW);
  header.type = 7;
  peer.In(header, "x");
  EXPECT_THAT(peer.Ops(), ElementsAre("RST"));
  EXPECT_EQ(peer.last.type, 7);
  EXPECT_EQ(counters().drop_type, 1u);
  header.op = VSOCK_OP_RST;
  peer.In(header);
  EXPECT_THAT(peer.Ops(), IsEmpty());
  EXPECT_EQ(user.end, std::nullopt);
}

TEST_F(EndpointTest, AWrongSourceOrDestinationIsDropped) {
  peer.Connect(user);
  Header header = peer.Packet(VSOCK_OP_RST);
  peer.endpoint.OnPacket(5, header, {});
  EXPECT_EQ(counters().drop_source, 1u);
  header.src_cid = (uint64_t{1} << 32) + 4;
  peer.endpoint.OnPacket(header.src_cid, header, {});
  EXPECT_EQ(counters().drop_source, 2u);
  header = peer.Packet(VSOCK_OP_RST);
  header.dst_cid = 9;
  peer.In(header);
  header.dst_cid = (uint64_t{1} << 32) + 3;
  peer.In(header);
  EXPECT_EQ(counters().drop_destination, 2u);
  EXPECT_EQ(user.end, std::nullopt);
  EXPECT_THAT(peer.Ops(), IsEmpty());
}

// ---- a carrier that blocks ----

TEST_F(EndpointTest, WhatIsOwedGoesOutInOrder) {
  Listen();
  peer.link.can_send = false;
  Request(5000);
  listener.last().connection->FinishSending();
  peer.In(VSOCK_OP_CREDIT_REQUEST);
  EXPECT_EQ(listener.last().connection->SendCapacity(), 0u);
  EXPECT_THAT(peer.Ops(), IsEmpty());
  peer.link.can_send = true;
  peer.endpoint.OnCanSend(4);
  EXPECT_THAT(peer.Ops(), ElementsAre("RESPONSE", "CREDIT_UPDATE", "SHUTDOWN:2"));
}

TEST_F(EndpointTest, NoDataGoesBeforeWhatIsOwed) {
  Listen();
  peer.link.can_send = false;
  Request(5000);
  // The carrier has room again but has not yet said so.
  peer.link.can_send = true;
  Connection* c = listener.last().connection;
  ASSERT_GT(c->SendCapacity(), 0u);
  c->Send(Bytes("x"));
  EXPECT_THAT(peer.Ops(), ElementsAre("RESPONSE", "RW"));
}

TEST_F(EndpointTest, OwedResetsAreBoundedAndGoFirst) {
  peer.link.can_send = false;
  for (uint32_t port = 0; port < kMaxOwedResets + 3; ++port) Request(10000 + port);
  EXPECT_EQ(counters().lost_resets, 3u);
  EXPECT_EQ(counters().reset_sent, kMaxOwedResets + 3);
  ASSERT_TRUE(Connect(user).ok());
  peer.link.can_send = true;
  peer.endpoint.OnCanSend(4);
  Ops ops = peer.Ops();
  ASSERT_THAT(ops, SizeIs(kMaxOwedResets + 1));
  EXPECT_EQ(ops.back(), "REQUEST");
  ops.pop_back();
  EXPECT_THAT(ops, Each("RST"));
}

// A second REQUEST is a breach: each pair begins a connection and ends it, and nobody drains.
TEST_F(EndpointTest, ConnectionsThatWereNeverAnnouncedOweBoundedResets) {
  TestListener listener;
  ASSERT_TRUE(peer.endpoint.Listen(80, VSOCK_TYPE_STREAM, 1, &listener).ok());
  peer.link.can_send = false;
  for (uint32_t port = 0; port < 3 * kMaxOwedResets; ++port) {
    Request(10000 + port / 2);
    Request(10000 + port / 2);
    EXPECT_LE(peer.endpoint.owed(4), kMaxOwedResets);
  }
  EXPECT_EQ(peer.endpoint.connections(), 0u);
  EXPECT_EQ(peer.endpoint.owed(4), kMaxOwedResets);
  EXPECT_GT(counters().lost_resets, 0u);
}

TEST_F(EndpointTest, EveryConnectionThatEndsIsToldHoweverMany) {
  // More than the limit for strangers: a connection's own reset is never lost.
  std::vector<Connection*> connections;
  for (size_t i = 0; i < 2 * kMaxOwedResets; ++i) connections.push_back(peer.Connect(user));
  peer.Ops();
  peer.link.can_send = false;
  for (Connection* c : connections) c->Reset();
  EXPECT_EQ(counters().lost_resets, 0u);
  peer.link.can_send = true;
  peer.endpoint.OnCanSend(4);
  const Ops ops = peer.Ops();
  EXPECT_THAT(ops, SizeIs(2 * kMaxOwedResets));
  EXPECT_THAT(ops, Each("RST"));
}

TEST_F(EndpointTest, APeerThatGoesOnSendingIsOwedOneReset) {
  peer.link.can_send = false;
  for (uint32_t i = 0; i < 2 * kMaxOwedResets; ++i) peer.In(VSOCK_OP_RW, 0, "x");
  EXPECT_EQ(counters().lost_resets, 0u);
  peer.link.can_send = true;
  peer.endpoint.OnCanSend(4);
  EXPECT_THAT(peer.Ops(), ElementsAre("RST"));
}

TEST_F(EndpointTest, AConnectionThatEndsOwesOnlyItsReset) {
  Connection* c = peer.Connect(user);
  peer.link.can_send = false;
  c->FinishSending();
  EXPECT_EQ(user.end, std::nullopt);
  c->Reset();
  EXPECT_EQ(user.end, End::kLocal);
  peer.link.can_send = true;
  peer.endpoint.OnCanSend(4);
  EXPECT_THAT(peer.Ops(), ElementsAre("RST"));
}

TEST_F(EndpointTest, WaitingProgramsTakeTurns) {
  constexpr int kPrograms = 3;
  TestUser users[kPrograms];
  std::string order;
  Connection* connections[kPrograms];
  for (int i = 0; i < kPrograms; ++i) {
    connections[i] = peer.Connect(users[i]);
    users[i].on_can_send = [&, i](Connection& c) {
      order += static_cast<char>('a' + i);
      // As much as the carrier takes: one packet, then it is full.
      while (c.SendCapacity() > 0) {
        c.Send(Bytes("x"));
        peer.link.can_send = false;
      }
    };
  }
  peer.link.can_send = false;
  for (Connection* c : connections) EXPECT_EQ(c->SendCapacity(), 0u);
  for (int i = 0; i < 7; ++i) {
    peer.link.can_send = true;
    peer.endpoint.OnCanSend(4);
  }
  EXPECT_EQ(order, "abcabca");
}

TEST_F(EndpointTest, RoomForAnUnknownPeerIsNothing) {
  peer.endpoint.OnCanSend(99);
  peer.endpoint.OnCanSend(~uint64_t{0});
  peer.endpoint.OnPeerReset(99);
  EXPECT_THAT(peer.Ops(), IsEmpty());
}

// ---- a carrier that dies ----

TEST_F(EndpointTest, ThePeersEndEndsItsConnectionsOnly) {
  TestUser other, again;
  peer.Connect(user);
  ASSERT_TRUE(Connect(other, kPortAny, {5, 1}).ok());
  user.on_ended = [&](Connection&) { EXPECT_TRUE(Connect(again).ok()); };
  peer.Ops();
  peer.endpoint.OnPeerReset(4);
  EXPECT_EQ(user.end, End::kCarrierLost);
  EXPECT_EQ(other.end, std::nullopt);
  EXPECT_EQ(again.end, std::nullopt);
  EXPECT_THAT(peer.Ops(), ElementsAre("REQUEST"));
}

TEST_F(EndpointTest, AResetInsideOnEndedOfALostPeer) {
  TestUser second, third;
  peer.Connect(user);
  Connection* c2 = peer.Connect(second);
  peer.Connect(third);
  user.on_ended = [&](Connection&) { c2->Reset(); };
  peer.endpoint.OnPeerReset(4);
  EXPECT_EQ(second.end, End::kLocal);
  EXPECT_EQ(third.end, End::kCarrierLost);
  EXPECT_EQ(peer.endpoint.connections(), 0u);
  // The old session is told nothing, the new one knows nothing.
  EXPECT_THAT(peer.Ops(), IsEmpty());
}

TEST_F(EndpointTest, OwedThingsGoWithTheSession) {
  peer.link.can_send = false;
  Request(5000);
  Connect(user).value();
  peer.endpoint.OnPeerReset(4);
  peer.link.can_send = true;
  peer.endpoint.OnCanSend(4);
  EXPECT_THAT(peer.Ops(), IsEmpty());
}

TEST_F(EndpointTest, ACarrierThatDiesInsideSendEndsNothingInsideSend) {
  Connection* c = peer.Connect(user);
  peer.link.on_send = [&] { peer.endpoint.OnPeerReset(4); };
  c->Send(Bytes("x"));
  EXPECT_EQ(user.end, std::nullopt);
  EXPECT_EQ(c->SendCapacity(), 0u);
  // A new session may be up already; it is not touched.
  peer.link.on_send = nullptr;
  TestUser again;
  ASSERT_TRUE(Connect(again).ok());
  EXPECT_LE(peer.endpoint.NextDeadline(), peer.now);
  peer.Advance(absl::ZeroDuration());
  EXPECT_EQ(user.end, End::kCarrierLost);
  EXPECT_EQ(again.end, std::nullopt);
}

TEST_F(EndpointTest, ACarrierThatDiesWhileOwedThingsGoOutTakesNoData) {
  Listen();
  peer.link.can_send = false;
  Request(5000);
  peer.In(VSOCK_OP_CREDIT_REQUEST);
  peer.link.can_send = true;
  peer.link.on_send = [&] { peer.endpoint.OnPeerReset(4); };
  EXPECT_EQ(listener.last().connection->SendCapacity(), 0u);
  EXPECT_THAT(peer.Ops(), ElementsAre("RESPONSE"));
}

TEST_F(EndpointTest, ACarrierThatDiesInsideAnAnswerEndsItsConnections) {
  peer.Connect(user);
  peer.link.on_send = [&] { peer.endpoint.OnPeerReset(4); };
  peer.In(VSOCK_OP_CREDIT_REQUEST);
  EXPECT_EQ(user.end, End::kCarrierLost);
}

TEST_F(EndpointTest, ACarrierThatDiesWhileOwedResetsGoOut) {
  peer.link.can_send = false;
  for (uint32_t port = 1; port <= 3; ++port) Request(port);
  peer.link.can_send = true;
  int sends = 0;
  peer.link.on_send = [&] {
    if (++sends == 1) peer.endpoint.OnPeerReset(4);
  };
  peer.endpoint.OnCanSend(4);
  EXPECT_THAT(peer.Ops(), ElementsAre("RST"));
  Request(9);
  EXPECT_THAT(peer.Ops(), ElementsAre("RST"));
  EXPECT_EQ(peer.last.dst_port, 9u);
}

TEST_F(EndpointTest, WhatAClosedPeerSentIsDeliveredThoughItsSessionEnds) {
  Connection* c = peer.Connect(user);
  user.appetite = 0;
  peer.In(VSOCK_OP_RW, 0, "kept");
  peer.In(VSOCK_OP_SHUTDOWN, kBoth);
  peer.endpoint.OnPeerReset(4);
  EXPECT_EQ(user.end, std::nullopt);
  user.appetite = kNoLimit;
  c->Drain();
  EXPECT_EQ(user.received, "kept");
  EXPECT_EQ(user.finished, 1);
  EXPECT_EQ(user.end, End::kClean);
}

// ---- datagrams ----

TEST_F(EndpointTest, Datagrams) {
  SinkUser sink;
  ASSERT_EQ(*peer.endpoint.BindDatagram(53, &sink), 53u);
  EXPECT_EQ(ErrnoOf(peer.endpoint.BindDatagram(53, &sink).status()), EADDRINUSE);
  const uint32_t automatic = *peer.endpoint.BindDatagram(kPortAny, &sink);
  EXPECT_GE(automatic, kFirstEphemeralPort);
  EXPECT_LT(automatic, kPortAny);
  EXPECT_NE(*peer.endpoint.BindDatagram(kPortAny, &sink), automatic);
  // Ports of their own: a listener may stand at the same one.
  EXPECT_TRUE(peer.endpoint.Listen(53, VSOCK_TYPE_STREAM, 1, &listener).ok());
  Header header = peer.Packet(VSOCK_OP_RW);
  header.type = VSOCK_TYPE_DGRAM;
  header.dst_port = 53;
  peer.In(header, "hello");
  EXPECT_THAT(sink.got, ElementsAre("4:1234 hello"));
  sink.room = false;
  peer.In(header, "full");
  header.dst_port = 54;
  peer.In(header, "nobody");
  header.op = VSOCK_OP_REQUEST;
  peer.In(header);
  peer.endpoint.CloseDatagram(53);
  sink.room = true;
  header.op = VSOCK_OP_RW;
  header.dst_port = 53;
  peer.In(header, "closed");
  EXPECT_THAT(sink.got, SizeIs(1));
  EXPECT_EQ(counters().datagram_delivered, 1u);
  EXPECT_EQ(counters().datagram_dropped, 3u);
  EXPECT_EQ(counters().drop_op, 1u);
  EXPECT_THAT(peer.Ops(), IsEmpty());
}

TEST_F(EndpointTest, SendingDatagrams) {
  EXPECT_TRUE(peer.endpoint.SendDatagram(53, {4, 54}, Bytes("hello")).ok());
  EXPECT_THAT(peer.Ops(), ElementsAre("RW"));
  EXPECT_EQ(peer.last.type, VSOCK_TYPE_DGRAM);
  EXPECT_EQ(peer.last.src_port, 53u);
  EXPECT_EQ(peer.last.dst_port, 54u);
  EXPECT_TRUE(peer.endpoint.SendDatagram(53, {kCidLocal, 54}, Bytes("")).ok());
  peer.Ops();
  EXPECT_EQ(peer.last.dst_cid, 3u);
  peer.link.max_payload = 4;
  EXPECT_EQ(ErrnoOf(peer.endpoint.SendDatagram(53, {4, 54}, Bytes("hello"))), EMSGSIZE);
  peer.link.can_send = false;
  EXPECT_EQ(ErrnoOf(peer.endpoint.SendDatagram(53, {4, 54}, Bytes("x"))), EAGAIN);
  peer.link.reach = Link::Reach::kStarting;
  EXPECT_EQ(ErrnoOf(peer.endpoint.SendDatagram(53, {4, 54}, Bytes("x"))), EAGAIN);
  peer.link.reach = Link::Reach::kNobody;
  EXPECT_EQ(ErrnoOf(peer.endpoint.SendDatagram(53, {4, 54}, Bytes("x"))), ENODEV);
  EXPECT_THAT(peer.Ops(), IsEmpty());
}

}  // namespace
}  // namespace argosy::packet
