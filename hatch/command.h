// SPDX-License-Identifier: Apache-2.0
// File: hatch/command.h
//
// -e: a shell command with a connection as its standard input and output.
#ifndef ARGOSY_HATCH_COMMAND_H_
#define ARGOSY_HATCH_COMMAND_H_

#include <sys/types.h>

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "transport/transport.h"
#include "transport/unique_fd.h"

namespace argosy::hatch {

// A running child in a process group of its own.  A child that still runs when the object goes is
// asked to end (SIGTERM).
class ChildCommand {
 public:
  // `sh -c command` with the socket as descriptors 0 and 1 and HATCH_PEER_CID, HATCH_PEER_PORT in
  // its environment.  The socket stays the caller's.
  static absl::StatusOr<ChildCommand> Start(const std::string& command, const Socket& socket);

  ChildCommand(ChildCommand&& other) noexcept
      : pid_(std::exchange(other.pid_, -1)), ended_(std::move(other.ended_)) {}
  ChildCommand& operator=(ChildCommand&& other) noexcept {
    std::swap(pid_, other.pid_);
    std::swap(ended_, other.ended_);
    return *this;
  }
  ~ChildCommand();

  // Readable (poll) once the child has ended.
  int fd() const { return ended_.get(); }
  // Then: how it ended.  An exit code other than 0 is an error.
  absl::Status Collect();

 private:
  ChildCommand(pid_t pid, UniqueFd ended) : pid_(pid), ended_(std::move(ended)) {}

  pid_t pid_;
  UniqueFd ended_;
};

}  // namespace argosy::hatch

#endif  // ARGOSY_HATCH_COMMAND_H_
