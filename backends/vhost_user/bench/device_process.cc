// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/bench/device_process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <ctime>
#include <fstream>
#include <iterator>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "backends/vhost_user/testing/front_end.h"
#include "transport/error.h"

namespace argosy::vhost_user {
namespace {

constexpr absl::Duration kStartTime = absl::Seconds(10);
constexpr size_t kLogEnd = 1000;

}  // namespace

absl::StatusOr<std::unique_ptr<DeviceProcess>> DeviceProcess::Start(const std::string& program) {
  std::unique_ptr<DeviceProcess> device(new DeviceProcess);
  const std::string folder = device->directory_.path();
  std::vector<std::string> words = {
      program, "--guest-cid", "3", "--socket", folder + "/vmm", "--uds-path", device->uds_path()};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 1, (folder + "/log").c_str(),
                                   O_WRONLY | O_CREAT | O_APPEND, 0600);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  const int error =
      posix_spawn(&device->pid_, program.c_str(), &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    device->pid_ = -1;
    return SystemError(error, absl::StrCat("cannot start ", program));
  }
  device->process_ = UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, device->pid_, 0)));
  if (!device->process_.valid()) return SystemError(errno, "pidfd_open");
  return device;
}

DeviceProcess::~DeviceProcess() {
  if (pid_ < 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

absl::StatusOr<UniqueFd> DeviceProcess::Dial(const std::string& path) {
  const absl::Time deadline = absl::Now() + kStartTime;
  for (;;) {
    absl::StatusOr<UniqueFd> fd = FrontEnd::Dial(path);
    if (fd.ok()) return fd;
    // Nothing tells of a socket that begins to listen, so it is tried again each millisecond; of the
    // process's end this does.
    pollfd ended = {process_.get(), POLLIN, 0};
    if (poll(&ended, 1, 1) == 1) return ErrnoError(ECHILD, absl::StrCat("it has ended: ", Log()));
    if (absl::Now() > deadline) return Annotate(ErrnoError(ETIMEDOUT, fd.status().message()), path);
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

absl::StatusOr<int64_t> DeviceProcess::StatusKiB(const std::string& key) const {
  std::ifstream file(absl::StrCat("/proc/", pid_, "/status"));
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(key + ":", 0) == 0) return std::stoll(line.substr(key.size() + 1));
  }
  return ErrnoError(ECHILD, absl::StrCat("no ", key, " of the device: ", Log()));
}

std::string DeviceProcess::Log() const {
  std::ifstream file(directory_.path() + "/log");
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  return text.substr(text.size() - std::min(text.size(), kLogEnd));
}

}  // namespace argosy::vhost_user
