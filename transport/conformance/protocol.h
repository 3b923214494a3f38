// SPDX-License-Identifier: Apache-2.0
// File: transport/conformance/protocol.h
//
// What the two ends of the suite say to each other: one line for each command, and one for its answer.
//
//   7 listen 0 4294967295 128        tag, verb, numbers
//   7 done 0 1 1024                  tag, "done", errno, results
//   8 send 1 0 =68656c6c6f           bytes, in hexadecimal, at the end
//   9 &finish 1 60000                "&": at the same time as what follows
//
// Verbs and their numbers: agent.cc.
#ifndef ARGOSY_TRANSPORT_CONFORMANCE_PROTOCOL_H_
#define ARGOSY_TRANSPORT_CONFORMANCE_PROTOCOL_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace argosy::conformance {

inline constexpr size_t kMaxNumbers = 16;
inline constexpr size_t kMaxBytes = 2048;
inline constexpr size_t kMaxVerb = 24;
// Without its end: 20 digits are the longest number.
inline constexpr size_t kMaxLine = 20 + 2 + kMaxVerb + kMaxNumbers * 21 + 2 + 2 * kMaxBytes;

struct Message {
  uint64_t tag = 0;
  bool background = false;
  std::string verb;  // a-z and '-'
  std::vector<uint64_t> numbers;
  std::string bytes;

  friend bool operator==(const Message& a, const Message& b) {
    return a.tag == b.tag && a.background == b.background && a.verb == b.verb &&
           a.numbers == b.numbers && a.bytes == b.bytes;
  }
};

// `line` without its end.  EPROTO: it is not of the form above, or beyond the limits.
absl::StatusOr<Message> ParseMessage(absl::string_view line);

// The line, with its end.
std::string FormatMessage(const Message& message);

// Lines over a stream descriptor, which somebody else owns.  Reading and writing may be done by two
// threads at once.
class MessageChannel {
 public:
  explicit MessageChannel(int fd) : fd_(fd) {}

  // Waits for one message.  ENOTCONN: the other side hung up.  EPROTO as above.
  absl::StatusOr<Message> Read();
  absl::Status Write(const Message& message);

 private:
  const int fd_;
  std::string read_;  // not yet a whole line
};

}  // namespace argosy::conformance

#endif  // ARGOSY_TRANSPORT_CONFORMANCE_PROTOCOL_H_
