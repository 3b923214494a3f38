// SPDX-License-Identifier: Apache-2.0
// File: backends/vhost_user/connect_line.h
//
// The line by which a client of the host asks for a port of the guest (hybrid vsock):
//
//   client: CONNECT 1234\n      answer: OK 1234\n, or the end of the connection
//
// There is no specification.  As the known servers: the word in any case, any blanks between, a
// carriage return before the newline ignored.  The answer has the port that was asked for, as clients
// expect (vhost-device-vsock does so; others answer a port of their own).
#ifndef ARGOSY_BACKENDS_VHOST_USER_CONNECT_LINE_H_
#define ARGOSY_BACKENDS_VHOST_USER_CONNECT_LINE_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace argosy::vhost_user {

// Longest line, newline included: a word, blanks, ten digits.
inline constexpr size_t kMaxConnectLine = 64;

struct ConnectLine {
  size_t size = 0;  // with its newline; 0: it has not come to its end yet
  uint32_t port = 0;
};

// Looks for the line at the start of `bytes`; what follows it is the client's data.  EPROTO: it is no
// such line, or too long.
absl::StatusOr<ConnectLine> ParseConnectLine(absl::string_view bytes);

}  // namespace argosy::vhost_user

#endif  // ARGOSY_BACKENDS_VHOST_USER_CONNECT_LINE_H_
