// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/testing/host_program.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace argosy::vhost_user {

std::string Read(const UniqueFd& fd, size_t size, absl::Time deadline, const Pump& pump) {
  std::string text;
  while (text.size() < size) {
    if (!WaitReadable(fd.get(), deadline, pump)) return text + "<nothing more>";
    char bytes[65536];
    const ssize_t n =
        recv(fd.get(), bytes, std::min(sizeof(bytes), size - text.size()), MSG_DONTWAIT);
    if (n < 0) return absl::StrCat(text, "<", strerror(errno), ">");
    if (n == 0) return text + "<eof>";
    text.append(bytes, static_cast<size_t>(n));
  }
  return text;
}

void Write(const UniqueFd& fd, absl::string_view text) {
  EXPECT_EQ(send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(text.size()));
}

}  // namespace argosy::vhost_user
