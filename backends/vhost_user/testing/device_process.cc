// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/testing/device_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <ctime>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "transport/error.h"
#include "transport/unix_socket.h"

namespace argosy::vhost_user {
namespace {

constexpr size_t kLogEnd = 1000;

}  // namespace

absl::StatusOr<std::unique_ptr<DeviceProcess>> DeviceProcess::Start(
    const std::string& program, const std::vector<std::string>& arguments, const std::string& log) {
  std::vector<std::string> words = {program};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const UniqueFd output(open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!output.valid()) return SystemError(errno, absl::StrCat("cannot write ", log));
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return SystemError(errno, absl::StrCat("cannot start ", program));
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // The parent may have ended before that.
    if (getppid() != parent) _exit(1);
    dup2(output.get(), STDOUT_FILENO);
    dup2(output.get(), STDERR_FILENO);
    execv(argv[0], argv.data());
    _exit(127);
  }
  auto device = absl::WrapUnique(
      new DeviceProcess(pid, UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))), log));
  if (!device->end_.valid()) return SystemError(errno, "pidfd_open");
  return device;
}

DeviceProcess::DeviceProcess(pid_t pid, UniqueFd end, const std::string& log)
    : pid_(pid), end_(std::move(end)), log_(log) {}

DeviceProcess::~DeviceProcess() {
  kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

bool DeviceProcess::Runs() const {
  pollfd ended = {end_.get(), POLLIN, 0};
  return poll(&ended, 1, 0) == 0;
}

absl::StatusOr<UniqueFd> DeviceProcess::Dial(const std::string& path, absl::Time deadline) const {
  for (;;) {
    absl::StatusOr<UniqueFd> fd = ConnectUnix(path, SOCK_STREAM);
    if (fd.ok()) return fd;
    // Nothing tells of a socket that begins to listen, so it is tried again each millisecond; of the
    // process's end this does.
    pollfd ended = {end_.get(), POLLIN, 0};
    if (poll(&ended, 1, 1) == 1) return ErrnoError(ECHILD, absl::StrCat("it has ended: ", Log()));
    if (absl::Now() >= deadline) return fd;
  }
}

absl::Duration DeviceProcess::CpuTime() const {
  clockid_t clock;
  timespec time;
  if (clock_getcpuclockid(pid_, &clock) != 0 || clock_gettime(clock, &time) != 0) {
    return absl::ZeroDuration();
  }
  return absl::DurationFromTimespec(time);
}

absl::StatusOr<int64_t> DeviceProcess::MemoryKiB() const {
  std::ifstream status(absl::StrCat("/proc/", pid_, "/status"));
  for (std::string word; status >> word;) {
    int64_t kib;
    if (word == "RssAnon:" && status >> kib) return kib;
  }
  return ErrnoError(ECHILD, absl::StrCat("it has ended: ", Log()));
}

std::string DeviceProcess::Log() const {
  std::ifstream file(log_);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  return text.substr(text.size() - std::min(text.size(), kLogEnd));
}

}  // namespace argosy::vhost_user
