// SPDX-License-Identifier: Apache-2.0
// File: backends/loopback/port_directory.h
//
// The directory in which loopback sockets meet: a socket file per bound port (conn-1234,
// dgram-1234), and the file `ports` whose byte N is locked by the owner of port N.  The kernel
// drops the lock with its owner, however that died, so a lock that can be had means that a socket
// file left behind is stale.
#ifndef ARGOSY_BACKENDS_LOOPBACK_PORT_DIRECTORY_H_
#define ARGOSY_BACKENDS_LOOPBACK_PORT_DIRECTORY_H_

#include <sys/un.h>

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "transport/unique_fd.h"

namespace argosy {

// As in AF_VSOCK, streams and sequenced packets share their ports; datagrams have ports of their
// own.
enum class PortSpace { kConnection, kDatagram };

// A port that is ours, until this goes.
class BoundPort {
 public:
  BoundPort(uint32_t port, std::string path, UniqueFd lock)
      : port_(port), path_(std::move(path)), lock_(std::move(lock)) {}
  BoundPort(BoundPort&&) noexcept = default;
  BoundPort& operator=(BoundPort&&) = delete;
  // Removes the socket file while the port is still locked, so that it cannot be a successor's.
  ~BoundPort() { RemoveFile(); }

  uint32_t port() const { return port_; }
  const std::string& path() const { return path_; }
  // No one can connect to the port any more; it stays taken.
  void RemoveFile() {
    if (lock_.valid()) unlink(path_.c_str());
  }

 private:
  uint32_t port_;
  std::string path_;
  UniqueFd lock_;
};

class PortDirectory {
 public:
  // `path` empty: the default of this user.  Errors: EINVAL, EACCES, and those of mkdir().
  static absl::StatusOr<PortDirectory> Open(absl::string_view path);

  // The path of a port's socket.
  std::string PathOf(PortSpace space, uint32_t port) const;

  // Binds `fd` to `port`; kPortAny: to a free one.  Errors: EADDRINUSE, EACCES (below 1024),
  // EADDRNOTAVAIL, EMFILE.
  absl::StatusOr<BoundPort> Bind(int fd, PortSpace space, uint32_t port) const;

 private:
  explicit PortDirectory(std::string path) : path_(std::move(path)) {}

  std::string path_;
};

// The port in the name of a peer's socket; EPROTO if it was not bound by Bind().
absl::StatusOr<uint32_t> PortOf(const sockaddr_un& address, size_t length, PortSpace space);

}  // namespace argosy

#endif  // ARGOSY_BACKENDS_LOOPBACK_PORT_DIRECTORY_H_
