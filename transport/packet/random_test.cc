// SPDX-License-Identifier: Apache-2.0
// Many seeds of random traffic between two endpoints: sizes, slow readers, blocked directions,
// half-closes, and in half of the seeds also resets, programs that leave and sessions that end.
// What must hold whatever happens:
//   - what is received is an exact prefix of what was sent; with OnPeerFinished() it is all of it;
//   - an end that the sender calls clean means that the peer has all;
//   - nobody exceeds credit: the receiver would call it a breach;
//   - everything ends, and the budget is whole again.
// ARGOSY_SEED=n runs one seed.
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "transport/packet/pair.h"
#include "transport/packet/test_users.h"

namespace argosy::packet {
namespace {

constexpr int kSeeds = 200;
constexpr int kSteps = 2500;
constexpr uint32_t kPort = 1234;

// One direction's worth of a program: what it has sent.
struct Program {
  TestUser* user = nullptr;
  std::string sent;
  std::vector<std::string> sent_messages;
  bool finished = false;
  bool left = false;  // stopped reading or reset: what it received proves nothing
};

class Scenario {
 public:
  explicit Scenario(uint32_t seed)
      : random_(seed),
        rude_(seed % 2 == 1),
        type_(seed / 2 % 2 ? VSOCK_TYPE_SEQPACKET : VSOCK_TYPE_STREAM),
        pair_({.cid = 3, .buf_alloc = RandomBuffer()}, {.cid = 4, .buf_alloc = RandomBuffer()}) {}

  void Go() {
    pair_.a().set_budget(&budget_);
    pair_.b().set_budget(&budget_);
    pair_.Advance(absl::Seconds(1));
    pair_.set_max_payload(RandomPayload());
    ASSERT_TRUE(pair_.b().Listen(kPort, type_, 8, &listener_).ok());
    Connect();
    for (int i = 0; i < kSteps && !testing::Test::HasFailure(); ++i) Step();
    End();
  }

 private:
  uint32_t Random(uint32_t n) { return static_cast<uint32_t>(random_() % n); }
  uint32_t RandomBuffer() {
    return std::vector<uint32_t>{4096, 65536, kDefaultBufAlloc}[Random(3)];
  }
  uint32_t RandomPayload() {
    return std::vector<uint32_t>{100, 4096, VSOCK_MAX_PAYLOAD}[Random(3)];
  }
  // Mostly small, sometimes large, sometimes nothing.
  size_t RandomSize() { return Random(uint32_t{1} << Random(17)); }

  void Connect() {
    const int n = 1 + Random(4);
    for (int i = 0; i < n; ++i) {
      clients_.push_back(std::make_unique<TestUser>());
      auto made =
          pair_.a().Connect(kPortAny, {4, kPort}, type_, kConnectTimeout, clients_.back().get());
      ASSERT_TRUE(made.ok()) << made.status();
      pair_.Pump();
    }
    ASSERT_EQ(listener_.users.size(), clients_.size());
    programs_.resize(2 * n);
    for (int i = 0; i < n; ++i) {
      ASSERT_EQ(clients_[i]->connected, 1);
      programs_[2 * i].user = clients_[i].get();
      programs_[2 * i + 1].user = listener_.users[i].get();
      pair_.b().Accepted(*listener_.users[i]->connection);
      if (Random(2) != 0) listener_.users[i]->connection->HoldLastByte();
    }
  }

  void Send(Program& program) {
    Connection* c = program.user->connection;
    if (c == nullptr || program.finished) return;
    std::string text = Noise().substr(Random(Noise().size() / 2), RandomSize());
    if (type_ == VSOCK_TYPE_STREAM) {
      text.resize(std::min(text.size(), c->SendCapacity()));
      c->Send(Bytes(text));
      program.sent += text;
    } else if (c->CanSendMessage(text.size())) {
      c->SendMessage(Bytes(text), Random(2) != 0);
      program.sent_messages.push_back(text);
    }
  }

  static const std::string& Noise() {
    static const std::string noise = [] {
      std::string bytes;
      std::mt19937_64 random(1);
      while (bytes.size() < 256 * 1024) bytes.push_back(static_cast<char>(random()));
      return bytes;
    }();
    return noise;
  }

  void Finish(Program& program) {
    program.finished = true;
    if (program.user->connection != nullptr) program.user->connection->FinishSending();
  }

  void Step() {
    Program& program = programs_[Random(static_cast<uint32_t>(programs_.size()))];
    Connection* c = program.user->connection;
    switch (Random(10)) {
      case 0:
      case 1:
      case 2:
        return Send(program);
      case 3:
      case 4:
        program.user->appetite = Random(4) ? RandomSize() : 0;
        if (c != nullptr && Random(2) != 0) return c->ConfirmTaken();
        if (c != nullptr) c->Drain();
        return;
      case 5:
      case 6:
        for (uint32_t n = Random(20); n > 0; --n) pair_.PumpOne(static_cast<int>(Random(2)));
        return;
      case 7:
        if (Random(10) == 0) pair_.Block(static_cast<int>(Random(2)), Random(2) != 0);
        pair_.Pump();
        return;
      case 8:
        pair_.Advance(absl::Milliseconds(Random(300)));
        return;
      default:
        if (Random(80) == 0) Finish(program);
        if (Random(20) == 0) pair_.set_max_payload(RandomPayload());
        if (rude_) Misbehave(program, c);
    }
  }

  void Misbehave(Program& program, Connection* c) {
    const uint32_t what = Random(120);
    if (what == 0) return pair_.ResetSession();
    if (what > 4 || c == nullptr) return;
    program.left = true;
    if (what <= 2) {
      c->StopReading();
    } else {
      c->Reset();
    }
  }

  // Lets everything come to its end, and checks.
  void End() {
    for (int from : {0, 1}) pair_.Block(from, false);
    for (Program& program : programs_) {
      program.user->appetite = kNoLimit;
      if (program.user->connection != nullptr) program.user->connection->Drain();
    }
    pair_.Pump();
    for (Program& program : programs_) Finish(program);
    pair_.Pump();
    for (Program& program : programs_) {
      if (program.user->connection != nullptr) program.user->connection->ConfirmTaken();
    }
    pair_.Pump();
    pair_.Advance(kCloseTimeout);
    pair_.Pump();
    EXPECT_EQ(pair_.a().connections(), 0u);
    EXPECT_EQ(pair_.b().connections(), 0u);
    EXPECT_EQ(pair_.a().NextDeadline(), absl::InfiniteFuture());
    EXPECT_EQ(pair_.b().NextDeadline(), absl::InfiniteFuture());
    EXPECT_EQ(budget_.used, 0u);
    for (Endpoint* endpoint : {&pair_.a(), &pair_.b()}) {
      EXPECT_EQ(endpoint->counters().breach_credit, 0u);
      EXPECT_EQ(endpoint->counters().breach_state, 0u);
      EXPECT_EQ(endpoint->counters().breach_messages, 0u);
      EXPECT_EQ(endpoint->counters().lost_resets, 0u);
    }
    for (size_t i = 0; i < programs_.size(); ++i) Check(programs_[i], programs_[i ^ 1]);
  }

  // One direction of a connection.
  void Check(const Program& from, const Program& to) {
    ASSERT_EQ(to.user->ends, 1);
    EXPECT_LE(to.user->finished, 1);
    bool all;
    if (type_ == VSOCK_TYPE_STREAM) {
      EXPECT_TRUE(absl::string_view(from.sent).substr(0, to.user->received.size()) ==
                  to.user->received);
      all = from.sent.size() == to.user->received.size();
    } else {
      ASSERT_LE(to.user->messages.size(), from.sent_messages.size());
      EXPECT_TRUE(std::equal(to.user->messages.begin(), to.user->messages.end(),
                             from.sent_messages.begin()));
      all = from.sent_messages.size() == to.user->messages.size();
    }
    if (to.user->finished) {
      EXPECT_TRUE(all) << "end-of-file before the end";
    }
    if (from.user->end == End::kClean) {
      // Zero-length messages move no byte: a peer that leaves may lose them unseen.
      EXPECT_TRUE(all || type_ == VSOCK_TYPE_SEQPACKET) << "a clean end that lost data";
    }
    if (!rude_) {
      EXPECT_TRUE(all);
      EXPECT_EQ(from.user->end, End::kClean);
      EXPECT_EQ(to.user->finished, 1);
    }
  }

  std::mt19937_64 random_;
  const bool rude_;
  const uint16_t type_;
  TestBudget budget_;
  Pair pair_;
  TestListener listener_;
  std::vector<std::unique_ptr<TestUser>> clients_;
  std::vector<Program> programs_;  // client and server of each connection side by side
};

TEST(RandomTest, WhateverHappensTheRulesHold) {
  if (const char* seed = std::getenv("ARGOSY_SEED")) return Scenario(std::atoi(seed)).Go();
  for (uint32_t seed = 0; seed < kSeeds && !HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    Scenario(seed).Go();
  }
}

}  // namespace
}  // namespace argosy::packet
