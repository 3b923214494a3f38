// SPDX-License-Identifier: Apache-2.0
// File: transport/unix_socket.h
//
// The address of a UNIX socket in the file system, and a connection to it.
//
// Any thread.
#ifndef ARGOSY_TRANSPORT_UNIX_SOCKET_H_
#define ARGOSY_TRANSPORT_UNIX_SOCKET_H_

#include <sys/un.h>

#include <string>

#include "absl/status/statusor.h"
#include "transport/unique_fd.h"

namespace argosy {

// EINVAL: the path is empty, or has more than the 107 characters of which there is room.
absl::StatusOr<sockaddr_un> UnixAddress(const std::string& path);

// A socket of SOCK_STREAM or SOCK_SEQPACKET that is connected to `path`, closed on exec; `type` may have
// SOCK_NONBLOCK.  EINVAL as above, and connect()'s errors: ENOENT or ECONNREFUSED if nobody is there,
// EPROTOTYPE if its type is another, EAGAIN if it may not wait and the backlog is full.
absl::StatusOr<UniqueFd> ConnectUnix(const std::string& path, int type);

}  // namespace argosy

#endif  // ARGOSY_TRANSPORT_UNIX_SOCKET_H_
