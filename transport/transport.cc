// SPDX-License-Identifier: Apache-2.0
#include "transport/transport.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

#include "transport/error.h"

namespace argosy {
namespace {

// OK when `fd` is ready for `events` (or has an error or hang-up to report), ETIMEDOUT at the
// deadline.
absl::Status WaitFor(int fd, short events, absl::Time deadline) {
  for (;;) {
    struct pollfd p = {fd, events, 0};
    const absl::Duration left = std::max(deadline - absl::Now(), absl::ZeroDuration());
    const timespec timeout = absl::ToTimespec(left);
    const int n = ppoll(&p, 1, deadline == absl::InfiniteFuture() ? nullptr : &timeout, nullptr);
    if (n > 0) return absl::OkStatus();
    if (n == 0) return ErrnoError(ETIMEDOUT, "the deadline passed");
    if (errno != EINTR) return SystemError(errno, "poll");
  }
}

// Calls `attempt` each time `fd` is ready, until it says something else than EAGAIN.
template <typename Attempt>
absl::StatusOr<Socket> WhenReady(int fd, short events, absl::Time deadline, Attempt attempt) {
  for (;;) {
    absl::StatusOr<Socket> socket = attempt();
    if (ErrnoOf(socket.status()) != EAGAIN) return socket;
    const absl::Status ready = WaitFor(fd, events, deadline);
    if (!ready.ok()) return ready;
  }
}

}  // namespace

absl::Status Socket::Finish(absl::Time deadline) {
  if (finished_.has_value()) return *finished_;
  if (!fd_.valid()) return ErrnoError(EINVAL, "the descriptor was given away");
  // ENOTCONN: the connection has already ended; how, Wait() says.
  if (shutdown(fd_.get(), SHUT_WR) != 0 && errno != ENOTCONN) {
    return SystemError(errno, "shutdown");
  }
  const absl::Status how = ending_->Wait(fd_.get(), deadline);
  switch (ErrnoOf(how)) {
    case 0:
    case ECONNRESET:
    case ENETRESET:
      finished_ = how;
      break;
    default:
      break;
  }
  return how;
}

UniqueFd Socket::Release() && {
  ending_.reset();
  return std::move(fd_);
}

absl::StatusOr<Socket> ConnectBlocking(Transport& transport, Address peer, SocketType type,
                                       const ConnectOptions& options) {
  absl::StatusOr<std::unique_ptr<Connecting>> connecting = transport.Connect(peer, type, options);
  if (!connecting.ok()) return connecting.status();
  return WhenReady((*connecting)->fd(), (*connecting)->events(), absl::InfiniteFuture(),
                   [&] { return (*connecting)->Complete(); });
}

absl::StatusOr<Socket> AcceptBlocking(Listener& listener, absl::Time deadline) {
  return WhenReady(listener.fd(), POLLIN, deadline, [&] { return listener.Accept(); });
}

}  // namespace argosy
