// SPDX-License-Identifier: Apache-2.0
// File: transport/packet/test_users.h
//
// Programs that tests control: they note what they are told, and take as much as the test allows.
#ifndef ARGOSY_TRANSPORT_PACKET_TEST_USERS_H_
#define ARGOSY_TRANSPORT_PACKET_TEST_USERS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "transport/packet/endpoint.h"

namespace argosy::packet {

inline Payload Bytes(const std::string& text) {
  return absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(text.data()), text.size());
}

inline std::string Text(const Payload& payload) {
  std::string text(payload.size(), '\0');
  payload.CopyTo(reinterpret_cast<uint8_t*>(text.data()));
  return text;
}

inline constexpr size_t kNoLimit = std::numeric_limits<size_t>::max();

class TestUser : public ConnectionUser {
 public:
  void OnConnected(Connection& c) override {
    connection = &c;
    ++connected;
    if (on_connected) on_connected(c);
  }
  size_t OnData(Connection& c, const Payload& data) override {
    const size_t n = std::min(data.size(), appetite);
    if (appetite != kNoLimit) appetite -= n;
    received += Text(data.Prefix(n));
    if (on_data) on_data(c);
    return n;
  }
  bool OnMessage(Connection& c, const Payload& message, bool end_of_record) override {
    if (appetite == 0) return false;
    if (appetite != kNoLimit) --appetite;
    messages.push_back(Text(message));
    records.push_back(end_of_record);
    if (on_data) on_data(c);
    return true;
  }
  void OnCanSend(Connection& c) override {
    ++can_send;
    if (on_can_send) on_can_send(c);
  }
  void OnPeerFinished(Connection& c) override {
    ++finished;
    if (on_finished) on_finished(c);
  }
  void OnPeerStoppedReading(Connection& c) override {
    ++stopped;
    if (on_stopped) on_stopped(c);
  }
  void OnEnded(Connection& c, End how) override {
    ++ends;
    end = how;
    connection = nullptr;
    if (on_ended) on_ended(c);
  }

  Connection* connection = nullptr;
  // Bytes of a stream, or messages, that it takes.
  size_t appetite = kNoLimit;
  std::string received;
  std::vector<std::string> messages;
  std::vector<bool> records;
  int connected = 0;
  int can_send = 0;
  int finished = 0;
  int stopped = 0;
  int ends = 0;
  std::optional<End> end;
  std::function<void(Connection&)> on_connected, on_data, on_can_send, on_finished, on_stopped,
      on_ended;
};

// Gives each connection a TestUser of its own.
class TestListener : public ListenerUser {
 public:
  ConnectionUser* OnIncoming(Connection& c) override {
    users.push_back(std::make_unique<TestUser>());
    TestUser& user = *users.back();
    user.connection = &c;
    if (on_incoming) on_incoming(c, user);
    return &user;
  }
  TestUser& last() { return *users.back(); }

  std::vector<std::unique_ptr<TestUser>> users;
  std::function<void(Connection&, TestUser&)> on_incoming;
};

class TestBudget : public Endpoint::Budget {
 public:
  bool Reserve(size_t bytes) override {
    if (bytes > limit - used) return false;
    used += bytes;
    return true;
  }
  void Release(size_t bytes) override { used -= bytes; }

  size_t limit = kNoLimit;
  size_t used = 0;
};

// A carrier of which the test is the other end.
class RawLink : public Link {
 public:
  struct Sent {
    Header header;
    std::string payload;
  };

  Reach Reaches(uint64_t) const override { return reach; }
  bool CanSend(uint64_t) const override { return can_send; }
  void Send(const Header& header, const Payload& payload) override {
    sent.push_back({header, Text(payload)});
    if (on_send) on_send();
  }
  uint32_t MaxPayload(uint64_t) const override { return max_payload; }

  // What was sent since the last call.
  std::vector<Sent> Take() { return std::exchange(sent, {}); }

  Reach reach = Reach::kUp;
  bool can_send = true;
  uint32_t max_payload = VSOCK_MAX_PAYLOAD;
  std::vector<Sent> sent;
  std::function<void()> on_send;
};

}  // namespace argosy::packet

#endif  // ARGOSY_TRANSPORT_PACKET_TEST_USERS_H_
