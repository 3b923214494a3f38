// SPDX-License-Identifier: Apache-2.0
#include "transport/unix_socket.h"

#include <sys/socket.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "transport/error.h"

namespace argosy {

absl::StatusOr<sockaddr_un> UnixAddress(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return ErrnoError(EINVAL, absl::StrCat("the socket's path '", path, "' must have 1 to ",
                                           sizeof(address.sun_path) - 1, " characters"));
  }
  path.copy(address.sun_path, path.size());
  return address;
}

absl::StatusOr<UniqueFd> ConnectUnix(const std::string& path, int type) {
  const absl::StatusOr<sockaddr_un> address = UnixAddress(path);
  if (!address.ok()) return address.status();
  UniqueFd fd(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return SystemError(errno, "cannot make a socket");
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)) != 0) {
    return SystemError(errno, absl::StrCat("cannot connect to ", path));
  }
  return fd;
}

}  // namespace argosy
