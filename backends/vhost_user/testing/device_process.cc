// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/testing/device_process.h"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <fstream>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "transport/error.h"

namespace argosy::vhost_user {

absl::StatusOr<std::unique_ptr<DeviceProcess>> DeviceProcess::Start(
    const std::string& program, const std::vector<std::string>& arguments) {
  std::vector<std::string> words = {program};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return SystemError(errno, "cannot run a device");
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // The test may have ended before that.
    if (getppid() != parent) _exit(1);
    execv(argv[0], argv.data());
    _exit(127);
  }
  auto process = absl::WrapUnique(
      new DeviceProcess(pid, UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)))));
  if (!process->end_.valid()) return SystemError(errno, "cannot watch a device");
  return process;
}

DeviceProcess::~DeviceProcess() {
  kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

bool DeviceProcess::Runs() const {
  pollfd ended = {end_.get(), POLLIN, 0};
  return poll(&ended, 1, 0) == 0;
}

uint64_t DeviceProcess::Memory() const {
  // Guest memory is shared, and does not count.
  std::ifstream statm(absl::StrCat("/proc/", pid_, "/statm"));
  uint64_t size = 0, resident = 0, shared = 0;
  statm >> size >> resident >> shared;
  return (resident - shared) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

absl::StatusOr<UniqueFd> DeviceProcess::Dial(const std::string& path, int type,
                                             absl::Time deadline) const {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return ErrnoError(EINVAL, "the path is too long");
  path.copy(address.sun_path, path.size());
  for (;;) {
    UniqueFd fd(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
    if (!fd.valid()) return SystemError(errno, "cannot make a socket");
    if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) return fd;
    const int error = errno;
    // Nothing tells when a program begins to listen, so it is asked again and again.
    pollfd ended = {end_.get(), POLLIN, 0};
    if (absl::Now() >= deadline || poll(&ended, 1, 2) != 0) {
      return SystemError(error, absl::StrCat("cannot connect to ", path));
    }
  }
}

}  // namespace argosy::vhost_user
