// SPDX-License-Identifier: Apache-2.0
#include "nested-test/xen/follow.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <map>
#include <string_view>

#include "nested-test/xen/xenstore.h"
#include "transport/unique_fd.h"

namespace argosy {
namespace {

constexpr std::string_view kBefore = "guest-", kBehind = ".log";

// What was added to a file since the last look.
class Tail {
 public:
  explicit Tail(const std::string& path) : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}

  std::string More() {
    std::string more;
    char piece[4096];
    ssize_t n;
    while ((n = read(fd_.get(), piece, sizeof(piece))) > 0) more.append(piece, n);
    return more;
  }

 private:
  UniqueFd fd_;
};

struct Console {
  Tail tail;
  std::string line;
};

void Emit(const std::string& name, std::string& line) {
  while (!line.empty() && line.back() == '\r') line.pop_back();
  const std::string out = name + "| " + line + "\n";
  // One write for a line, so that other writers of a terminal do not cut it.
  if (write(STDOUT_FILENO, out.data(), out.size()) < 0) Die("cannot write a console");
  line.clear();
}

void CopyAll(const std::string& folder, std::map<std::string, Console>& consoles) {
  DIR* dir = opendir(folder.c_str());
  if (dir == nullptr) Die("there is no folder " + folder);
  while (const dirent* entry = readdir(dir)) {
    const std::string_view file = entry->d_name;
    if (file.size() <= kBefore.size() + kBehind.size() || file.rfind(kBefore, 0) != 0) continue;
    if (file.substr(file.size() - kBehind.size()) != kBehind) continue;
    const std::string name(
        file.substr(kBefore.size(), file.size() - kBefore.size() - kBehind.size()));
    Console& console =
        consoles.try_emplace(name, Console{Tail(folder + "/" + std::string(file)), ""})
            .first->second;
    for (char c : console.tail.More()) {
      if (c == '\n') {
        Emit(name, console.line);
      } else {
        console.line.push_back(c);
      }
    }
  }
  closedir(dir);
}

UniqueFd Inotify(const std::string& path) {
  UniqueFd inotify(inotify_init1(IN_CLOEXEC));
  if (inotify_add_watch(inotify.get(), path.c_str(), IN_CREATE | IN_MODIFY) < 0) {
    Die("cannot watch " + path + ": " + strerror(errno));
  }
  return inotify;
}

}  // namespace

int Follow(const std::string& folder) {
  sigset_t term;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  sigprocmask(SIG_BLOCK, &term, nullptr);
  UniqueFd signals(signalfd(-1, &term, SFD_CLOEXEC));
  UniqueFd inotify = Inotify(folder);
  std::map<std::string, Console> consoles;
  for (;;) {
    CopyAll(folder, consoles);
    pollfd fds[] = {{inotify.get(), POLLIN, 0}, {signals.get(), POLLIN, 0}};
    if (poll(fds, 2, -1) < 0) continue;
    if (fds[1].revents & POLLIN) break;
    char events[4096];
    if (read(inotify.get(), events, sizeof(events)) < 0) Die("cannot read from inotify");
  }
  CopyAll(folder, consoles);
  for (auto& [name, console] : consoles) {
    if (!console.line.empty()) Emit(name, console.line);
  }
  return 0;
}

int Await(const std::string& file, const std::string& text, int writer) {
  UniqueFd inotify = Inotify(file);
  UniqueFd process(writer == 0 ? -1 : static_cast<int>(syscall(SYS_pidfd_open, writer, 0)));
  // A process that cannot be opened has been waited for already.
  bool ended = writer != 0 && !process.valid();
  Tail tail(file);
  for (std::string seen;;) {
    seen += tail.More();
    if (seen.find(text) != std::string::npos) return 0;
    if (ended) return 1;
    const size_t last = seen.rfind('\n');
    if (last != std::string::npos) seen.erase(0, last);
    pollfd fds[] = {{inotify.get(), POLLIN, 0}, {process.get(), POLLIN, 0}};
    if (poll(fds, 2, -1) < 0) continue;
    // What it wrote at its end is looked at once more.
    ended = fds[1].revents != 0;
    char events[4096];
    if ((fds[0].revents & POLLIN) && read(inotify.get(), events, sizeof(events)) < 0) {
      Die("cannot read from inotify");
    }
  }
}

}  // namespace argosy
