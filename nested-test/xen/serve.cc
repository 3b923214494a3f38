// SPDX-License-Identifier: Apache-2.0
#include "nested-test/xen/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <optional>
#include <vector>

#include "nested-test/xen/xenstore.h"
#include "transport/unique_fd.h"

namespace argosy {
namespace {

// Xenstore lets a guest have nodes of 2048 bytes, with what belongs to a node counted in.
constexpr size_t kPiece = 1024;
constexpr int kGuestGone = 255;

// Signals as a descriptor, so that none comes between a look and a wait.
UniqueFd SignalFd(std::initializer_list<int> signals) {
  sigset_t set;
  sigemptyset(&set);
  for (int s : signals) sigaddset(&set, s);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  return UniqueFd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

class Command {
 public:
  Command(std::string node, const std::string& text) : node_(std::move(node)) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) Die("no pipe");
    UniqueFd writing(ends[1]);
    output_.reset(ends[0]);
    fcntl(output_.get(), F_SETFL, O_NONBLOCK);
    // One line, whatever the command; alarms are not looked for in it.
    std::string shown = text;
    std::replace(shown.begin(), shown.end(), '\n', ' ');
    printf("rig: runs %s\n", shown.c_str());
    pid_ = fork();
    if (pid_ < 0) Die("cannot fork");
    if (pid_ != 0) return;
    setsid();
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    dup2(null, STDIN_FILENO);
    dup2(writing.get(), STDOUT_FILENO);
    dup2(writing.get(), STDERR_FILENO);
    execl("/bin/sh", "sh", "-c", text.c_str(), nullptr);
    _exit(127);
  }

  pid_t pid() const { return pid_; }
  bool done() const { return done_; }
  // Where more output, or its end, is waited for; -1 if nothing is.
  int fd() const { return piece_is_there_ || done_ ? -1 : output_.get(); }

  void Ended(int status) {
    status_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }
  void Kill() {
    if (!status_) kill(-pid_, SIGKILL);
  }

  // Hands on what there is; called whenever something may have changed.
  void Advance(Xenstore& store) {
    if (done_) return;
    if (piece_is_there_ && store.Read(node_ + "/output")) return;
    piece_is_there_ = false;
    // A process that the command has left behind may keep the pipe open: what is there when it ends counts.
    char piece[kPiece];
    const ssize_t n = read(output_.get(), piece, sizeof(piece));
    if (n > 0) {
      piece_is_there_ = store.Write(node_ + "/output", {piece, static_cast<size_t>(n)});
    } else if (status_) {
      store.Write(node_ + "/status", std::to_string(*status_));
      printf("rig: ended with %d\n", *status_);
      done_ = true;
    } else if (n == 0) {
      output_.reset();  // it has closed its output, and runs on
    }
  }

 private:
  const std::string node_;
  pid_t pid_ = -1;
  UniqueFd output_;
  std::optional<int> status_;
  bool piece_is_there_ = false;
  bool done_ = false;
};

void Reap(std::map<std::string, Command>& commands) {
  for (;;) {
    int status;
    const pid_t pid = waitpid(-1, &status, WNOHANG);
    if (pid <= 0) return;
    for (auto& [id, command] : commands) {
      if (command.pid() == pid) command.Ended(status);
    }
  }
}

// Starts a command that dom0 has ordered, and kills one that it has given up.
void Look(Xenstore& store, const std::string& node, const std::string& id,
          std::map<std::string, Command>& commands) {
  const std::optional<std::string> text = store.Read(node + "/command");
  const auto known = commands.find(id);
  if (text && known == commands.end()) {
    commands.try_emplace(id, node, *text);
  } else if (!text && known != commands.end()) {
    known->second.Kill();
    commands.erase(known);
  }
}

}  // namespace

void Serve() {
  setlinebuf(stdout);
  UniqueFd signals = SignalFd({SIGCHLD, SIGUSR2, SIGTERM});
  Xenstore store;
  store.Watch(kRunNode);
  const std::string ready = std::string(kRunNode) + "/ready";
  const std::string below = std::string(kRunNode) + "/";
  std::map<std::string, Command> commands;
  for (;;) {
    std::vector<pollfd> fds = {{signals.get(), POLLIN, 0}, {store.fd(), POLLIN, 0}};
    for (auto& [id, command] : commands) {
      if (command.fd() >= 0) fds.push_back({command.fd(), POLLIN, 0});
    }
    if (poll(fds.data(), fds.size(), store.EventQueued() ? 0 : -1) < 0 && errno != EINTR) {
      Die("cannot poll");
    }
    signalfd_siginfo info;
    while (read(signals.get(), &info, sizeof(info)) > 0) {
      // How busybox's poweroff and reboot tell process 1.
      if (info.ssi_signo == SIGUSR2) reboot(RB_POWER_OFF);
      if (info.ssi_signo == SIGTERM) reboot(RB_AUTOBOOT);
    }
    Reap(commands);
    if (store.EventQueued() || (fds[1].revents & POLLIN)) {
      const std::string path = store.NextEvent();
      // A restored domain begins without what it wrote, and hears so: a watch that is set again fires.
      if (!store.Read(ready)) store.Write(ready, "1");
      std::vector<std::string> ids;
      if (path.rfind(below, 0) == 0) {
        ids.push_back(path.substr(below.size(), path.find('/', below.size()) - below.size()));
      } else {
        for (auto& [id, command] : commands) ids.push_back(id);
      }
      for (const std::string& id : ids) Look(store, below + id, id, commands);
    }
    for (auto& [id, command] : commands) command.Advance(store);
  }
}

int Run(const std::string& domid, const std::string& command) {
  UniqueFd signals = SignalFd({SIGTERM, SIGINT, SIGHUP});
  Xenstore store;
  const std::string domain = "/local/domain/" + domid;
  const std::string node = domain + "/" + kRunNode + "/" + std::to_string(getpid());
  auto gone = [&domid] {
    fprintf(stderr, "rig: domain %s has gone\n", domid.c_str());
    return kGuestGone;
  };
  if (!store.Read(domain + "/" + kRunNode + "/ready")) return gone();
  store.Remove(node);  // what an earlier process of the same number may have left
  store.Watch(node);
  store.Watch("@releaseDomain");
  store.Write(node + "/command", command);
  for (;;) {
    pollfd fds[] = {{signals.get(), POLLIN, 0}, {store.fd(), POLLIN, 0}};
    if (!store.EventQueued()) poll(fds, 2, -1);
    if (fds[0].revents & POLLIN) {
      store.Remove(node);
      return 128 + SIGTERM;
    }
    store.NextEvent();
    if (const auto piece = store.Read(node + "/output")) {
      store.Remove(node + "/output");
      if (fwrite(piece->data(), 1, piece->size(), stdout) != piece->size() || fflush(stdout) != 0) {
        store.Remove(node);
        Die("cannot write the output of the command");
      }
    } else if (const auto status = store.Read(node + "/status")) {
      store.Remove(node);
      return atoi(status->c_str());
    } else if (!store.DomainExists(domid) || !store.Read(domain)) {
      return gone();
    }
  }
}

int Ready(const std::string& name, const std::string& old) {
  Xenstore store;
  store.Watch("/local/domain");
  store.Watch("@releaseDomain");
  std::string seen;
  for (;;) {
    store.NextEvent();
    std::string found;
    for (const std::string& domid : store.List("/local/domain")) {
      if (domid != old && store.DomainExists(domid) &&
          store.Read("/local/domain/" + domid + "/name").value_or("") == name) {
        found = domid;
      }
    }
    if (!found.empty() && store.Read("/local/domain/" + found + "/" + kRunNode + "/ready")) {
      printf("%s\n", found.c_str());
      return 0;
    }
    if (found.empty() && (!seen.empty() || old.empty())) {
      fprintf(stderr, "rig: there is no domain '%s'\n", name.c_str());
      return 1;
    }
    if (!found.empty()) seen = found;
  }
}

int Gone(const std::string& domid) {
  Xenstore store;
  store.Watch("@releaseDomain");
  store.Watch("/local/domain/" + domid);
  while (store.DomainExists(domid) || store.Read("/local/domain/" + domid)) store.NextEvent();
  return 0;
}

}  // namespace argosy
