// SPDX-License-Identifier: Apache-2.0
// File: transport/stop_signals.h
//
// SIGTERM and SIGINT as events of a daemon's loop.  Blocks them for the thread; before others start.
#ifndef ARGOSY_TRANSPORT_STOP_SIGNALS_H_
#define ARGOSY_TRANSPORT_STOP_SIGNALS_H_

#include <sys/signalfd.h>

#include <csignal>
#include <cstdint>

#include "transport/event_loop.h"
#include "transport/unique_fd.h"

namespace argosy {

class StopSignals : public EventLoop::Handler {
 public:
  StopSignals() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    fd_.reset(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  }
  int fd() const { return fd_.get(); }
  bool stop() const { return stop_; }
  void OnEvents(uint32_t) override { stop_ = true; }

 private:
  UniqueFd fd_;
  bool stop_ = false;
};

}  // namespace argosy

#endif  // ARGOSY_TRANSPORT_STOP_SIGNALS_H_
