// SPDX-License-Identifier: Apache-2.0
#include "sim/testing/daemon.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "transport/error.h"
#include "transport/unique_fd.h"

extern char** environ;

namespace argosy::sim {

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(const std::vector<std::string>& arguments) {
  // Not $TEST_TMPDIR: a UNIX socket's path must be short.
  char folder[] = "/tmp/argosy-XXXXXX";
  if (mkdtemp(folder) == nullptr) return SystemError(errno, "cannot make a folder");
  const char* binary = getenv("ARGOSY_SIM");
  std::vector<std::string> command = {binary != nullptr ? binary : "sim/argosy-sim", "--socket",
                                      absl::StrCat(folder, "/sim.sock"), "--log-level", "warn"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : command) argv.push_back(word.data());
  argv.push_back(nullptr);

  int out[2];
  if (pipe2(out, O_CLOEXEC) != 0) return SystemError(errno, "cannot make a pipe");
  UniqueFd read_end(out[0]), write_end(out[1]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, write_end.get(), STDOUT_FILENO);
  pid_t pid;
  const int error = posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  write_end.reset();
  if (error != 0) {
    rmdir(folder);
    return SystemError(error, absl::StrCat("cannot run ", command[0]));
  }
  auto daemon = absl::WrapUnique(new Daemon(folder, pid));
  // It says one line when it is ready; end-of-file says that it failed.
  std::string line;
  for (char c; line.empty() || line.back() != '\n'; line += c) {
    const ssize_t n = read(read_end.get(), &c, 1);
    if (n < 0 && errno == EINTR) continue;
    if (n != 1) return ErrnoError(ECONNREFUSED, absl::StrCat(command[0], " did not start"));
  }
  return daemon;
}

Daemon::~Daemon() { Stop(); }

void Daemon::Stop() {
  Kill(SIGTERM);
  unlink(socket_.c_str());
  unlink((socket_ + ".lock").c_str());
  rmdir(folder_.c_str());
}

int Daemon::Kill(int signal) {
  if (pid_ <= 0) return -1;
  kill(pid_, signal);
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace argosy::sim
