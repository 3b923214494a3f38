// SPDX-License-Identifier: Apache-2.0
// File: backends/vhost_user/testing/device_process.h
//
// A device's program, of any maker, run by a test or a benchmark.  It dies with the object, and with
// the thread that started it.
//
//   auto device = *DeviceProcess::Start("/usr/bin/vhost-device-vsock", {"--socket", path}, log);
//   UniqueFd vmm = *device->Dial(path, deadline);
//
// Any thread.
#ifndef ARGOSY_BACKENDS_VHOST_USER_TESTING_DEVICE_PROCESS_H_
#define ARGOSY_BACKENDS_VHOST_USER_TESTING_DEVICE_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "transport/unique_fd.h"

namespace argosy::vhost_user {

class DeviceProcess {
 public:
  // Runs `program` with `arguments`; what it prints is added to the file `log`.  The system's error.
  static absl::StatusOr<std::unique_ptr<DeviceProcess>> Start(
      const std::string& program, const std::vector<std::string>& arguments,
      const std::string& log);
  ~DeviceProcess();

  bool Runs() const;
  // Connects to a stream socket, as soon as the program listens there.  ECHILD if it ends instead, with
  // what it said; the last error of connect() at the deadline.
  absl::StatusOr<UniqueFd> Dial(const std::string& path, absl::Time deadline) const;

  // Of all its threads; 0 if it has ended.
  absl::Duration CpuTime() const;
  // What it has of memory of its own, without what it shares with a guest (RssAnon).  ECHILD.
  absl::StatusOr<int64_t> MemoryKiB() const;
  // The end of what it printed.
  std::string Log() const;

 private:
  DeviceProcess(pid_t pid, UniqueFd end, const std::string& log);

  const pid_t pid_;
  const UniqueFd end_;  // a pidfd: readable when it has ended
  const std::string log_;
};

}  // namespace argosy::vhost_user

#endif  // ARGOSY_BACKENDS_VHOST_USER_TESTING_DEVICE_PROCESS_H_
