// SPDX-License-Identifier: Apache-2.0
// File: sim/testing/bystander.h
//
// What tests of a daemon share: starting one, joining it, and a connection that must survive what a test does elsewhere.
#ifndef ARGOSY_SIM_TESTING_BYSTANDER_H_
#define ARGOSY_SIM_TESTING_BYSTANDER_H_

#include <unistd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "backends/sim/sim_transport.h"
#include "gtest/gtest.h"
#include "sim/testing/daemon.h"
#include "transport/transport.h"

namespace argosy::sim {

// Far away: a test that waits so long has failed.
inline absl::Time Far() { return absl::Now() + absl::Seconds(60); }

inline std::unique_ptr<Daemon> Start(const std::vector<std::string>& arguments = {"--domains",
                                                                                  "3"}) {
  auto daemon = Daemon::Start(arguments);
  EXPECT_TRUE(daemon.ok()) << daemon.status();
  return daemon.ok() ? *std::move(daemon) : nullptr;
}

inline std::unique_ptr<Transport> Join(const Daemon& daemon, const std::string& domain) {
  auto transport = OpenSim(daemon.Uri(domain));
  EXPECT_TRUE(transport.ok()) << transport.status();
  return transport.ok() ? *std::move(transport) : nullptr;
}

// A connection between two domains that must survive what a test does elsewhere.
class Bystander {
 public:
  Bystander(const Daemon& daemon, const std::string& a = "dom0", const std::string& b = "dom2")
      : server_(Join(daemon, a)), client_(Join(daemon, b)) {
    auto listener = server_->Listen(kPortAny, SocketType::kStream, {});
    EXPECT_TRUE(listener.ok()) << listener.status();
    auto near = ConnectBlocking(*client_, (*listener)->local(), SocketType::kStream);
    EXPECT_TRUE(near.ok()) << near.status();
    auto far = AcceptBlocking(**listener, Far());
    EXPECT_TRUE(far.ok()) << far.status();
    near_ = std::make_unique<Socket>(*std::move(near));
    far_ = std::make_unique<Socket>(*std::move(far));
  }
  void ExpectAlive() {
    char byte = 'x';
    ASSERT_EQ(write(near_->fd(), &byte, 1), 1);
    byte = 0;
    ASSERT_EQ(read(far_->fd(), &byte, 1), 1);
    ASSERT_EQ(byte, 'x');
    ASSERT_EQ(write(far_->fd(), &byte, 1), 1);
    ASSERT_EQ(read(near_->fd(), &byte, 1), 1);
  }

 private:
  std::unique_ptr<Transport> server_, client_;
  std::unique_ptr<Socket> near_, far_;
};

}  // namespace argosy::sim

#endif  // ARGOSY_SIM_TESTING_BYSTANDER_H_
