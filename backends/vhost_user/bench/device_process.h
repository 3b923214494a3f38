// SPDX-License-Identifier: Apache-2.0
// File: backends/vhost_user/bench/device_process.h
//
// A vhost-user vsock daemon of any maker: one that takes --guest-cid, --socket and --uds-path.
//
//   auto device = *DeviceProcess::Start("/usr/bin/vhost-device-vsock");
//   UniqueFd vmm = *device->DialVmm();
#ifndef ARGOSY_BACKENDS_VHOST_USER_BENCH_DEVICE_PROCESS_H_
#define ARGOSY_BACKENDS_VHOST_USER_BENCH_DEVICE_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "transport/testing/temporary_directory.h"
#include "transport/unique_fd.h"

namespace argosy::vhost_user {

class DeviceProcess {
 public:
  // Starts the program, its log in a file.  The system's error.
  static absl::StatusOr<std::unique_ptr<DeviceProcess>> Start(const std::string& program);
  // Ends it.
  ~DeviceProcess();

  // Connections to its two sockets, as soon as it listens.  ECHILD if it ends instead, with what it
  // said; ETIMEDOUT.
  absl::StatusOr<UniqueFd> DialVmm() { return Dial(directory_.path() + "/vmm"); }
  absl::StatusOr<UniqueFd> DialHost() { return Dial(uds_path()); }
  std::string uds_path() const { return directory_.path() + "/uds"; }

  // Of all its threads.
  absl::Duration CpuTime() const;
  // The line `key` of /proc/PID/status, in KiB; the system's error.
  absl::StatusOr<int64_t> StatusKiB(const std::string& key) const;
  // The last lines that it wrote.
  std::string Log() const;

 private:
  DeviceProcess() = default;
  absl::StatusOr<UniqueFd> Dial(const std::string& path);

  TemporaryDirectory directory_;
  pid_t pid_ = -1;
  UniqueFd process_;  // a pidfd: readable when it has ended
};

}  // namespace argosy::vhost_user

#endif  // ARGOSY_BACKENDS_VHOST_USER_BENCH_DEVICE_PROCESS_H_
