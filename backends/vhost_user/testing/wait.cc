// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/testing/wait.h"

#include <poll.h>

#include <algorithm>
#include <cstdint>

#include "absl/time/clock.h"

namespace argosy::vhost_user {

bool WaitReadable(int fd, absl::Time deadline, const Pump& pump) {
  for (;;) {
    if (pump) pump();
    const absl::Duration left = deadline - absl::Now();
    // Rounded up, so that the last wait does not end before the deadline and spin.
    const int64_t ms = absl::ToInt64Milliseconds(left + absl::Milliseconds(1));
    pollfd wanted = {fd, POLLIN, 0};
    const int timeout = pump ? 0 : static_cast<int>(std::clamp<int64_t>(ms, 0, 1'000'000));
    if (poll(&wanted, 1, timeout) > 0) return true;
    if (left <= absl::ZeroDuration()) return false;
  }
}

}  // namespace argosy::vhost_user
