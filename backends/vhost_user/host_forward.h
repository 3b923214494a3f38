// SPDX-License-Identifier: Apache-2.0
// File: backends/vhost_user/host_forward.h
//
// The host's side of a machine over the host's own AF_VSOCK (--forward-cid, --forward-listen).
//
//   guest to host   the guest's connection to port P of CID 2 goes to port P of forward-cid: 1 is this
//                   host, by vsock_loopback; others are a machine beside it, or, from inside a
//                   virtual machine, 2, the host around it.
//   host to guest   at each port of forward-listen, a client's connection goes to the guest's port of
//                   the same number.  No line comes first.
//
// A listener is bound to VMADDR_CID_ANY, since the CID of another machine cannot be bound.  But
// forward-cid is whom this guest shares its ports with, so only clients from there are let in; others
// (any machine on this host reaches the port) are closed on.  Clients of this host have CID 1, by
// whichever of its CIDs they connect.
//
// A port of Linux has one type, so clients are streams; the guest's connections may be SEQPACKET, too,
// if the transport that leads to forward-cid has it.
//
// One thread, the loop's; nothing here waits.
#ifndef ARGOSY_BACKENDS_VHOST_USER_HOST_FORWARD_H_
#define ARGOSY_BACKENDS_VHOST_USER_HOST_FORWARD_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "transport/event_loop.h"
#include "transport/unique_fd.h"

namespace argosy::vhost_user {

class HostForward {
 public:
  // A client of the host wants this port of the guest.
  using Accept = std::function<void(UniqueFd fd, uint32_t port)>;

  // Listens.  `loop` outlives it.  Errors: ENODEV (the kernel has no AF_VSOCK, or no vsock_loopback
  // for CID 1), EADDRINUSE, EACCES (a port below 1024 without privilege), of the system.
  static absl::StatusOr<std::unique_ptr<HostForward>> Create(EventLoop& loop, uint32_t forward_cid,
                                                             const std::vector<uint32_t>& ports,
                                                             Accept accept);
  ~HostForward();

  // A socket that connects to the host's port, or has just done so: it is writable once that is
  // decided, within 2 s, and SO_ERROR tells how.  `type` is SOCK_*.  Errors that are known at once:
  // ENODEV, ESOCKTNOSUPPORT, of the system.
  absl::StatusOr<UniqueFd> Connect(uint32_t port, int type) const;

 private:
  class Listener;

  HostForward(EventLoop& loop, uint32_t forward_cid, Accept accept);
  absl::Status Listen(uint32_t port);

  EventLoop& loop_;
  const uint32_t forward_cid_;
  const uint32_t client_cid_;  // of clients that are let in
  const Accept accept_;
  std::vector<std::unique_ptr<Listener>> listeners_;
};

}  // namespace argosy::vhost_user

#endif  // ARGOSY_BACKENDS_VHOST_USER_HOST_FORWARD_H_
