// SPDX-License-Identifier: Apache-2.0
// File: sim/simulation/program.h
//
// One end of a connection: a program that sends what can be recognized, reads as its seed tells it
// to, and judges everything that the engine tells it.
//
// It never polls: once the engine said that it cannot send, it waits for OnCanSend().  So a lost
// wake-up is a program that stands still for ever, which the simulation finds at the end.
#ifndef ARGOSY_SIM_SIMULATION_PROGRAM_H_
#define ARGOSY_SIM_SIMULATION_PROGRAM_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sim/simulation/journal.h"
#include "sim/simulation/random.h"
#include "transport/packet/endpoint.h"

namespace argosy::sim {

// Bytes that differ from place to place: byte `offset` of the flow `salt`, and size - 1 more.
// size <= kMaxNoise.
inline constexpr size_t kMaxNoise = packet::kDefaultBufAlloc;
absl::Span<const uint8_t> Noise(uint64_t salt, uint64_t offset, size_t size);
bool IsNoise(uint64_t salt, uint64_t offset, const packet::Payload& payload);

// What the simulation knows about two domains (or a domain and itself).
struct Pair {
  bool hostile = false;  // one of the two is: nothing can be said about what they exchange
  // Scribbled over its ring, and the session with that ring goes on: the lower domid, the higher.
  bool low_spoiled = false, high_spoiled = false;
  uint64_t spoilings = 0;     // beginnings and ends of these
  uint64_t disturbances = 0;  // things that end sessions

  // Whether what they exchange can be judged.
  bool sane() const { return !hostile && !low_spoiled && !high_spoiled; }
};

class Program : public packet::ConnectionUser {
 public:
  enum class Ending {
    kFinish,       // sends all, then end-of-file
    kLeave,        // sends all, then closes without reading on
    kStopReading,  // reads no more at some point, and sends on
    kReset,        // resets at some point
  };
  struct Manners {
    uint64_t goal = 0;        // bytes, or messages, that it sends
    uint32_t size_bits = 10;  // of each write or message
    Ending ending = Ending::kFinish;
    uint64_t ending_at = 0;  // bytes or messages sent, for kStopReading and kReset
    bool eager = false;      // sends on from inside OnCanSend() and OnData()
    bool nibbles = false;    // takes pieces of what is offered
    bool holds = false;      // Connection::HoldLastByte()
    static Manners FromSeed(Random& random, uint16_t type);
  };

  // All outlive it.  `unsettled`: the two domains are between two sessions, so that the connection
  // may be lost without anything new happening.
  Program(Random& random, Journal& journal, packet::Endpoint& endpoint, const Pair& pair,
          bool unsettled, uint16_t type, std::string name);

  // The two ends of one connection know each other.  Without a peer nothing is known about what
  // comes (a hostile domain's connection).
  void Meet(Program* peer) { peer_ = peer; }
  void Begin(packet::Connection* connection, bool accepted);

  // One turn: accepts, reads, sends, perhaps ends.
  void Act();
  // Reads nothing until it happens to wake up.
  void Stall() { stalled_ = true; }
  // From now on it takes everything at once, and sends whenever it can.
  void BeGreedy();
  // It will do nothing but send so much, read all, and finish.
  void BePlain(uint64_t goal) {
    manners_ = {.goal = goal, .size_bits = 13};
    BeGreedy();
  }
  // Whether it ended well.
  bool ended_clean() const { return over_ && !dead_ && end_ == packet::End::kClean; }
  // Has at least this much more to send.
  void Extend(uint64_t by) {
    if (!finished_) manners_.goal = std::max(manners_.goal, Sent() + by);
  }
  // Its domain was killed: no call may come any more.
  void Die();
  // Its listener is about to be closed: without having been accepted it will be reset.
  void ListenerCloses() { local_end_ |= !accepted_; }

  bool over() const { return over_; }
  bool dead() const { return dead_; }
  bool connected() const { return connected_ && !over_; }
  bool finished() const { return finished_; }
  bool wants_to_send() const { return connected() && !finished_ && Sent() < manners_.goal; }
  bool reads() const { return connected() && !stopped_ && !stalled_; }
  uint64_t received() const { return received_; }
  Program* peer() const { return peer_; }
  const packet::Connection* connection() const { return connection_; }
  const packet::Endpoint& endpoint() const { return endpoint_; }
  const Pair& pair() const { return pair_; }
  const std::string& name() const { return name_; }
  // The other side's endpoint had a reason to refuse it.
  void MayBeRefused() { may_be_refused_ = true; }
  // What it stands at, for a finding.
  std::string Describe() const;

  // ConnectionUser
  void OnConnected(packet::Connection& connection) override;
  size_t OnData(packet::Connection& connection, const packet::Payload& data) override;
  bool OnMessage(packet::Connection& connection, const packet::Payload& message,
                 bool end_of_record) override;
  void OnCanSend(packet::Connection& connection) override;
  void OnPeerFinished(packet::Connection& connection) override;
  void OnPeerStoppedReading(packet::Connection& connection) override;
  void OnEnded(packet::Connection& connection, packet::End end) override;

 private:
  struct Message {
    uint32_t size;
    bool end_of_record;
  };

  bool IsStream() const { return type_ == VSOCK_TYPE_STREAM; }
  uint64_t Sent() const { return IsStream() ? sent_ : messages_.size(); }
  // Whether what comes can be judged.
  bool Trusts() const;
  // Every call of the engine begins with it.
  void Called(const char* what);
  void Send();
  bool SendOne();
  void SayFinished();
  // Resets or stops reading if it is time to.
  void Misbehave();
  bool IsExplained(packet::End end) const;
  void CheckCleanEnd();
  // Whether this end has taken all that its peer sent.
  bool HasAllOf(const Program& sender) const;

  Random& random_;
  Journal& journal_;
  packet::Endpoint& endpoint_;
  const Pair& pair_;
  const uint16_t type_;
  const std::string name_;
  const uint64_t salt_;
  Manners manners_;
  const bool unsettled_;
  // Of the pair, when it began.
  const uint64_t spoilings_;
  const uint64_t disturbances_;
  Program* peer_ = nullptr;
  packet::Connection* connection_ = nullptr;

  uint64_t sent_ = 0;              // bytes
  std::vector<Message> messages_;  // sent
  std::optional<uint32_t> next_size_;
  uint64_t received_ = 0;           // bytes taken
  uint64_t received_messages_ = 0;  // messages taken
  uint64_t confirmed_ = 0;          // bytes known to be read (Manners::holds)
  size_t appetite_ = 0;
  bool greedy_ = false;
  bool accepted_ = true;
  bool connected_ = false;
  bool blocked_ = false;
  bool stalled_ = false;
  bool finished_ = false;  // FinishSending()
  absl::Duration finished_at_;
  bool stopped_ = false;    // StopReading()
  bool local_end_ = false;  // it resets, or its listener closes
  bool may_be_refused_ = false;
  bool peer_finished_ = false;
  bool peer_stopped_ = false;
  bool dead_ = false;
  bool over_ = false;
  packet::End end_ = packet::End::kLocal;
};

}  // namespace argosy::sim

#endif  // ARGOSY_SIM_SIMULATION_PROGRAM_H_
