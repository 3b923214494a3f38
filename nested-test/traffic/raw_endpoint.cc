// SPDX-License-Identifier: Apache-2.0
// argosy-raw-endpoint: the packet engine of //transport/packet as one domain's end of the Argo link,
// over /dev/argo_raw.  The other end is the kernel module of another domain: two implementations of
// one protocol.
//   argosy-raw-endpoint DOMID                    echoes: STREAM at 5000, SEQPACKET at 5001; resets
//                                                each connection to 5002 at its first byte
//   argosy-raw-endpoint DOMID PORT COUNT BYTES   opens COUNT connections to an echo there, and sends
//                                                BYTES over each
// Exit codes: 0; 1: a connection failed, or other bytes came back; 2: usage.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "nested-test/traffic/raw_link.h"
#include "transport/conformance/pattern.h"
#include "transport/packet/endpoint.h"

namespace argosy::nested {
namespace {

using packet::Connection;
using packet::ConnectionUser;
using packet::End;
using packet::Endpoint;
using packet::Payload;

constexpr uint32_t kStreamPort = 5000, kSeqpacketPort = 5001, kResetPort = 5002;
constexpr int kBacklog = 1024;
// The device cannot wake a program.
constexpr useconds_t kTurn = 500;

int Fail(const absl::Status& status) {
  fprintf(stderr, "argosy-raw-endpoint: %s\n", std::string(status.message()).c_str());
  return 1;
}

// Sends back what comes, and ends when the peer does.  One for all connections: it remembers nothing.
class Echo : public ConnectionUser {
 public:
  void OnConnected(Connection&) override {}
  size_t OnData(Connection& c, const Payload& data) override {
    size_t done = 0;
    while (done < data.size()) {
      const size_t n = std::min(data.size() - done, c.SendCapacity());
      if (n == 0) break;
      c.Send(data.Skip(done).Prefix(n));
      done += n;
    }
    return done;
  }
  bool OnMessage(Connection& c, const Payload& message, bool end_of_record) override {
    if (!c.CanSendMessage(message.size())) return false;
    c.SendMessage(message, end_of_record);
    return true;
  }
  void OnCanSend(Connection& c) override { c.Drain(); }
  void OnPeerFinished(Connection& c) override { c.FinishSending(); }
  void OnPeerStoppedReading(Connection&) override {}
  void OnEnded(Connection&, End) override {}
};

class Resetter : public Echo {
 public:
  size_t OnData(Connection& c, const Payload& data) override {
    c.Reset();
    return data.size();
  }
  void OnCanSend(Connection&) override {}
};

class EchoListener : public packet::ListenerUser {
 public:
  EchoListener(std::unique_ptr<Endpoint>& endpoint, ConnectionUser& user)
      : endpoint_(endpoint), user_(user) {}
  ConnectionUser* OnIncoming(Connection& c) override {
    endpoint_->Accepted(c);
    return &user_;
  }

 private:
  std::unique_ptr<Endpoint>& endpoint_;
  ConnectionUser& user_;
};

// One connection of a client: sends its bytes, half-closes, and expects them back and a clean end.
class Sender : public ConnectionUser {
 public:
  Sender(std::vector<uint8_t> bytes, int* left, int* failed)
      : bytes_(std::move(bytes)), left_(left), failed_(failed) {}

  void OnConnected(Connection& c) override { OnCanSend(c); }
  size_t OnData(Connection&, const Payload& data) override {
    std::vector<uint8_t> got(data.size());
    data.CopyTo(got.data());
    const size_t room = bytes_.size() - received_;
    if (got.size() > room || memcmp(got.data(), bytes_.data() + received_, got.size()) != 0) {
      other_bytes_ = true;
    }
    received_ += std::min(got.size(), room);
    return data.size();
  }
  bool OnMessage(Connection&, const Payload&, bool) override { return true; }
  void OnCanSend(Connection& c) override {
    while (sent_ < bytes_.size()) {
      const size_t n = std::min(bytes_.size() - sent_, c.SendCapacity());
      if (n == 0) return;
      c.Send(absl::MakeConstSpan(bytes_).subspan(sent_, n));
      sent_ += n;
    }
    c.FinishSending();
  }
  void OnPeerFinished(Connection&) override { finished_ = true; }
  void OnPeerStoppedReading(Connection&) override {}
  void OnEnded(Connection& c, End end) override {
    --*left_;
    if (end == End::kClean && finished_ && !other_bytes_ && received_ == bytes_.size()) return;
    ++*failed_;
    fprintf(stderr,
            "argosy-raw-endpoint: port %u: end %d, %s end-of-file, %zu of %zu bytes came back%s\n",
            c.local().port, static_cast<int>(end), finished_ ? "after" : "without", received_,
            bytes_.size(), other_bytes_ ? ", other ones" : "");
  }

 private:
  const std::vector<uint8_t> bytes_;
  int* const left_;
  int* const failed_;
  size_t sent_ = 0;
  size_t received_ = 0;
  bool finished_ = false;
  bool other_bytes_ = false;
};

void Turn(RawLink& link, Endpoint& endpoint) {
  endpoint.TellTime(absl::Now());
  const bool more = link.Turn();
  endpoint.Advance(absl::Now());
  if (!more) usleep(kTurn);
}

int Main(int argc, char** argv) {
  uint32_t partner = 0, port = 0, count = 0, size = 0;
  const bool serve = argc == 2;
  const bool usable =
      (serve || argc == 5) && absl::SimpleAtoi(argv[1], &partner) &&
      (serve || (absl::SimpleAtoi(argv[2], &port) && absl::SimpleAtoi(argv[3], &count) &&
                 absl::SimpleAtoi(argv[4], &size)));
  if (!usable) {
    fprintf(stderr, "usage: argosy-raw-endpoint DOMID [PORT COUNT BYTES]\n");
    return 2;
  }
  const auto link = RawLink::Open(static_cast<uint16_t>(partner));
  if (!link.ok()) return Fail(link.status());

  Echo echo;
  Resetter resetter;
  std::unique_ptr<Endpoint> endpoint;
  EchoListener echoes(endpoint, echo), resets(endpoint, resetter);
  endpoint = std::make_unique<Endpoint>(**link, Endpoint::Options{.cid = (*link)->own_cid()});
  (*link)->set_user(endpoint.get());
  const uint32_t peer_cid = partner + RawLink::kCidOffset;
  while ((*link)->Reaches(peer_cid) != packet::Link::Reach::kUp) Turn(**link, *endpoint);

  if (serve) {
    for (const absl::Status& status :
         {endpoint->Listen(kStreamPort, VSOCK_TYPE_STREAM, kBacklog, &echoes).status(),
          endpoint->Listen(kSeqpacketPort, VSOCK_TYPE_SEQPACKET, kBacklog, &echoes).status(),
          endpoint->Listen(kResetPort, VSOCK_TYPE_STREAM, kBacklog, &resets).status()}) {
      if (!status.ok()) return Fail(status);
    }
    printf("argosy-raw-endpoint: serving CID %u at CID %u\n", peer_cid, endpoint->cid());
    fflush(stdout);
    for (;;) Turn(**link, *endpoint);
  }

  int left = static_cast<int>(count), failed = 0;
  std::vector<std::unique_ptr<Sender>> senders;
  for (uint32_t i = 0; i < count; ++i) {
    // Each has its own bytes.
    auto bytes = conformance::Pattern{size, uint64_t{i} << 32}.Bytes();
    senders.push_back(std::make_unique<Sender>(std::move(bytes), &left, &failed));
    const auto connection = endpoint->Connect(kPortAny, {peer_cid, port}, VSOCK_TYPE_STREAM,
                                              absl::Seconds(60), senders.back().get());
    if (!connection.ok()) return Fail(connection.status());
  }
  while (left > 0) Turn(**link, *endpoint);
  printf("argosy-raw-endpoint: %u connections, %u bytes there and back on each, %d failed\n", count,
         size, failed);
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace argosy::nested

int main(int argc, char** argv) { return argosy::nested::Main(argc, argv); }
