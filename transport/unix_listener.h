// SPDX-License-Identifier: Apache-2.0
// File: transport/unix_listener.h
//
// A listening UNIX socket at a path that one process at a time serves.
#ifndef ARGOSY_TRANSPORT_UNIX_LISTENER_H_
#define ARGOSY_TRANSPORT_UNIX_LISTENER_H_

#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "transport/unique_fd.h"

namespace argosy {

class UnixListener {
 public:
  enum class Folder {
    kExpect,  // ENOENT if it is missing
    kMake,  // 0700; one that is there must be this user's, and closed to others unless it is sticky
  };

  // Listens at `path` with mode 0600; `type` is SOCK_STREAM or SOCK_SEQPACKET.  PATH.lock says who
  // serves it: EADDRINUSE if somebody does, or any program without the lock; a socket that a dead
  // one left is replaced.
  // EACCES: the folder is not fit (kMake); EINVAL: a path too long or empty; EEXIST: the path is no
  // socket; else the system's error.
  static absl::StatusOr<UnixListener> Create(const std::string& path, int type, Folder folder);

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

}  // namespace argosy

#endif  // ARGOSY_TRANSPORT_UNIX_LISTENER_H_
