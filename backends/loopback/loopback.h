// SPDX-License-Identifier: Apache-2.0
// File: backends/loopback/loopback.h
//
// VM sockets between processes of this machine: no daemon, no privilege, no kernel module.
//
//   loopback:       in $XDG_RUNTIME_DIR/argosy, or /tmp/argosy-UID
//   loopback:DIR    in DIR (made if missing, private to its owner); each directory is a world of
//                   its own
#ifndef ARGOSY_BACKENDS_LOOPBACK_LOOPBACK_H_
#define ARGOSY_BACKENDS_LOOPBACK_LOOPBACK_H_

#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "transport/transport.h"

namespace argosy {

// EINVAL: no loopback URI, or a path too long for a socket.  EACCES: the directory is not private
// to this user.
absl::StatusOr<std::unique_ptr<Transport>> OpenLoopback(absl::string_view uri);

}  // namespace argosy

#endif  // ARGOSY_BACKENDS_LOOPBACK_LOOPBACK_H_
