// SPDX-License-Identifier: Apache-2.0
#include "hatch/stdio.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "hatch/wait.h"
#include "transport/error.h"

namespace argosy::hatch {

void OpenMissingStandardStreams() {
  for (int fd = 0; fd <= 2; ++fd) {
    // open() takes the lowest free number, which is `fd`: those below it are open by now.
    if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd) _exit(1);
  }
}

StandardOutput::StandardOutput() {
  struct stat st;
  if (fstat(STDOUT_FILENO, &st) == 0 && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode))) {
    never_blocks_ = true;
    return;
  }
  own_ = UniqueFd(open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY));
  never_blocks_ = own_.valid();
}

absl::StatusOr<size_t> StandardOutput::Write(absl::Span<const uint8_t> bytes) {
  if (!never_blocks_) {
    pollfd ready = {STDOUT_FILENO, POLLOUT, 0};
    if (poll(&ready, 1, 0) == 0) return 0;
    bytes = bytes.first(std::min<size_t>(bytes.size(), PIPE_BUF));
  }
  const ssize_t n = write(fd(), bytes.data(), bytes.size());
  if (n >= 0) return n;
  if (errno == EAGAIN || errno == EINTR) return 0;
  return SystemError(errno, "cannot write to standard output");
}

absl::Status StandardOutput::WriteAll(absl::Span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    absl::StatusOr<size_t> n = Write(bytes);
    if (!n.ok()) return n.status();
    bytes.remove_prefix(*n);
    if (*n > 0) continue;
    pollfd ready = {fd(), POLLOUT, 0};
    if (absl::Status s = PollOrStop({&ready, 1}, absl::InfiniteFuture()); !s.ok()) return s;
  }
  return absl::OkStatus();
}

}  // namespace argosy::hatch
