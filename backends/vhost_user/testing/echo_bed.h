// SPDX-License-Identifier: Apache-2.0
// File: backends/vhost_user/testing/echo_bed.h
//
// A VMM and an echo device on one thread, joined by a socketpair.
//
//   EchoBed bed;
//   bed.vmm().Negotiate();
//
// One thread at a time.
#ifndef ARGOSY_BACKENDS_VHOST_USER_TESTING_ECHO_BED_H_
#define ARGOSY_BACKENDS_VHOST_USER_TESTING_ECHO_BED_H_

#include <sys/socket.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "backends/vhost_user/server.h"
#include "backends/vhost_user/testing/echo_device.h"
#include "backends/vhost_user/testing/front_end.h"

namespace argosy::vhost_user {

class EchoBed {
 public:
  explicit EchoBed(FrontEnd::Options options = {}) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
      perror("socketpair");
      abort();
    }
    options.pump = [this] { Pump(); };
    server_ = std::make_unique<Server>(UniqueFd(pair[0]), &device_);
    vmm_ = std::make_unique<FrontEnd>(UniqueFd(pair[1]), std::move(options));
  }

  FrontEnd& vmm() { return *vmm_; }
  EchoDevice& device() { return device_; }
  // Null after the connection ended.
  Server* server() { return server_.get(); }
  // Why it ended; OK while it lives.
  const absl::Status& ended() const { return ended_; }

  // Lets the device work until there is nothing to do, unless it always has.
  void Pump() {
    for (int turn = 0; turn < 100 && server_ != nullptr; ++turn) {
      absl::StatusOr<bool> more = server_->OnReadable();
      if (more.ok()) device_.Serve(*server_);
      // Serving may have ended it too.
      if (more.ok()) more = server_->OnReadable();
      if (!more.ok()) {
        ended_ = more.status();
        server_.reset();
      } else if (!*more) {
        return;
      }
    }
  }

  // The VMM ends.
  void HangUp() {
    vmm_.reset();
    Pump();
  }

 private:
  EchoDevice device_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<FrontEnd> vmm_;
  absl::Status ended_;
};

}  // namespace argosy::vhost_user

#endif  // ARGOSY_BACKENDS_VHOST_USER_TESTING_ECHO_BED_H_
