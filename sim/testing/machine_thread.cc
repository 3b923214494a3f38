// SPDX-License-Identifier: Apache-2.0
#include "sim/testing/machine_thread.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "transport/error.h"

namespace argosy::sim {

absl::StatusOr<std::unique_ptr<MachineThread>> MachineThread::Start(uint16_t domains) {
  auto machine = absl::WrapUnique(new MachineThread());
  if (absl::Status s = machine->Begin(domains); !s.ok()) return s;
  return machine;
}

absl::Status MachineThread::Begin(uint16_t domains) {
  stop_fd_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop_fd_.valid()) return SystemError(errno, "eventfd");
  if (absl::Status s = loop_.Add(stop_fd_.get(), &stop_); !s.ok()) return s;
  for (uint16_t id = 0; id < domains; ++id) {
    if (absl::Status s = machine_.Create({.domid = id}).status(); !s.ok()) return s;
  }
  if (absl::Status s = server_.Start(directory_.path() + "/sim.sock"); !s.ok()) return s;
  thread_ = std::thread([this] { Run(); });
  return absl::OkStatus();
}

void MachineThread::Run() {
  while (!stop_.stopped) {
    if (absl::Status s = server_.RunOnce(); !s.ok()) {
      fprintf(stderr, "machine: %s\n", std::string(s.message()).c_str());
      abort();
    }
  }
  server_.Stop("the machine was stopped");
}

MachineThread::~MachineThread() {
  if (!thread_.joinable()) return;
  const uint64_t one = 1;
  if (write(stop_fd_.get(), &one, sizeof(one)) != sizeof(one)) abort();
  thread_.join();
}

std::string MachineThread::Uri(const std::string& domain) const {
  return absl::StrCat("sim:", directory_.path(), "/sim.sock?domain=", domain);
}

}  // namespace argosy::sim
