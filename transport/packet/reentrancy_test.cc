// SPDX-License-Identifier: Apache-2.0
// Programs that call their connection back from inside its calls.
#include <functional>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "transport/packet/connection.h"
#include "transport/packet/raw_peer.h"
#include "transport/packet/test_users.h"

namespace argosy::packet {
namespace {

using testing::ElementsAre;

constexpr uint32_t kSend = VSOCK_SHUTDOWN_SEND;
constexpr uint32_t kBoth = VSOCK_SHUTDOWN_SEND | VSOCK_SHUTDOWN_RCV;

class ReentrancyTest : public testing::Test {
 protected:
  // What is true of every connection that ended.
  void ExpectGone(End how) {
    EXPECT_EQ(user.ends, 1);
    EXPECT_EQ(user.end, how);
    EXPECT_EQ(peer.endpoint.connections(), 0u);
    EXPECT_EQ(peer.endpoint.NextDeadline(), absl::InfiniteFuture());
  }

  RawPeer peer;
  TestUser user;
};

TEST_F(ReentrancyTest, ResetFromInsideEveryCallback) {
  const auto reset = [](Connection& c) { c.Reset(); };
  for (int which = 0; which < 5; ++which) {
    TestUser program;
    std::function<void(Connection&)>* const hooks[] = {&program.on_connected, &program.on_data,
                                                       &program.on_can_send, &program.on_finished,
                                                       &program.on_stopped};
    *hooks[which] = reset;
    Connection* c = peer.Connect(program);
    if (which == 2) {
      peer.link.can_send = false;
      EXPECT_EQ(c->SendCapacity(), 0u);
      peer.link.can_send = true;
      peer.endpoint.OnCanSend(4);
    }
    if (which == 1) peer.In(VSOCK_OP_RW, 0, "x");
    if (which == 3) peer.In(VSOCK_OP_SHUTDOWN, kSend);
    if (which == 4) peer.In(VSOCK_OP_SHUTDOWN, kBoth);
    EXPECT_EQ(program.end, End::kLocal) << which;
    EXPECT_EQ(program.ends, 1) << which;
    EXPECT_EQ(peer.endpoint.connections(), 0u) << which;
  }
}

// A program that tries again from inside OnEnded() may still look at what ended.
TEST_F(ReentrancyTest, AConnectionLivesUntilOnEndedReturns) {
  Connection* c = peer.Connect(user);
  const uint32_t port = c->local().port;
  TestUser again[3];
  user.on_ended = [&](Connection& ended) {
    for (TestUser& next : again) {
      EXPECT_TRUE(
          peer.endpoint
              .Connect(kPortAny, {RawPeer::kPeerCid, 1}, VSOCK_TYPE_STREAM, kConnectTimeout, &next)
              .ok());
    }
    EXPECT_EQ(ended.local().port, port);
  };
  c->Reset();
  EXPECT_EQ(user.ends, 1);
  EXPECT_EQ(peer.endpoint.connections(), 3u);
}

TEST_F(ReentrancyTest, TheProgramLeavesFromInsideOnData) {
  Connection* c = peer.Connect(user);
  user.appetite = 0;
  peer.In(VSOCK_OP_RW, 0, "first");
  peer.In(VSOCK_OP_SHUTDOWN, kSend);
  user.appetite = 2;
  user.on_data = [](Connection& connection) {
    connection.FinishSending();
    connection.StopReading();
    connection.Drain();
  };
  c->Drain();
  EXPECT_EQ(user.received, "fi");
  EXPECT_EQ(user.finished, 0);
  EXPECT_THAT(peer.Ops(), ElementsAre("SHUTDOWN:2", "SHUTDOWN:3"));
  peer.In(VSOCK_OP_RST);
  ExpectGone(End::kClean);
}

TEST_F(ReentrancyTest, TheProgramFinishesFromInsideOnDataAndOnMessage) {
  for (const uint16_t type : {VSOCK_TYPE_STREAM, VSOCK_TYPE_SEQPACKET}) {
    SCOPED_TRACE(type);
    TestUser program;
    Connection* c = peer.Connect(program, type);
    program.on_data = [](Connection& connection) {
      connection.FinishSending();
      connection.StopReading();
      EXPECT_EQ(connection.state(), Connection::State::kConnected) << "what it took counts first";
    };
    peer.In(VSOCK_OP_RW, type == VSOCK_TYPE_SEQPACKET ? VSOCK_SEQ_EOM : 0, "last");
    EXPECT_THAT(peer.Ops(), ElementsAre("SHUTDOWN:2", "SHUTDOWN:3"));
    EXPECT_EQ(c->state(), Connection::State::kClosing);
    peer.In(VSOCK_OP_CREDIT_REQUEST);
    EXPECT_THAT(peer.Ops(), ElementsAre("CREDIT_UPDATE"));
    EXPECT_EQ(peer.last.fwd_cnt, 4u);
    peer.In(VSOCK_OP_RST);
    EXPECT_EQ(program.end, End::kClean);
  }
}

TEST_F(ReentrancyTest, AResetFromInsideEndOfFileIsTheLastWord) {
  peer.Connect(user);
  user.on_finished = [](Connection& connection) { connection.Reset(); };
  peer.In(VSOCK_OP_SHUTDOWN, kBoth);
  EXPECT_THAT(peer.Ops(), ElementsAre("RST"));
  ExpectGone(End::kLocal);
}

TEST_F(ReentrancyTest, NothingIsKeptForAProgramThatStopsFromInsideOnData) {
  Connection* c = peer.Connect(user);
  user.appetite = 2;
  user.on_data = [](Connection& connection) { connection.StopReading(); };
  peer.In(VSOCK_OP_RW, 0, "first");
  user.appetite = kNoLimit;
  c->Drain();
  EXPECT_EQ(user.received, "fi");
}

TEST_F(ReentrancyTest, FinishingFromInsideTheLastDataStillGivesEndOfFile) {
  Connection* c = peer.Connect(user);
  user.appetite = 0;
  peer.In(VSOCK_OP_RW, 0, "all");
  peer.In(VSOCK_OP_SHUTDOWN, kSend);
  user.appetite = kNoLimit;
  user.on_data = [&](Connection& connection) {
    connection.FinishSending();
    EXPECT_EQ(user.finished, 0);
  };
  c->Drain();
  EXPECT_EQ(user.finished, 1);
  peer.In(VSOCK_OP_RST);
  ExpectGone(End::kClean);
}

TEST_F(ReentrancyTest, AnsweringFromInsideOnData) {
  peer.Connect(user);
  user.on_data = [](Connection& c) { c.Send(Bytes("pong")); };
  peer.In(VSOCK_OP_RW, 0, "ping");
  EXPECT_THAT(peer.Ops(), ElementsAre("RW"));
  EXPECT_EQ(peer.last.fwd_cnt, 0u);  // "ping" was not yet taken
}

}  // namespace
}  // namespace argosy::packet
