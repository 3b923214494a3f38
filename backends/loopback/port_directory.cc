// SPDX-License-Identifier: Apache-2.0
#include "backends/loopback/port_directory.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <random>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "transport/address.h"
#include "transport/error.h"
#include "transport/unix_socket.h"

namespace argosy {
namespace {

// Ports below this one need a privilege (LAST_RESERVED_PORT of AF_VSOCK is 1023).
constexpr uint32_t kFirstFreePort = 1024;
// How many ports to try for kPortAny; the kernel's AF_VSOCK gives up after as many.
constexpr int kPortAttempts = 24;

absl::string_view Prefix(PortSpace space) {
  return space == PortSpace::kConnection ? "conn-" : "dgram-";
}

bool MayBindLowPorts() {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
  if (syscall(SYS_capget, &header, data) != 0) return false;
  return (data[CAP_TO_INDEX(CAP_NET_BIND_SERVICE)].effective & CAP_TO_MASK(CAP_NET_BIND_SERVICE)) !=
         0;
}

std::string DefaultPath() {
  const char* runtime = getenv("XDG_RUNTIME_DIR");
  if (runtime != nullptr && runtime[0] == '/') return absl::StrCat(runtime, "/argosy");
  return absl::StrCat("/tmp/argosy-", geteuid());
}

// OK if nobody else can put sockets into `path` or take ours away.
absl::Status CheckPrivate(const std::string& path) {
  struct stat st;
  if (lstat(path.c_str(), &st) != 0) return SystemError(errno, path);
  if (!S_ISDIR(st.st_mode)) return ErrnoError(EACCES, absl::StrCat(path, " is not a directory"));
  if (st.st_uid != geteuid()) {
    return ErrnoError(EACCES, absl::StrCat(path, " belongs to another user (uid ", st.st_uid,
                                           "); name a directory of yours: loopback:DIR"));
  }
  if ((st.st_mode & 077) != 0) {
    return ErrnoError(EACCES, absl::StrCat(path, " is open to other users; run: chmod 700 ", path));
  }
  return absl::OkStatus();
}

// The lock of one port.
absl::StatusOr<UniqueFd> LockPort(const std::string& directory, PortSpace space, uint32_t port) {
  const std::string path = absl::StrCat(directory, "/ports");
  // Its own open file each time: these locks belong to the open file, not to the process.
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return SystemError(errno, path);
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = port + (space == PortSpace::kDatagram ? int64_t{1} << 32 : 0);
  lock.l_len = 1;
  if (fcntl(fd.get(), F_OFD_SETLK, &lock) == 0) return fd;
  if (errno == EAGAIN || errno == EACCES) {
    return ErrnoError(EADDRINUSE, absl::StrCat("port ", port, " is taken"));
  }
  return SystemError(errno, path);
}

}  // namespace

absl::StatusOr<PortDirectory> PortDirectory::Open(absl::string_view path) {
  std::string wanted = path.empty() ? DefaultPath() : std::string(path);
  while (wanted.size() > 1 && wanted.back() == '/') wanted.pop_back();  // lstat would follow a link
  if (mkdir(wanted.c_str(), 0700) != 0 && errno != EEXIST) {
    return SystemError(errno, absl::StrCat("cannot make ", wanted));
  }
  const absl::Status checked = CheckPrivate(wanted);
  if (!checked.ok()) return checked;
  // An absolute path stays right when the program changes its directory.
  char absolute[PATH_MAX];
  if (realpath(wanted.c_str(), absolute) == nullptr) return SystemError(errno, wanted);
  PortDirectory directory(absolute);
  if (directory.PathOf(PortSpace::kDatagram, kPortAny).size() >= sizeof(sockaddr_un::sun_path)) {
    return ErrnoError(EINVAL, absl::StrCat(absolute, " is too long for the path of a socket; ",
                                           "name a shorter directory: loopback:DIR"));
  }
  return directory;
}

std::string PortDirectory::PathOf(PortSpace space, uint32_t port) const {
  return absl::StrCat(path_, "/", Prefix(space), port);
}

absl::StatusOr<BoundPort> PortDirectory::Bind(int fd, PortSpace space, uint32_t port) const {
  if (port != kPortAny && port < kFirstFreePort && !MayBindLowPorts()) {
    return ErrnoError(EACCES, absl::StrCat("port ", port, ": ports below ", kFirstFreePort,
                                           " need CAP_NET_BIND_SERVICE"));
  }
  std::random_device random;
  for (int attempt = 0; attempt < kPortAttempts; ++attempt) {
    const uint32_t candidate = port != kPortAny ? port
                                                : std::uniform_int_distribution<uint32_t>(
                                                      kFirstFreePort, kPortAny - 1)(random);
    absl::StatusOr<UniqueFd> lock = LockPort(path_, space, candidate);
    if (ErrnoOf(lock.status()) == EADDRINUSE && port == kPortAny) continue;
    if (!lock.ok()) return lock.status();
    BoundPort bound(candidate, PathOf(space, candidate), *std::move(lock));
    bound.RemoveFile();  // left behind by an owner that was killed
    const sockaddr_un address = UnixAddress(bound.path()).value();
    if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
      return SystemError(errno, absl::StrCat("bind ", bound.path()));
    }
    return bound;
  }
  return ErrnoError(EADDRNOTAVAIL, "no free port found");
}

absl::StatusOr<uint32_t> PortOf(const sockaddr_un& address, size_t length, PortSpace space) {
  constexpr size_t kPathOffset = offsetof(sockaddr_un, sun_path);
  absl::string_view name;
  if (length > kPathOffset && length <= sizeof(address)) {
    name = {address.sun_path, strnlen(address.sun_path, length - kPathOffset)};
    name.remove_prefix(name.rfind('/') + 1);
  }
  uint32_t port;
  if (!absl::ConsumePrefix(&name, Prefix(space)) || !absl::SimpleAtoi(name, &port)) {
    return ErrnoError(EPROTO, "the peer is no loopback socket of Argosy");
  }
  return port;
}

}  // namespace argosy
