// SPDX-License-Identifier: Apache-2.0
// File: transport/unix_ending.h
//
// How a connection over an AF_UNIX socket ended, told by the socket itself.
#ifndef ARGOSY_TRANSPORT_UNIX_ENDING_H_
#define ARGOSY_TRANSPORT_UNIX_ENDING_H_

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "transport/transport.h"

namespace argosy {

// What is written to an AF_UNIX socket lies in the peer's receive queue at once, and the kernel
// tells the writer how much of it is unread (SIOCOUTQ) and whether it was thrown away unread
// (SO_ERROR is ECONNRESET).  So the end is known without a word from the peer.  A read() that fails
// with ECONNRESET takes that error with it: after one, this can no longer see it.
class UnixEnding : public Socket::Ending {
 public:
  absl::Status Wait(int fd, absl::Time deadline) override;
};

}  // namespace argosy

#endif  // ARGOSY_TRANSPORT_UNIX_ENDING_H_
