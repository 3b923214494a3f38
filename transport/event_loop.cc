// SPDX-License-Identifier: Apache-2.0
#include "transport/event_loop.h"

#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "transport/error.h"

namespace argosy {

EventLoop::EventLoop() : epoll_(epoll_create1(EPOLL_CLOEXEC)) {}

EventLoop::~EventLoop() = default;

absl::Status EventLoop::Add(int fd, Handler* handler) {
  epoll_event event = {};
  event.events = EPOLLIN | EPOLLRDHUP | EPOLLET;
  event.data.u64 = next_token_;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return SystemError(errno, "cannot watch a descriptor");
  }
  handler->watched_fd_ = fd;
  handler->token_ = next_token_;
  handlers_[next_token_++] = handler;
  return absl::OkStatus();
}

void EventLoop::WantWrite(Handler* handler, bool want) {
  epoll_event event = {};
  event.events = EPOLLIN | EPOLLRDHUP | EPOLLET;
  if (want) event.events |= EPOLLOUT;
  event.data.u64 = handler->token_;
  // Cannot fail for a descriptor that was added; a change reports what is ready now, so that no
  // edge is lost.
  epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, handler->watched_fd_, &event);
}

void EventLoop::Again(Handler* handler) {
  if (handler->in_turns_ || handler->retired_) return;
  handler->in_turns_ = true;
  turns_.push_back(handler);
}

void EventLoop::Retire(std::unique_ptr<Handler> handler) {
  handler->retired_ = true;
  if (handler->token_ != 0) {
    handlers_.erase(handler->token_);
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, handler->watched_fd_, nullptr);
  }
  retired_.push_back(std::move(handler));
}

absl::Status EventLoop::RunOnce(absl::Time deadline) {
  int timeout_ms = -1;
  if (!turns_.empty()) {
    timeout_ms = 0;
  } else if (deadline != absl::InfiniteFuture()) {
    // Rounded up: a timer that fires early would only be asked for again.
    const int64_t ms = absl::ToInt64Milliseconds(deadline - absl::Now() + absl::Microseconds(999));
    timeout_ms = static_cast<int>(std::clamp<int64_t>(ms, 0, 3600 * 1000));
  }
  epoll_event events[64];
  const int n = epoll_wait(epoll_.get(), events, 64, timeout_ms);
  if (n < 0 && errno != EINTR) return SystemError(errno, "cannot wait for events");
  for (int i = 0; i < n; ++i) {
    const uint64_t token = events[i].data.u64;  // a copy: epoll_event is packed
    auto it = handlers_.find(token);
    if (it != handlers_.end()) it->second->OnEvents(events[i].events);
  }
  // Those who asked in the last round, and in this one: what events began is done without a wait between.
  // Who asks again has it in the next round.
  for (Handler* handler : std::exchange(turns_, {})) {
    handler->in_turns_ = false;
    if (!handler->retired_) handler->OnTurn();
  }
  // turns_ may still name a retired handler.
  if (!retired_.empty()) {
    turns_.erase(
        std::remove_if(turns_.begin(), turns_.end(), [](Handler* h) { return h->retired_; }),
        turns_.end());
    // Destructors may retire others.
    for (auto& handler : std::exchange(retired_, {})) handler.reset();
  }
  return absl::OkStatus();
}

}  // namespace argosy
