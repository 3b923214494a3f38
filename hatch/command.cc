// SPDX-License-Identifier: Apache-2.0
#include "hatch/command.h"

#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "transport/error.h"

namespace argosy::hatch {
namespace {

constexpr char kPeerCid[] = "HATCH_PEER_CID=";
constexpr char kPeerPort[] = "HATCH_PEER_PORT=";

std::vector<std::string> Environment(const Address& peer) {
  std::vector<std::string> all;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (!absl::StartsWith(*entry, kPeerCid) && !absl::StartsWith(*entry, kPeerPort))
      all.push_back(*entry);
  }
  all.push_back(absl::StrCat(kPeerCid, peer.cid));
  all.push_back(absl::StrCat(kPeerPort, peer.port));
  return all;
}

}  // namespace

absl::StatusOr<ChildCommand> ChildCommand::Start(const std::string& command, const Socket& socket) {
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  absl::Cleanup destroy = [&] {
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
  };
  posix_spawn_file_actions_adddup2(&files, socket.fd(), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&files, socket.fd(), STDOUT_FILENO);
  // What hatch ignores for itself the child must not inherit.
  sigset_t defaults;
  sigemptyset(&defaults);
  sigaddset(&defaults, SIGPIPE);
  sigaddset(&defaults, SIGXFSZ);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);

  std::vector<std::string> environment = Environment(socket.peer());
  std::vector<char*> envp;
  for (std::string& entry : environment) envp.push_back(entry.data());
  envp.push_back(nullptr);
  std::string arguments[] = {"sh", "-c", command};
  char* argv[] = {arguments[0].data(), arguments[1].data(), arguments[2].data(), nullptr};
  pid_t pid;
  if (int err = posix_spawn(&pid, "/bin/sh", &files, &attributes, argv, envp.data()); err != 0) {
    return SystemError(err, "cannot start /bin/sh");
  }
  // Not pidfd_open(): Debian 12's header declares it without extern "C".
  ChildCommand child(pid, UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))));
  if (!child.ended_.valid()) return SystemError(errno, "pidfd_open");
  return child;
}

ChildCommand::~ChildCommand() {
  // Not waited for: it may take its time, and init collects it once hatch is gone.
  if (pid_ >= 0) kill(-pid_, SIGTERM);
}

absl::Status ChildCommand::Collect() {
  int status = 0;
  if (waitpid(std::exchange(pid_, -1), &status, 0) < 0) return SystemError(errno, "waitpid");
  if (WIFSIGNALED(status))
    return ErrnoError(ECHILD, absl::StrCat("the command was killed by signal ", WTERMSIG(status)));
  if (WEXITSTATUS(status) != 0) {
    return ErrnoError(ECHILD,
                      absl::StrCat("the command ended with exit code ", WEXITSTATUS(status)));
  }
  return absl::OkStatus();
}

}  // namespace argosy::hatch
