// SPDX-License-Identifier: Apache-2.0
// File: sim/testing/machine_thread.h
//
// A simulated machine on a thread of the test's own process, served as argosy-sim serves it: so
// that sanitizers see the machine and its programs at once.
//
//   auto machine = MachineThread::Start(2);
//   auto transport = OpenSim((*machine)->Uri("dom1"));
#ifndef ARGOSY_SIM_TESTING_MACHINE_THREAD_H_
#define ARGOSY_SIM_TESTING_MACHINE_THREAD_H_

#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "sim/machine.h"
#include "sim/server.h"
#include "transport/event_loop.h"
#include "transport/testing/temporary_directory.h"
#include "transport/unique_fd.h"

namespace argosy::sim {

class MachineThread {
 public:
  // With domains dom0 to domN-1.  Errors of Server::Start() and of system calls.
  static absl::StatusOr<std::unique_ptr<MachineThread>> Start(uint16_t domains);
  // As SIGTERM ends the daemon.
  ~MachineThread();

  std::string Uri(const std::string& domain) const;

 private:
  class StopEvent : public EventLoop::Handler {
   public:
    void OnEvents(uint32_t) override { stopped = true; }
    bool stopped = false;
  };

  MachineThread() : machine_({}), server_(machine_, loop_) {}
  absl::Status Begin(uint16_t domains);
  void Run();

  const TemporaryDirectory directory_;
  UniqueFd stop_fd_;
  // The thread's alone while it runs.
  StopEvent stop_;
  EventLoop loop_;
  Machine machine_;
  Server server_;
  std::thread thread_;
};

}  // namespace argosy::sim

#endif  // ARGOSY_SIM_TESTING_MACHINE_THREAD_H_
