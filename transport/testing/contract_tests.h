// SPDX-License-Identifier: Apache-2.0
// File: transport/testing/contract_tests.h
//
// The behaviours of the socket contract, written once for every backend.  A backend says how its
// two ends are opened:
//
//   INSTANTIATE_TEST_SUITE_P(Loopback, ContractTest,
//                            testing::Values(ContractSetup{.open = &OpenTwoEnds}));
//
// What a capability denies is skipped and says so.
#ifndef ARGOSY_TRANSPORT_TESTING_CONTRACT_TESTS_H_
#define ARGOSY_TRANSPORT_TESTING_CONTRACT_TESTS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "transport/transport.h"

namespace argosy {

// The two ends between which the tests talk.
struct ContractEnds {
  std::shared_ptr<Transport> server;
  std::shared_ptr<Transport> client;      // may be the same
  std::shared_ptr<void> world = nullptr;  // what they need (a directory, a daemon); goes after them
};

struct ContractSetup {
  std::function<absl::StatusOr<ContractEnds>()> open;
  // A CID that the client's carrier knows to be nobody's; ENODEV is expected.
  uint32_t absent_cid = 4242;
  // Ports below 1024 are refused to a thread without CAP_NET_BIND_SERVICE.  False where a daemon
  // decides, which sees the process: not tested then.
  bool low_ports_by_capability = true;

  // Keeps the bytes of this struct out of the log.
  friend void PrintTo(const ContractSetup&, std::ostream* out) { *out << "its backend"; }
};

class ContractTest : public testing::TestWithParam<ContractSetup> {
 protected:
  void SetUp() override;
  void TearDown() override;

  // Two ends of one connection.
  struct Connection {
    Socket client;
    Socket server;
  };

  Transport& server() { return *ends_.server; }
  Transport& client() { return *ends_.client; }
  uint32_t server_cid() const { return server_cid_; }

  // The connection types that both ends have.
  std::vector<SocketType> Types();
  using Capability = bool Capabilities::*;
  // Whether the client's end has the capability.
  bool Has(Capability capability);

  std::unique_ptr<Listener> Listen(SocketType type, uint32_t port = kPortAny, int backlog = 128);
  absl::StatusOr<Socket> Connect(uint32_t port, SocketType type);
  // How a connection from `local_port` ends: by Transport::Connect() or Connecting::Complete(),
  // whichever says it.
  absl::Status ConnectFrom(uint32_t local_port, uint32_t port);
  Connection Connected(SocketType type);

 private:
  ContractEnds ends_;
  uint32_t server_cid_ = 0;
};

// Far away: a test that waits so long has failed.
absl::Time Far();

// Byte `i` of a stream that shows lost, doubled and swapped parts.
uint8_t PatternAt(uint64_t i);
std::vector<uint8_t> Pattern(size_t size, uint64_t first = 0);

// Sends all of `bytes`; false with a test failure if it cannot.
bool SendAll(int fd, const void* bytes, size_t size);
// Reads until end-of-file.
std::vector<uint8_t> ReadToEnd(int fd);
// One read, as text.  "" at end-of-file; "errno N" if it failed.
std::string ReadSome(int fd);

}  // namespace argosy

#endif  // ARGOSY_TRANSPORT_TESTING_CONTRACT_TESTS_H_
