// SPDX-License-Identifier: Apache-2.0
#include "hatch/endings.h"

#include <cerrno>
#include <utility>

#include "absl/time/clock.h"
#include "transport/error.h"

namespace argosy::hatch {
namespace {

// The end of a connection cannot be polled for: it is asked for again and again.  Not with a
// deadline that has passed, for a daemon needs a moment to answer.
constexpr absl::Duration kInterval = absl::Milliseconds(20);
constexpr absl::Duration kAsking = absl::Milliseconds(5);

}  // namespace

void Endings::Add(Socket socket) {
  open_.push_back({std::move(socket), absl::Now() + Session::kReasonWait});
}

absl::Time Endings::NextCheck() const {
  return open_.empty() ? absl::InfiniteFuture() : absl::Now() + kInterval;
}

void Endings::Check(absl::FunctionRef<void(const absl::Status&)> broken) {
  for (size_t i = open_.size(); i-- > 0;) {
    const absl::Status how = session_.Finish(open_[i].socket, absl::Now() + kAsking);
    const bool unknown = ErrnoOf(how) == ETIMEDOUT || ErrnoOf(how) == EINTR;
    if (unknown && absl::Now() < open_[i].deadline) continue;
    if (!unknown && !how.ok()) broken(how);
    open_.erase(open_.begin() + i);
  }
}

}  // namespace argosy::hatch
