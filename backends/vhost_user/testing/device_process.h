// SPDX-License-Identifier: Apache-2.0
// File: backends/vhost_user/testing/device_process.h
//
// A device's program, run by a test, and the sockets that it serves.  It dies with the object, and with
// the test.
#ifndef ARGOSY_BACKENDS_VHOST_USER_TESTING_DEVICE_PROCESS_H_
#define ARGOSY_BACKENDS_VHOST_USER_TESTING_DEVICE_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "transport/unique_fd.h"

namespace argosy::vhost_user {

class DeviceProcess {
 public:
  // Runs `program` with `arguments`.  The system's error.
  static absl::StatusOr<std::unique_ptr<DeviceProcess>> Start(
      const std::string& program, const std::vector<std::string>& arguments);
  ~DeviceProcess();

  bool Runs() const;
  // Memory of its own that it has now, in bytes.
  uint64_t Memory() const;
  // Connects to a socket, of SOCK_STREAM or another type, as soon as the program listens there.  The
  // last error of connect() if it does not by the deadline, or has ended.
  absl::StatusOr<UniqueFd> Dial(const std::string& path, int type, absl::Time deadline) const;

 private:
  DeviceProcess(pid_t pid, UniqueFd end) : pid_(pid), end_(std::move(end)) {}

  const pid_t pid_;
  const UniqueFd end_;  // readable when it has ended
};

}  // namespace argosy::vhost_user

#endif  // ARGOSY_BACKENDS_VHOST_USER_TESTING_DEVICE_PROCESS_H_
