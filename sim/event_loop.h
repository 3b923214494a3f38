// SPDX-License-Identifier: Apache-2.0
// File: sim/event_loop.h
//
// One thread waiting for many descriptors: edge-triggered epoll, so that little but read and write
// is called while data flows.
#ifndef ARGOSY_SIM_EVENT_LOOP_H_
#define ARGOSY_SIM_EVENT_LOOP_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "transport/unique_fd.h"

namespace argosy::sim {

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
    bool retired_ = false;
    bool in_turns_ = false;
  };

  EventLoop();
  ~EventLoop();

  // Watches `fd` for input and hang-up, edge-triggered.  The descriptor stays the handler's;
  // closing it ends the watch.
  absl::Status Add(int fd, Handler* handler);
  // Also (or no longer) for room to write.  Off by default: a reader that empties its socket would
  // wake us each time.
  void WantWrite(int fd, Handler* handler, bool want);

  // Gives the handler another turn in this round, after the others had theirs: for work that
  // stopped at its budget.
  void Again(Handler* handler);

  // Takes over a handler that is done (its descriptor is closed): it gets no more calls and is
  // destroyed when no call of the current round can reach it.
  void Retire(std::unique_ptr<Handler> handler);

  // Waits until `deadline` at most and handles one round.  EIO if epoll fails.
  absl::Status RunOnce(absl::Time deadline);

 private:
  UniqueFd epoll_;
  std::vector<Handler*> turns_;
  std::vector<std::unique_ptr<Handler>> retired_;
};

}  // namespace argosy::sim

#endif  // ARGOSY_SIM_EVENT_LOOP_H_
