// SPDX-License-Identifier: Apache-2.0
// File: transport/event_loop.h
//
// One thread waiting for many descriptors: edge-triggered epoll, so that little but read and write
// is called while data flows.
#ifndef ARGOSY_TRANSPORT_EVENT_LOOP_H_
#define ARGOSY_TRANSPORT_EVENT_LOOP_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "transport/unique_fd.h"

namespace argosy {

class EventLoop {
 public:
  // Owner of a descriptor.  Belongs to one loop and lives until the loop has let it go: Retire().
  class Handler {
   public:
    virtual ~Handler() = default;
    // epoll events since the last call: remember what became possible, use it until EAGAIN.
    virtual void OnEvents(uint32_t events) = 0;
    // A turn that the handler asked for with Again().
    virtual void OnTurn() {}

   private:
    friend class EventLoop;
    uint64_t token_ = 0;  // 0: not watched
    int watched_fd_ = -1;
    bool retired_ = false;
    bool in_turns_ = false;
  };

  EventLoop();
  ~EventLoop();

  // Watches `fd` for input and hang-up, edge-triggered, until the handler is retired; one descriptor for each handler.  It
  // stays the handler's, and open as long as the handler lives.  The error is epoll's.
  absl::Status Add(int fd, Handler* handler);
  // Also (or no longer) for room to write.  Off by default: a reader that empties its socket would
  // wake us each time.
  void WantWrite(Handler* handler, bool want);

  // Gives the handler a turn after the events of this round, or, from inside a turn, of the next one: for
  // work that stopped at its budget, or that is done once for all events.
  void Again(Handler* handler);

  // Takes over a handler that is done: it gets no more calls, and is destroyed when no call of the current round can reach
  // it.
  void Retire(std::unique_ptr<Handler> handler);

  // Waits until `deadline` at most and handles one round.  The error is epoll's.
  absl::Status RunOnce(absl::Time deadline);

 private:
  UniqueFd epoll_;
  // By token, not by address: a program may hold a duplicate of a descriptor that we closed, and the kernel then goes on to
  // report its events.
  uint64_t next_token_ = 1;
  absl::flat_hash_map<uint64_t, Handler*> handlers_;
  std::vector<Handler*> turns_;
  std::vector<std::unique_ptr<Handler>> retired_;
};

}  // namespace argosy

#endif  // ARGOSY_TRANSPORT_EVENT_LOOP_H_
