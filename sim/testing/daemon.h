// SPDX-License-Identifier: Apache-2.0
// File: sim/testing/daemon.h
//
// An argosy-sim process for tests and benchmarks: ready when Start() returns, gone with the object.
#ifndef ARGOSY_SIM_TESTING_DAEMON_H_
#define ARGOSY_SIM_TESTING_DAEMON_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace argosy::sim {

class Daemon {
 public:
  // Runs $ARGOSY_SIM, or sim/argosy-sim below the working directory (a test's runfiles), with a
  // socket in a folder of its own and `arguments`.
  static absl::StatusOr<std::unique_ptr<Daemon>> Start(const std::vector<std::string>& arguments);
  ~Daemon();

  pid_t pid() const { return pid_; }
  const std::string& socket() const { return socket_; }
  std::string Uri(const std::string& domain) const {
    return "sim:" + socket_ + "?domain=" + domain;
  }

  // Sends a signal and waits for the end; the exit code, or 128 + signal.
  int Kill(int signal);
  // Ends it and removes its folder, as the destructor does.
  void Stop();

 private:
  Daemon(std::string folder, pid_t pid)
      : folder_(std::move(folder)), socket_(folder_ + "/sim.sock"), pid_(pid) {}

  const std::string folder_;
  const std::string socket_;
  pid_t pid_;
};

}  // namespace argosy::sim

#endif  // ARGOSY_SIM_TESTING_DAEMON_H_
