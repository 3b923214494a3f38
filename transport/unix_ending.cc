// SPDX-License-Identifier: Apache-2.0
#include "transport/unix_ending.h"

#include <linux/sockios.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

#include "transport/error.h"
#include "transport/unique_fd.h"

namespace argosy {

absl::Status UnixEnding::Wait(int fd, absl::Time deadline) {
  // Edge-triggered, because no level says "the peer has read everything": each read by the peer is
  // an edge.
  const UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return SystemError(errno, "epoll_create1");
  epoll_event events = {};
  events.events = EPOLLOUT | EPOLLRDHUP | EPOLLET;
  if (epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &events) != 0) {
    return SystemError(errno, "epoll_ctl");
  }
  for (;;) {
    // In this order: a closing peer sets the error before it throws the data away.
    int unread = 0;
    if (ioctl(fd, SIOCOUTQ, &unread) != 0) return SystemError(errno, "SIOCOUTQ");
    int error = 0;
    socklen_t size = sizeof(error);
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
      return SystemError(errno, "SO_ERROR");
    }
    if (error == ECONNRESET) return ErrnoError(error, "the peer closed with data unread");
    if (error != 0) return SystemError(error, "the connection failed");
    pollfd both_ended = {fd, 0, 0};
    if (poll(&both_ended, 1, 0) < 0) return SystemError(errno, "poll");
    // While the kernel wakes us it still holds one byte of what it has freed.
    if ((both_ended.revents & POLLHUP) != 0 && unread <= 1) return absl::OkStatus();

    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) {
      return ErrnoError(ETIMEDOUT, "the deadline passed before the connection ended");
    }
    const timespec timeout = absl::ToTimespec(std::min(left, absl::Hours(24)));
    if (epoll_pwait2(epoll.get(), &events, 1, &timeout, nullptr) < 0 && errno != EINTR) {
      return SystemError(errno, "epoll_wait");
    }
  }
}

}  // namespace argosy
