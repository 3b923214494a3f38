// SPDX-License-Identifier: Apache-2.0
#include "hatch/wait.h"

#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <limits>

#include "absl/container/inlined_vector.h"
#include "absl/time/clock.h"
#include "transport/error.h"

namespace argosy::hatch {
namespace {

volatile sig_atomic_t stopped = 0;
int stop_fd = -1;  // readable from the first signal on, so that a poll() begun later sees it too

void OnSignal(int) {
  const int saved = errno;
  stopped = 1;
  const uint64_t one = 1;
  // It can only fail by being full, and then it is readable already.
  if (write(stop_fd, &one, sizeof one) < 0) errno = saved;
}

int Milliseconds(absl::Time deadline) {
  if (deadline == absl::InfiniteFuture()) return -1;
  // Rounded up: waking before the deadline would make the caller spin.
  const int64_t ms = absl::ToInt64Milliseconds(deadline - absl::Now() + absl::Microseconds(999));
  return static_cast<int>(std::clamp<int64_t>(ms, 0, std::numeric_limits<int>::max()));
}

}  // namespace

void CatchSignals() {
  stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  struct sigaction action = {};
  action.sa_handler = OnSignal;  // without SA_RESTART: a blocking call returns
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
}

bool Stopped() { return stopped != 0; }

absl::Status StoppedError() { return ErrnoError(EINTR, "stopped by a signal"); }

absl::Status PollOrStop(absl::Span<pollfd> fds, absl::Time deadline) {
  absl::InlinedVector<pollfd, 8> all(fds.begin(), fds.end());
  all.push_back({stop_fd, POLLIN, 0});
  for (;;) {
    const int ready = poll(all.data(), all.size(), Milliseconds(deadline));
    if (Stopped()) return StoppedError();
    if (ready < 0 && errno != EINTR) return SystemError(errno, "poll");
    if (ready > 0) break;
    if (ready == 0 && absl::Now() >= deadline) return ErrnoError(ETIMEDOUT, "time is up");
  }
  for (size_t i = 0; i < fds.size(); ++i) fds[i].revents = all[i].revents;
  return absl::OkStatus();
}

absl::Time DeadlineIn(absl::Duration wait) {
  return wait == absl::ZeroDuration() ? absl::InfiniteFuture() : absl::Now() + wait;
}

}  // namespace argosy::hatch
