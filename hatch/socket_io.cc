// SPDX-License-Identifier: Apache-2.0
#include "hatch/socket_io.h"

#include <sys/socket.h>

#include <cerrno>

#include "hatch/wait.h"
#include "transport/error.h"

namespace argosy::hatch {

absl::Status SendAll(int fd, absl::Span<const uint8_t> bytes, absl::Time deadline) {
  while (!bytes.empty()) {
    const ssize_t n = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n >= 0) {
      bytes.remove_prefix(n);
      continue;
    }
    if (errno != EAGAIN && errno != EINTR) return SystemError(errno, "cannot send");
    pollfd ready = {fd, POLLOUT, 0};
    if (absl::Status s = PollOrStop({&ready, 1}, deadline); !s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::StatusOr<size_t> ReceiveSome(int fd, absl::Span<uint8_t> buffer, absl::Time deadline) {
  for (;;) {
    const ssize_t n = recv(fd, buffer.data(), buffer.size(), 0);
    if (n >= 0) return n;
    if (errno != EAGAIN && errno != EINTR) return SystemError(errno, "cannot receive");
    pollfd ready = {fd, POLLIN, 0};
    if (absl::Status s = PollOrStop({&ready, 1}, deadline); !s.ok()) return s;
  }
}

absl::Status ReceiveAll(int fd, absl::Span<uint8_t> buffer, absl::Time deadline) {
  while (!buffer.empty()) {
    absl::StatusOr<size_t> n = ReceiveSome(fd, buffer, deadline);
    if (!n.ok()) return n.status();
    if (*n == 0) return ErrnoError(ECONNRESET, "the peer closed the connection too early");
    buffer.remove_prefix(*n);
  }
  return absl::OkStatus();
}

}  // namespace argosy::hatch
