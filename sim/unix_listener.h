// SPDX-License-Identifier: Apache-2.0
// File: sim/unix_listener.h
//
// A listening UNIX SOCK_SEQPACKET socket at a path that one process at a time serves.
#ifndef ARGOSY_SIM_UNIX_LISTENER_H_
#define ARGOSY_SIM_UNIX_LISTENER_H_

#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "transport/unique_fd.h"

namespace argosy::sim {

class UnixListener {
 public:
  // Listens at `path` with mode 0600, making its last folder (0700) if need be.  PATH.lock says who serves it: EADDRINUSE
  // if another process does; a socket that a dead one left is replaced.  EACCES: the folder is another user's, or open to
  // others (unless it is sticky, as /tmp).  EINVAL: a path too long or empty; EEXIST: the path
  // is no socket; else the system's error.
  static absl::StatusOr<UnixListener> Create(const std::string& path);

  UnixListener(UnixListener&&) noexcept = default;
  UnixListener& operator=(UnixListener&&) = delete;
  // Removes the socket and its lock.
  ~UnixListener();

  int fd() const { return fd_.get(); }

 private:
  UnixListener(std::string path, UniqueFd lock, UniqueFd fd)
      : path_(std::move(path)), lock_(std::move(lock)), fd_(std::move(fd)) {}

  std::string path_;  // empty once moved from
  UniqueFd lock_;
  UniqueFd fd_;
};

}  // namespace argosy::sim

#endif  // ARGOSY_SIM_UNIX_LISTENER_H_
