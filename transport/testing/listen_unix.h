// SPDX-License-Identifier: Apache-2.0
// A UNIX socket that listens as any program's does: without UnixListener's lock, checks and clean-up.
#ifndef ARGOSY_TRANSPORT_TESTING_LISTEN_UNIX_H_
#define ARGOSY_TRANSPORT_TESTING_LISTEN_UNIX_H_

#include <sys/socket.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "transport/unique_fd.h"
#include "transport/unix_socket.h"

namespace argosy {

// `type` is SOCK_STREAM or SOCK_SEQPACKET, and maybe SOCK_NONBLOCK.  Ends the process if it cannot.
inline UniqueFd ListenUnix(const std::string& path, int type, int backlog = 16) {
  const sockaddr_un address = UnixAddress(path).value();
  UniqueFd fd(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      listen(fd.get(), backlog) != 0) {
    perror(path.c_str());
    abort();
  }
  return fd;
}

}  // namespace argosy

#endif  // ARGOSY_TRANSPORT_TESTING_LISTEN_UNIX_H_
