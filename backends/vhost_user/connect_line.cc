// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/connect_line.h"

#include <cerrno>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "transport/error.h"

namespace argosy::vhost_user {

absl::StatusOr<ConnectLine> ParseConnectLine(absl::string_view bytes) {
  const absl::string_view head = bytes.substr(0, kMaxConnectLine);
  const size_t newline = head.find('\n');
  if (newline == absl::string_view::npos) {
    if (head.size() < kMaxConnectLine) return ConnectLine();
    return ErrnoError(EPROTO, "the client sent no line in its first 64 bytes");
  }
  const std::vector<absl::string_view> words =
      absl::StrSplit(head.substr(0, newline), absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
  ConnectLine line;
  // Digits alone: SimpleAtoi() takes signs, too.
  if (words.size() != 2 || !absl::EqualsIgnoreCase(words[0], "connect") ||
      words[1].find_first_not_of("0123456789") != absl::string_view::npos ||
      !absl::SimpleAtoi(words[1], &line.port) || line.port == UINT32_MAX) {
    return ErrnoError(EPROTO, "the client's line is not 'CONNECT PORT'");
  }
  line.size = newline + 1;
  return line;
}

}  // namespace argosy::vhost_user
