// SPDX-License-Identifier: Apache-2.0
// One connection against a peer that is the test: establishing, closing, breaches.  Credit:
// credit_test.cc.
#include "transport/packet/connection.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "transport/packet/raw_peer.h"
#include "transport/packet/test_users.h"

namespace argosy::packet {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr uint32_t kSend = VSOCK_SHUTDOWN_SEND;
constexpr uint32_t kBoth = VSOCK_SHUTDOWN_SEND | VSOCK_SHUTDOWN_RCV;

class ConnectionTest : public testing::Test {
 protected:
  // What is true of every connection that ended.
  void ExpectGone(End how) {
    EXPECT_EQ(user.ends, 1);
    EXPECT_EQ(user.end, how);
    EXPECT_EQ(peer.endpoint.connections(), 0u);
    EXPECT_EQ(peer.endpoint.NextDeadline(), absl::InfiniteFuture());
  }
  const Endpoint::Counters& counters() { return peer.endpoint.counters(); }

  RawPeer peer;
  TestUser user;
};

TEST_F(ConnectionTest, AnIdleConnectionIsSmall) { EXPECT_LE(sizeof(Connection), 320u); }

// ---- establish ----

TEST_F(ConnectionTest, RequestThenResponse) {
  auto made = peer.endpoint.Connect(77, {4, 1234}, VSOCK_TYPE_STREAM, kConnectTimeout, &user);
  ASSERT_TRUE(made.ok());
  EXPECT_THAT(peer.Ops(), ElementsAre("REQUEST"));
  EXPECT_EQ(peer.last.src_cid, 3u);
  EXPECT_EQ(peer.last.src_port, 77u);
  EXPECT_EQ(peer.last.dst_cid, 4u);
  EXPECT_EQ(peer.last.dst_port, 1234u);
  EXPECT_EQ(peer.last.buf_alloc, kDefaultBufAlloc);
  EXPECT_EQ((*made)->state(), Connection::State::kConnecting);
  EXPECT_EQ((*made)->SendCapacity(), 0u);
  peer.local_port = 77;
  peer.In(VSOCK_OP_RESPONSE);
  EXPECT_EQ(user.connected, 1);
  EXPECT_EQ((*made)->state(), Connection::State::kConnected);
  EXPECT_EQ((*made)->SendCapacity(), size_t{VSOCK_MAX_PAYLOAD});
  EXPECT_EQ(peer.endpoint.NextDeadline(), absl::InfiniteFuture());
}

TEST_F(ConnectionTest, ResetInAnswerToRequestIsRefused) {
  auto made = peer.endpoint.Connect(kPortAny, {4, 1234}, VSOCK_TYPE_STREAM, kConnectTimeout, &user);
  peer.local_port = (*made)->local().port;
  peer.In(VSOCK_OP_RST);
  ExpectGone(End::kRefused);
}

TEST_F(ConnectionTest, NoAnswerTimesOutAndTakesTheRequestBack) {
  auto made = peer.endpoint.Connect(kPortAny, {4, 1234}, VSOCK_TYPE_STREAM, kConnectTimeout, &user);
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(peer.endpoint.NextDeadline(), peer.now + kConnectTimeout);
  peer.Advance(kConnectTimeout - absl::Nanoseconds(1));
  EXPECT_EQ(user.end, std::nullopt);
  peer.Advance(absl::Nanoseconds(1));
  EXPECT_THAT(peer.Ops(), ElementsAre("REQUEST", "RST"));
  ExpectGone(End::kTimedOut);
}

TEST_F(ConnectionTest, ConnectWaitsForACarrierThatStarts) {
  peer.link.reach = Link::Reach::kStarting;
  peer.link.can_send = false;
  auto made = peer.endpoint.Connect(kPortAny, {4, 1234}, VSOCK_TYPE_STREAM, kConnectTimeout, &user);
  ASSERT_TRUE(made.ok());
  EXPECT_THAT(peer.Ops(), IsEmpty());
  // A reset now is of an older connection with this address.
  peer.local_port = (*made)->local().port;
  peer.In(VSOCK_OP_RST);
  EXPECT_EQ(user.end, std::nullopt);
  peer.link.can_send = true;
  peer.endpoint.OnCanSend(4);
  EXPECT_THAT(peer.Ops(), ElementsAre("REQUEST"));
  peer.In(VSOCK_OP_RESPONSE);
  EXPECT_EQ(user.connected, 1);
}

TEST_F(ConnectionTest, ACarrierThatNeverStartsTimesOutWithoutAWord) {
  peer.link.can_send = false;
  ASSERT_TRUE(
      peer.endpoint.Connect(kPortAny, {4, 1234}, VSOCK_TYPE_STREAM, kConnectTimeout, &user).ok());
  peer.Advance(kConnectTimeout);
  ExpectGone(End::kTimedOut);
  peer.link.can_send = true;
  peer.endpoint.OnCanSend(4);
  EXPECT_THAT(peer.Ops(), IsEmpty());
}

TEST_F(ConnectionTest, DataBeforeTheResponseIsABreach) {
  auto made = peer.endpoint.Connect(kPortAny, {4, 1234}, VSOCK_TYPE_STREAM, kConnectTimeout, &user);
  peer.local_port = (*made)->local().port;
  peer.In(VSOCK_OP_RW, 0, "early");
  EXPECT_THAT(peer.Ops(), ElementsAre("REQUEST", "RST"));
  EXPECT_EQ(counters().breach_state, 1u);
  ExpectGone(End::kReset);
}

TEST_F(ConnectionTest, WishesBeforeTheResponseAreKept) {
  auto made = peer.endpoint.Connect(kPortAny, {4, 1234}, VSOCK_TYPE_STREAM, kConnectTimeout, &user);
  (*made)->FinishSending();
  peer.local_port = (*made)->local().port;
  peer.Ops();
  peer.In(VSOCK_OP_RESPONSE);
  EXPECT_THAT(peer.Ops(), ElementsAre("SHUTDOWN:2"));
}

// ---- half-close and close ----

TEST_F(ConnectionTest, HalfCloseOfTheProgramThenOfThePeer) {
  Connection* c = peer.Connect(user);
  c->Send(Bytes("question"));
  c->FinishSending();
  c->FinishSending();
  EXPECT_THAT(peer.Ops(), ElementsAre("RW", "SHUTDOWN:2"));
  EXPECT_EQ(c->SendCapacity(), 0u);
  peer.fwd_cnt = 8;
  peer.In(VSOCK_OP_RW, 0, "answer");
  EXPECT_EQ(user.received, "answer");
  peer.In(VSOCK_OP_SHUTDOWN, kSend);
  EXPECT_EQ(user.finished, 1);
  // Both directions are done: the close, and its acknowledgement.
  EXPECT_THAT(peer.Ops(), ElementsAre("SHUTDOWN:3"));
  EXPECT_EQ(peer.last.fwd_cnt, 6u);
  EXPECT_EQ(c->state(), Connection::State::kClosing);
  peer.In(VSOCK_OP_RST);
  ExpectGone(End::kClean);
  EXPECT_THAT(peer.Ops(), IsEmpty());
}

TEST_F(ConnectionTest, EndOfFileComesBehindAllData) {
  Connection* c = peer.Connect(user);
  user.appetite = 2;
  peer.In(VSOCK_OP_RW, 0, "hello");
  peer.In(VSOCK_OP_RW, 0, "world");
  peer.In(VSOCK_OP_SHUTDOWN, kSend);
  EXPECT_EQ(user.finished, 0);
  EXPECT_EQ(c->buffered(), 8u);
  user.appetite = kNoLimit;
  c->Drain();
  EXPECT_EQ(user.received, "helloworld");
  EXPECT_EQ(user.finished, 1);
  c->Drain();
  EXPECT_EQ(user.finished, 1);
}

TEST_F(ConnectionTest, TheLastBytesTakenAreToldAtOnce) {
  Connection* c = peer.Connect(user);
  user.appetite = 0;
  peer.In(VSOCK_OP_RW, 0, "hello");
  peer.In(VSOCK_OP_SHUTDOWN, kSend);
  EXPECT_THAT(peer.Ops(), IsEmpty());
  user.appetite = kNoLimit;
  c->Drain();
  EXPECT_THAT(peer.Ops(), ElementsAre("CREDIT_UPDATE"));
  EXPECT_EQ(peer.last.fwd_cnt, 5u);
}

TEST_F(ConnectionTest, ClosedByThePeerIsAnsweredOnceAllIsTaken) {
  Connection* c = peer.Connect(user);
  user.appetite = 1;
  peer.In(VSOCK_OP_RW, 0, "hello");
  peer.In(VSOCK_OP_SHUTDOWN, kBoth);
  EXPECT_EQ(user.stopped, 1);
  EXPECT_EQ(user.end, std::nullopt);
  EXPECT_EQ(c->SendCapacity(), 0u);
  EXPECT_THAT(peer.Ops(), IsEmpty());
  user.appetite = kNoLimit;
  c->Drain();
  EXPECT_EQ(user.received, "hello");
  EXPECT_EQ(user.finished, 1);
  EXPECT_THAT(peer.Ops(), ElementsAre("RST"));
  EXPECT_EQ(peer.last.fwd_cnt, 5u);
  ExpectGone(End::kClean);
}

TEST_F(ConnectionTest, ClosedByThePeerWithDataUntakenIsAReset) {
  Connection* c = peer.Connect(user);
  c->Send(Bytes("nobody reads this"));
  peer.fwd_cnt = 16;
  peer.In(VSOCK_OP_SHUTDOWN, kBoth);
  EXPECT_EQ(user.finished, 1);
  ExpectGone(End::kReset);
}

TEST_F(ConnectionTest, TheProgramLeavesEntirely) {
  Connection* c = peer.Connect(user);
  user.appetite = 0;
  peer.In(VSOCK_OP_RW, 0, "unwanted");
  c->StopReading();
  EXPECT_THAT(peer.Ops(), ElementsAre("SHUTDOWN:1"));
  c->FinishSending();
  EXPECT_THAT(peer.Ops(), ElementsAre("SHUTDOWN:3"));
  // Never counted as taken, so that the peer learns of its loss.
  EXPECT_EQ(peer.last.fwd_cnt, 0u);
  EXPECT_EQ(c->buffered(), 0u);
  peer.In(VSOCK_OP_RW, 0, "still under way");
  EXPECT_EQ(user.received, "");
  peer.In(VSOCK_OP_RST);
  ExpectGone(End::kClean);
  EXPECT_EQ(user.finished, 0);
}

TEST_F(ConnectionTest, AnUnansweredCloseEndsAfterItsTimeout) {
  Connection* c = peer.Connect(user);
  c->Send(Bytes("12345"));
  c->FinishSending();
  c->StopReading();
  peer.Ops();
  peer.Advance(kCloseTimeout - absl::Nanoseconds(1));
  EXPECT_EQ(user.end, std::nullopt);
  peer.Advance(absl::Nanoseconds(1));
  EXPECT_THAT(peer.Ops(), ElementsAre("RST"));
  ExpectGone(End::kReset);
}

TEST_F(ConnectionTest, AnUnansweredCloseIsCleanIfAllWasTaken) {
  Connection* c = peer.Connect(user);
  c->Send(Bytes("12345"));
  c->FinishSending();
  c->StopReading();
  peer.fwd_cnt = 5;
  peer.In(VSOCK_OP_CREDIT_UPDATE);
  peer.Advance(kCloseTimeout);
  ExpectGone(End::kClean);
}

TEST_F(ConnectionTest, ASlowReaderAtTheEndIsWaitedFor) {
  Connection* c = peer.Connect(user);
  c->Send(Bytes("12345"));
  c->FinishSending();
  peer.In(VSOCK_OP_SHUTDOWN, kSend);
  EXPECT_EQ(user.finished, 1);
  EXPECT_THAT(peer.Ops(), ElementsAre("RW", "SHUTDOWN:2"));
  // No close before the peer has all, however long it takes; it is asked, as it may not tell.
  peer.Advance(2 * kCloseTimeout);
  EXPECT_THAT(peer.Ops(), ElementsAre("CREDIT_REQUEST"));
  EXPECT_EQ(c->state(), Connection::State::kConnected);
  peer.fwd_cnt = 5;
  peer.In(VSOCK_OP_CREDIT_UPDATE);
  EXPECT_THAT(peer.Ops(), ElementsAre("SHUTDOWN:3"));
  peer.In(VSOCK_OP_RST);
  ExpectGone(End::kClean);
}

TEST_F(ConnectionTest, ACloseThatTimesOutOnABlockedCarrierIsNoError) {
  Connection* c = peer.Connect(user);
  peer.link.can_send = false;
  c->FinishSending();
  c->StopReading();
  peer.Advance(kCloseTimeout);
  ExpectGone(End::kClean);
  peer.link.can_send = true;
  peer.endpoint.OnCanSend(4);
  EXPECT_THAT(peer.Ops(), ElementsAre("SHUTDOWN:3", "RST"));
}

TEST_F(ConnectionTest, SimultaneousClose) {
  Connection* c = peer.Connect(user);
  c->Send(Bytes("a"));
  c->FinishSending();
  c->StopReading();
  EXPECT_THAT(peer.Ops(), ElementsAre("RW", "SHUTDOWN:2", "SHUTDOWN:3"));
  peer.fwd_cnt = 1;
  peer.In(VSOCK_OP_SHUTDOWN, kBoth);
  EXPECT_THAT(peer.Ops(), ElementsAre("RST"));
  ExpectGone(End::kClean);
  peer.In(VSOCK_OP_RST);
  EXPECT_THAT(peer.Ops(), IsEmpty());
}

TEST_F(ConnectionTest, ThePeerStopsReading) {
  Connection* c = peer.Connect(user);
  peer.In(VSOCK_OP_SHUTDOWN, VSOCK_SHUTDOWN_RCV);
  peer.In(VSOCK_OP_SHUTDOWN, VSOCK_SHUTDOWN_RCV);
  EXPECT_EQ(user.stopped, 1);
  EXPECT_EQ(c->SendCapacity(), 0u);
  peer.In(VSOCK_OP_RW, 0, "it still sends");
  EXPECT_EQ(user.received, "it still sends");
  EXPECT_EQ(user.end, std::nullopt);
}

// ---- a user that cannot see what its program has read ----

TEST_F(ConnectionTest, AHeldByteIsToldOnlyWhenConfirmed) {
  Connection* c = peer.Connect(user);
  c->HoldLastByte();
  c->FinishSending();
  peer.In(VSOCK_OP_RW, 0, "12345");
  peer.In(VSOCK_OP_SHUTDOWN, kSend);
  EXPECT_EQ(user.finished, 1);
  peer.Ops();
  // A peer that has finished asks whether all was taken: it was not.
  peer.In(VSOCK_OP_CREDIT_REQUEST);
  EXPECT_THAT(peer.Ops(), ElementsAre("CREDIT_UPDATE"));
  EXPECT_EQ(peer.last.fwd_cnt, 4u);
  c->ConfirmTaken();
  EXPECT_THAT(peer.Ops(), ElementsAre("SHUTDOWN:3"));
  EXPECT_EQ(peer.last.fwd_cnt, 5u);
}

TEST_F(ConnectionTest, AHeldByteIsNeverToldOfAProgramThatLeaves) {
  Connection* c = peer.Connect(user);
  c->HoldLastByte();
  peer.In(VSOCK_OP_RW, 0, "12345");
  c->FinishSending();
  c->StopReading();
  EXPECT_EQ(peer.Ops().back(), "SHUTDOWN:3");
  EXPECT_EQ(peer.last.fwd_cnt, 4u);
}

// One byte less never stops a stream; but it may ask and then send no more.
TEST_F(ConnectionTest, AStreamsPeerThatAsksIsNotToldOfTheHeldByte) {
  Connection* c = peer.Connect(user);
  c->HoldLastByte();
  peer.In(VSOCK_OP_RW, 0, "12345");
  peer.In(VSOCK_OP_CREDIT_REQUEST);
  EXPECT_THAT(peer.Ops(), ElementsAre("CREDIT_UPDATE"));
  EXPECT_EQ(peer.last.fwd_cnt, 4u);
}

TEST_F(ConnectionTest, AHeldByteThatAMessageMayNeedIsToldAndTakenBack) {
  Connection* c = peer.Connect(user, VSOCK_TYPE_SEQPACKET);
  c->HoldLastByte();
  peer.In(VSOCK_OP_RW, VSOCK_SEQ_EOM, "12345");
  peer.In(VSOCK_OP_CREDIT_REQUEST);
  EXPECT_THAT(peer.Ops(), ElementsAre("CREDIT_UPDATE"));
  EXPECT_EQ(peer.last.fwd_cnt, 5u);
  // The end waits for the program nevertheless, and if that leaves, the peer learns of it.
  c->FinishSending();
  peer.In(VSOCK_OP_SHUTDOWN, kSend);
  EXPECT_THAT(peer.Ops(), ElementsAre("SHUTDOWN:2"));
  c->StopReading();
  EXPECT_EQ(peer.Ops().back(), "SHUTDOWN:3");
  EXPECT_EQ(peer.last.fwd_cnt, 4u);
  peer.In(VSOCK_OP_CREDIT_REQUEST);
  peer.Ops();
  EXPECT_EQ(peer.last.fwd_cnt, 4u);
}

TEST_F(ConnectionTest, APeerThatReadsNoMoreMayTakeBackWhatItTold) {
  for (const uint16_t op : {VSOCK_OP_RST, VSOCK_OP_SHUTDOWN}) {
    TestUser program;
    peer.fwd_cnt = 0;
    Connection* c = peer.Connect(program);
    c->Send(Bytes("12345"));
    c->FinishSending();
    peer.fwd_cnt = 5;
    peer.In(VSOCK_OP_CREDIT_UPDATE);
    peer.In(VSOCK_OP_SHUTDOWN, kSend);
    peer.fwd_cnt = 4;
    peer.In(op, op == VSOCK_OP_RST ? 0 : kSend | VSOCK_SHUTDOWN_RCV);
    if (op == VSOCK_OP_SHUTDOWN) peer.In(VSOCK_OP_RST);
    EXPECT_EQ(program.end, End::kReset) << op;
  }
}

TEST_F(ConnectionTest, ABlankResetTakesNothingBack) {
  Connection* c = peer.Connect(user);
  c->Send(Bytes("12345"));
  c->FinishSending();
  peer.fwd_cnt = 5;
  peer.In(VSOCK_OP_SHUTDOWN, kSend);
  peer.fwd_cnt = 0;
  peer.buf_alloc = 0;
  peer.In(VSOCK_OP_RST);
  EXPECT_EQ(user.end, End::kClean);
}

// It stops from inside OnMessage(), and so never says that it has read that message.
TEST_F(ConnectionTest, AMessageTakenWhileTheProgramStopsIsNotTold) {
  Connection* c = peer.Connect(user, VSOCK_TYPE_SEQPACKET);
  c->HoldLastByte();
  user.on_data = [](Connection& connection) { connection.StopReading(); };
  peer.In(VSOCK_OP_RW, VSOCK_SEQ_EOM, "12345");
  peer.In(VSOCK_OP_CREDIT_REQUEST);
  peer.Ops();
  EXPECT_EQ(peer.last.op, VSOCK_OP_CREDIT_UPDATE);
  EXPECT_EQ(peer.last.fwd_cnt, 4u);
}

// ---- reset ----

TEST_F(ConnectionTest, AResetIsNoEndOfFile) {
  Connection* c = peer.Connect(user);
  user.appetite = 2;
  peer.In(VSOCK_OP_RW, 0, "hello");
  EXPECT_EQ(c->buffered(), 3u);
  peer.In(VSOCK_OP_RST);
  EXPECT_EQ(user.received, "he");
  EXPECT_EQ(user.finished, 0);
  ExpectGone(End::kReset);
}

TEST_F(ConnectionTest, AResetBehindShutdownLeavesWhatIsKept) {
  Connection* c = peer.Connect(user);
  c->FinishSending();
  user.appetite = 2;
  peer.In(VSOCK_OP_RW, 0, "hello");
  peer.In(VSOCK_OP_SHUTDOWN, kSend);
  peer.In(VSOCK_OP_RST);
  EXPECT_EQ(c->state(), Connection::State::kDraining);
  EXPECT_EQ(user.end, std::nullopt);
  EXPECT_EQ(peer.endpoint.connections(), 1u);
  // The carrier may go: all data is here.
  peer.endpoint.OnPeerReset(4);
  EXPECT_EQ(user.end, std::nullopt);
  user.appetite = kNoLimit;
  c->Drain();
  EXPECT_EQ(user.received, "hello");
  EXPECT_EQ(user.finished, 1);
  ExpectGone(End::kClean);
  EXPECT_EQ(counters().reset_sent, 0u);
}

TEST_F(ConnectionTest, AResetBehindShutdownWhileTheProgramStillSendsIsAnError) {
  peer.Connect(user);
  peer.In(VSOCK_OP_SHUTDOWN, kSend);
  EXPECT_EQ(user.finished, 1);
  peer.In(VSOCK_OP_RST);
  ExpectGone(End::kReset);
}

TEST_F(ConnectionTest, ADrainingAddressIsFreeAgain) {
  Connection* c = peer.Connect(user);
  c->FinishSending();
  user.appetite = 0;
  peer.In(VSOCK_OP_RW, 0, "kept");
  peer.In(VSOCK_OP_SHUTDOWN, kSend);
  peer.In(VSOCK_OP_RST);
  TestUser again;
  ASSERT_TRUE(
      peer.endpoint.Connect(peer.local_port, {4, 1234}, VSOCK_TYPE_STREAM, kConnectTimeout, &again)
          .ok());
  peer.In(VSOCK_OP_RESPONSE);
  peer.In(VSOCK_OP_RW, 0, "new");
  EXPECT_EQ(again.received, "new");
  c->StopReading();
  EXPECT_EQ(user.end, End::kClean);
  EXPECT_EQ(user.received, "");
  EXPECT_EQ(again.end, std::nullopt);
}

TEST_F(ConnectionTest, ABlankResetAfterAllWasTakenIsClean) {
  Connection* c = peer.Connect(user);
  c->Send(Bytes("12345"));
  peer.fwd_cnt = 5;
  peer.In(VSOCK_OP_CREDIT_UPDATE);
  c->FinishSending();
  c->StopReading();
  Header blank = peer.Packet(VSOCK_OP_RST);
  blank.fwd_cnt = 0;
  blank.buf_alloc = 0;
  peer.In(blank);
  ExpectGone(End::kClean);
}

TEST_F(ConnectionTest, TheResetTellsWhatWasTaken) {
  for (const bool all : {false, true}) {
    TestUser program;
    Connection* c = peer.Connect(program);
    c->Send(Bytes("12345"));
    c->FinishSending();
    c->StopReading();
    peer.fwd_cnt = all ? 5 : 4;
    peer.In(VSOCK_OP_RST);
    EXPECT_EQ(program.end, all ? End::kClean : End::kReset);
    peer.fwd_cnt = 0;
  }
}

TEST_F(ConnectionTest, LocalResetTellsThePeer) {
  Connection* c = peer.Connect(user);
  c->Reset();
  EXPECT_THAT(peer.Ops(), ElementsAre("RST"));
  ExpectGone(End::kLocal);
}

// ---- breaches ----

TEST_F(ConnectionTest, DataBehindShutdownIsABreach) {
  peer.Connect(user);
  peer.In(VSOCK_OP_SHUTDOWN, kSend);
  peer.In(VSOCK_OP_RW, 0, "x");
  EXPECT_THAT(peer.Ops(), ElementsAre("RST"));
  EXPECT_EQ(counters().breach_state, 1u);
  EXPECT_EQ(user.received, "");
  ExpectGone(End::kReset);
}

TEST_F(ConnectionTest, ASecondRequestIsABreach) {
  peer.Connect(user);
  peer.In(VSOCK_OP_REQUEST);
  EXPECT_THAT(peer.Ops(), ElementsAre("RST"));
  EXPECT_EQ(counters().breach_state, 1u);
  ExpectGone(End::kReset);
}

TEST_F(ConnectionTest, ASecondResponseIsABreach) {
  peer.Connect(user);
  peer.In(VSOCK_OP_RESPONSE);
  EXPECT_EQ(counters().breach_state, 1u);
  ExpectGone(End::kReset);
}

TEST_F(ConnectionTest, AnotherTypeIsABreach) {
  peer.Connect(user);
  Header header = peer.Packet(VSOCK_OP_RW);
  header.type = VSOCK_TYPE_SEQPACKET;
  peer.In(header, "x");
  EXPECT_EQ(counters().breach_state, 1u);
  ExpectGone(End::kReset);
}

TEST_F(ConnectionTest, AnUnknownOperationIsABreach) {
  peer.Connect(user);
  peer.In(99);
  EXPECT_THAT(peer.Ops(), ElementsAre("RST"));
  EXPECT_EQ(counters().drop_op, 1u);
  ExpectGone(End::kReset);
}

TEST_F(ConnectionTest, AMessageCutOffByEndOfFileIsABreach) {
  peer.Connect(user, VSOCK_TYPE_SEQPACKET);
  peer.In(VSOCK_OP_RW, 0, "half");
  peer.In(VSOCK_OP_SHUTDOWN, kSend);
  EXPECT_EQ(counters().breach_state, 1u);
  EXPECT_EQ(user.finished, 0);
  ExpectGone(End::kReset);
}

TEST_F(ConnectionTest, ABreachTouchesNoOtherConnection) {
  TestUser healthy;
  peer.Connect(healthy);
  const uint32_t healthy_port = peer.local_port;
  peer.Connect(user);
  peer.In(VSOCK_OP_REQUEST);
  EXPECT_EQ(user.end, End::kReset);
  peer.local_port = healthy_port;
  peer.In(VSOCK_OP_RW, 0, "x");
  EXPECT_EQ(healthy.received, "x");
}

// ---- SEQPACKET ----

TEST_F(ConnectionTest, MessagesAreSplitAndPutTogether) {
  Connection* c = peer.Connect(user, VSOCK_TYPE_SEQPACKET);
  peer.link.max_payload = 4;
  c->SendMessage(Bytes("0123456789"), false);
  c->SendMessage(Bytes("abcd"), true);
  c->SendMessage(Bytes(""), false);
  EXPECT_THAT(peer.Ops(), ElementsAre("RW", "RW", "RW:1", "RW:3", "RW:1"));
  peer.In(VSOCK_OP_RW, 0, "one ");
  peer.In(VSOCK_OP_RW, 0, "mess");
  peer.In(VSOCK_OP_RW, VSOCK_SEQ_EOM, "age");
  peer.In(VSOCK_OP_RW, VSOCK_SEQ_EOM | VSOCK_SEQ_EOR, "record");
  peer.In(VSOCK_OP_RW, VSOCK_SEQ_EOM);
  EXPECT_THAT(user.messages, ElementsAre("one message", "record", ""));
  EXPECT_THAT(user.records, ElementsAre(false, true, false));
}

TEST_F(ConnectionTest, MessagesAreKeptWhole) {
  Connection* c = peer.Connect(user, VSOCK_TYPE_SEQPACKET);
  user.appetite = 1;
  peer.In(VSOCK_OP_RW, VSOCK_SEQ_EOM, "1");
  peer.In(VSOCK_OP_RW, VSOCK_SEQ_EOM, "two");
  peer.In(VSOCK_OP_RW, VSOCK_SEQ_EOM, "");
  peer.In(VSOCK_OP_RW, 0, "thr");
  EXPECT_THAT(user.messages, ElementsAre("1"));
  EXPECT_EQ(c->buffered(), 6u);
  user.appetite = kNoLimit;
  c->Drain();
  EXPECT_THAT(user.messages, ElementsAre("1", "two", ""));
  peer.In(VSOCK_OP_RW, VSOCK_SEQ_EOM | VSOCK_SEQ_EOR, "ee");
  EXPECT_THAT(user.messages, ElementsAre("1", "two", "", "three"));
  EXPECT_EQ(user.records.back(), true);
  EXPECT_EQ(c->buffered(), 0u);
}

}  // namespace
}  // namespace argosy::packet
