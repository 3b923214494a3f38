// SPDX-License-Identifier: Apache-2.0
// Whole machines in one thread: no daemon, no clock.
#include "sim/machine.h"

#include <algorithm>
#include <cerrno>
#include <deque>
#include <string>

#include "gtest/gtest.h"
#include "transport/error.h"
#include "transport/packet/endpoint.h"

namespace argosy::sim {
namespace {

using packet::Connection;
using packet::End;
using packet::Payload;

// A program that keeps what it gets.
class Program : public packet::ConnectionUser, public packet::ListenerUser {
 public:
  void OnConnected(Connection&) override { connected = true; }
  size_t OnData(Connection&, const Payload& data) override {
    const size_t old = received.size();
    received.resize(old + data.size());
    data.CopyTo(reinterpret_cast<uint8_t*>(received.data()) + old);
    return data.size();
  }
  bool OnMessage(Connection& c, const Payload& message, bool) override {
    OnData(c, message);
    return true;
  }
  void OnCanSend(Connection&) override {}
  void OnPeerFinished(Connection&) override { finished = true; }
  void OnPeerStoppedReading(Connection&) override {}
  void OnEnded(Connection&, End e) override {
    ended = true;
    end = e;
    connection = nullptr;
  }
  packet::ConnectionUser* OnIncoming(Connection& c) override {
    connection = &c;
    return this;
  }

  Connection* connection = nullptr;
  bool connected = false, finished = false, ended = false;
  End end = End::kClean;
  std::string received;
};

class MachineTest : public testing::Test {
 protected:
  MachineTest() : machine_({}) {
    machine_.Advance(now_);
    for (uint16_t domid = 0; domid < 3; ++domid)
      EXPECT_TRUE(machine_.Create({.domid = domid}).ok());
    Settle();
  }

  // Runs until nothing is pending and no timer is due.
  void Settle() {
    do {
      machine_.Advance(now_);
      while (machine_.Run()) {
      }
    } while (machine_.NextDeadline() <= now_);
  }
  void Sleep(absl::Duration d) {
    const absl::Time until = now_ + d;
    while (now_ < until) {
      now_ = std::min(until, std::max(machine_.NextDeadline(), now_ + absl::Milliseconds(1)));
      Settle();
    }
  }

  // Connects domain `from` to `to`; both programs are connected.
  void Connect(uint16_t from, uint16_t to, Program* client, Program* server) {
    auto port = machine_.Find(to)->endpoint().Listen(kPortAny, VSOCK_TYPE_STREAM, 10, server);
    ASSERT_TRUE(port.ok()) << port.status();
    auto c = machine_.Find(from)->endpoint().Connect(kPortAny, {to + 2u, *port}, VSOCK_TYPE_STREAM,
                                                     absl::Seconds(2), client);
    ASSERT_TRUE(c.ok()) << c.status();
    client->connection = *c;
    Settle();
    ASSERT_TRUE(client->connected);
    ASSERT_NE(server->connection, nullptr);
    machine_.Find(to)->endpoint().Accepted(*server->connection);
  }

  static Payload Bytes(const std::string& text) {
    return Payload(absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(text.data()), text.size()));
  }

  // A program that outlives the machine, as its connections may not end before.
  Program& NewProgram() { return programs_.emplace_back(); }

  std::deque<Program> programs_;
  Machine machine_;
  absl::Time now_ = absl::UnixEpoch();
};

TEST_F(MachineTest, BytesCrossEveryPairOfDomains) {
  for (uint16_t from = 0; from < 3; ++from) {
    for (uint16_t to = 0; to < 3; ++to) {
      Program &client = NewProgram(), &server = NewProgram();
      Connect(from, to, &client, &server);
      client.connection->Send(Bytes("there"));
      server.connection->Send(Bytes("back"));
      Settle();
      EXPECT_EQ(server.received, "there") << from << to;
      EXPECT_EQ(client.received, "back") << from << to;
      client.connection->FinishSending();
      server.connection->FinishSending();
      Settle();
      EXPECT_TRUE(client.ended && server.ended);
      EXPECT_EQ(client.end, End::kClean);
      EXPECT_EQ(server.end, End::kClean);
    }
  }
}

TEST_F(MachineTest, ALargeStreamCrossesWholeAndInOrder) {
  Program &client = NewProgram(), &server = NewProgram();
  Connect(1, 0, &client, &server);
  std::string sent;
  while (sent.size() < 8u << 20) {
    const size_t room = client.connection->SendCapacity();
    ASSERT_GT(room, 0u);
    std::string piece(room, static_cast<char>('a' + sent.size() % 26));
    client.connection->Send(Bytes(piece));
    sent += piece;
    Settle();
  }
  EXPECT_TRUE(server.received == sent);
}

TEST_F(MachineTest, KilledDomainResetsItsPeersAtOnce) {
  Program &client = NewProgram(), &server = NewProgram();
  Program &other_client = NewProgram(), &other_server = NewProgram();
  Connect(1, 0, &client, &server);
  Connect(2, 0, &other_client, &other_server);
  ASSERT_TRUE(machine_.Kill(1).ok());
  Settle();
  EXPECT_TRUE(server.ended);
  EXPECT_EQ(server.end, End::kCarrierLost);
  EXPECT_FALSE(other_server.ended);
  other_client.connection->Send(Bytes("alive"));
  Settle();
  EXPECT_EQ(other_server.received, "alive");
}

TEST_F(MachineTest, RestartedDomainIsReachableAgain) {
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(machine_.Kill(1).ok());
    ASSERT_TRUE(machine_.Create({.domid = 1}).ok());
    Sleep(absl::Seconds(3));
    Program &client = NewProgram(), &server = NewProgram();
    Connect(0, 1, &client, &server);
    client.connection->Send(Bytes("x"));
    Settle();
    EXPECT_EQ(server.received, "x");
  }
}

TEST_F(MachineTest, SmallRingsStillCarryEverything) {
  ASSERT_TRUE(machine_.Create({.domid = 9, .ring_size = 4096}).ok());
  Settle();
  Program &client = NewProgram(), &server = NewProgram();
  Connect(0, 9, &client, &server);
  std::string sent(200 * 1024, 'z');
  for (size_t done = 0; done < sent.size();) {
    const size_t room = std::min(client.connection->SendCapacity(), sent.size() - done);
    if (room > 0) client.connection->Send(Bytes(sent.substr(done, room)));
    done += room;
    Settle();
    if (room == 0) Sleep(absl::Milliseconds(1));
  }
  Settle();
  EXPECT_TRUE(server.received == sent);
}

// Found by simulation (seed 18756): what a late probe reads was handled with the time before the
// sleep, and a time-out that began with it was over at once.
TEST_F(MachineTest, APacketThatWasFoundLateMeetsTheTimeOfNow) {
  Program &client = NewProgram(), &server = NewProgram();
  Connect(1, 2, &client, &server);
  server.connection->FinishSending();
  Settle();
  ASSERT_TRUE(client.finished);
  // Domain 2 finds the client's last words a minute later, and closes; the answer may take 8 s.
  client.connection->Send(Bytes("x"));
  client.connection->FinishSending();
  machine_.Find(2)->LoseInterrupt();
  machine_.Find(1)->set_paused(true);
  now_ += absl::Minutes(1);
  machine_.Advance(now_);
  ASSERT_FALSE(server.ended);
  EXPECT_EQ(server.received, "x");
  EXPECT_EQ(server.connection->state(), Connection::State::kClosing);
  machine_.Find(1)->set_paused(false);
  Settle();
  EXPECT_EQ(server.end, End::kClean);
  EXPECT_EQ(client.end, End::kClean);
  EXPECT_TRUE(client.ended && server.ended);
}

TEST_F(MachineTest, RefusesWhatCannotBe) {
  EXPECT_EQ(ErrnoOf(machine_.Create({.domid = 0}).status()), EEXIST);
  ASSERT_TRUE(machine_.Create({.domid = 5, .name = "web"}).ok());
  EXPECT_EQ(ErrnoOf(machine_.Create({.domid = 6, .name = "web"}).status()), EEXIST);
  EXPECT_EQ(ErrnoOf(machine_.Create({.domid = 6, .name = "dom1"}).status()), EINVAL);
  EXPECT_EQ(ErrnoOf(machine_.Create({.domid = 0x7FF0}).status()), EINVAL);
  EXPECT_EQ(ErrnoOf(machine_.Create({.domid = 6, .ring_size = 100}).status()), EINVAL);
  EXPECT_EQ(ErrnoOf(machine_.Kill(77)), ENODEV);
}

TEST_F(MachineTest, FindsByNameAndDomid) {
  EXPECT_EQ(machine_.Find("dom1"), machine_.Find(uint16_t{1}));
  EXPECT_EQ(machine_.Find("1"), machine_.Find(uint16_t{1}));
  for (const char* name : {"", "dom", "dom99", "dom1x", "99999999999", "domdom1"})
    EXPECT_EQ(machine_.Find(name), nullptr);
}

TEST_F(MachineTest, IsQuietWhenIdle) {
  Sleep(absl::Seconds(5));
  const uint64_t sends = machine_.hypervisor().counters().sends;
  Sleep(absl::Seconds(60));
  EXPECT_EQ(machine_.hypervisor().counters().sends, sends);
  // Nothing but the probes of each second.
  EXPECT_GE(machine_.NextDeadline(), now_ + absl::Milliseconds(1));
}

}  // namespace
}  // namespace argosy::sim
