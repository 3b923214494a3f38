// SPDX-License-Identifier: Apache-2.0
#include "transport/conformance/protocol.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "transport/error.h"

namespace argosy::conformance {
namespace {

absl::Status Bad(absl::string_view what) {
  return ErrnoError(EPROTO, absl::StrCat("a control line with ", what));
}

bool ParseNumber(absl::string_view word, uint64_t* number) {
  // SimpleAtoi() would take signs and blanks.
  return !word.empty() && std::all_of(word.begin(), word.end(), absl::ascii_isdigit) &&
         absl::SimpleAtoi(word, number);
}

}  // namespace

absl::StatusOr<Message> ParseMessage(absl::string_view line) {
  if (line.size() > kMaxLine) return Bad("too much in it");
  std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
  Message message;
  if (words.size() < 2 || !ParseNumber(words[0], &message.tag)) return Bad("no tag and verb");
  message.background = absl::ConsumePrefix(&words[1], "&");
  message.verb = std::string(words[1]);
  if (message.verb.empty() || message.verb.size() > kMaxVerb ||
      !std::all_of(message.verb.begin(), message.verb.end(),
                   [](char c) { return absl::ascii_islower(c) || c == '-'; })) {
    return Bad("a malformed verb");
  }
  if (absl::string_view hex = words.back(); absl::ConsumePrefix(&hex, "=")) {
    if (hex.empty() || hex.size() % 2 != 0 || hex.size() > 2 * kMaxBytes ||
        !std::all_of(hex.begin(), hex.end(), absl::ascii_isxdigit)) {
      return Bad("malformed bytes");
    }
    message.bytes = absl::HexStringToBytes(hex);
    words.pop_back();
  }
  if (words.size() - 2 > kMaxNumbers) return Bad("too many numbers");
  for (size_t i = 2; i < words.size(); ++i) {
    if (!ParseNumber(words[i], &message.numbers.emplace_back())) return Bad("a malformed number");
  }
  return message;
}

std::string FormatMessage(const Message& message) {
  std::string line = absl::StrCat(message.tag, " ", message.background ? "&" : "", message.verb);
  for (uint64_t number : message.numbers) absl::StrAppend(&line, " ", number);
  if (!message.bytes.empty()) absl::StrAppend(&line, " =", absl::BytesToHexString(message.bytes));
  return line + "\n";
}

absl::StatusOr<Message> MessageChannel::Read() {
  for (;;) {
    if (const size_t end = read_.find('\n'); end != std::string::npos) {
      absl::StatusOr<Message> message = ParseMessage(absl::string_view(read_).substr(0, end));
      read_.erase(0, end + 1);
      return message;
    }
    if (read_.size() > kMaxLine) return Bad("no end");
    char buffer[4096];
    const ssize_t n = read(fd_, buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return SystemError(errno, "the control connection");
    if (n == 0) return ErrnoError(ENOTCONN, "the other side hung up");
    read_.append(buffer, n);
  }
}

absl::Status MessageChannel::Write(const Message& message) {
  const std::string line = FormatMessage(message);
  absl::string_view rest = line;
  while (!rest.empty()) {
    const ssize_t n = send(fd_, rest.data(), rest.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return SystemError(errno, "the control connection");
    rest.remove_prefix(n);
  }
  return absl::OkStatus();
}

}  // namespace argosy::conformance
