// SPDX-License-Identifier: Apache-2.0
#include "transport/unix_listener.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "transport/error.h"
#include "transport/unix_socket.h"

namespace argosy {
namespace {

absl::Status MakeFolder(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos || slash == 0) return absl::OkStatus();
  const std::string folder = path.substr(0, slash);
  if (mkdir(folder.c_str(), 0700) == 0) return absl::OkStatus();
  struct stat there;
  if (errno != EEXIST || stat(folder.c_str(), &there) != 0) {
    return SystemError(errno, absl::StrCat("cannot make the folder ", folder));
  }
  // Whoever may rename the socket can put another in its place, and programs would trust that one.
  const bool ours = there.st_uid == geteuid() || there.st_uid == 0;
  const bool closed = (there.st_mode & 022) == 0 || (there.st_mode & S_ISVTX) != 0;
  if (!S_ISDIR(there.st_mode) || !ours || !closed) {
    return ErrnoError(EACCES,
                      absl::StrCat(folder, " belongs to another user, or others may write to it: ",
                                   "choose a path in a folder of your own"));
  }
  return absl::OkStatus();
}

// Takes PATH.lock.  The kernel frees it with the process, however that ends.
absl::StatusOr<UniqueFd> TakeLock(const std::string& path) {
  const std::string lock_path = path + ".lock";
  for (;;) {
    UniqueFd fd(open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd.valid()) return SystemError(errno, absl::StrCat("cannot open ", lock_path));
    if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
      return ErrnoError(EADDRINUSE, absl::StrCat("another process serves ", path,
                                                 ": stop it first, or choose another path"));
    }
    // The last owner removes the file as it goes: make sure that we hold the one that stands there.
    struct stat held, there;
    if (fstat(fd.get(), &held) == 0 && stat(lock_path.c_str(), &there) == 0 &&
        held.st_ino == there.st_ino) {
      return fd;
    }
  }
}

// Whether a socket is bound at `address`, by whatever program.  AF_UNIX looks for it before it
// compares types, so that a datagram socket learns of it without disturbing it.
absl::StatusOr<bool> IsServed(const sockaddr_un& address) {
  const UniqueFd probe(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!probe.valid()) return SystemError(errno, "cannot make a socket");
  return connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 ||
         errno == EPROTOTYPE;
}

}  // namespace

absl::StatusOr<UnixListener> UnixListener::Create(const std::string& path, int type,
                                                  Folder folder) {
  const absl::StatusOr<sockaddr_un> address = UnixAddress(path);
  if (!address.ok()) return address.status();
  struct stat there;
  if (lstat(path.c_str(), &there) == 0 && !S_ISSOCK(there.st_mode)) {
    return ErrnoError(EEXIST, absl::StrCat(path, " exists and is no socket: choose another path"));
  }
  if (folder == Folder::kMake) {
    if (absl::Status s = MakeFolder(path); !s.ok()) return s;
  }
  absl::StatusOr<UniqueFd> lock = TakeLock(path);
  if (!lock.ok()) return lock.status();
  // Nobody held the lock, so an owner who takes it is dead; others do not take it.
  const absl::StatusOr<bool> served = IsServed(*address);
  if (!served.ok()) return served.status();
  if (*served) {
    unlink((path + ".lock").c_str());
    return ErrnoError(EADDRINUSE, absl::StrCat("another program serves ", path,
                                               ": stop it first, or choose another path"));
  }
  unlink(path.c_str());
  UniqueFd fd(socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return SystemError(errno, "cannot make a socket");
  // bind() gives the file the socket's own mode: no moment in which it is open to others, and no
  // umask, which the program's other threads would see.
  if (fchmod(fd.get(), 0600) != 0) return SystemError(errno, "fchmod");
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)) != 0) {
    return SystemError(errno, absl::StrCat("cannot make the socket ", path));
  }
  if (listen(fd.get(), 512) != 0)
    return SystemError(errno, absl::StrCat("cannot listen on ", path));
  return UnixListener(path, *std::move(lock), std::move(fd));
}

UnixListener::~UnixListener() {
  if (!fd_.valid()) return;
  unlink(path_.c_str());
  unlink((path_ + ".lock").c_str());
}

}  // namespace argosy
