// SPDX-License-Identifier: Apache-2.0
// File: transport/error.h
//
// Errors of the socket contract: an absl::Status that keeps its errno.  docs/errors.md is the table
// errno - status - what to do; error_test.cc holds the two together.
//
//   absl::Status s = ErrnoError(ECONNRESET, "dom1:1234: nobody listens there");
//   ErrnoOf(s) == ECONNRESET; s.code() == absl::StatusCode::kAborted;
#ifndef ARGOSY_TRANSPORT_ERROR_H_
#define ARGOSY_TRANSPORT_ERROR_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace argosy {

// A status with the code that belongs to `err` (not 0) and a message for people: what happened, and
// what to do if there is something to do.  The message says it in words; it need not repeat
// strerror.
absl::Status ErrnoError(int err, absl::string_view message);

// As above, with ": " and strerror(err) behind the message.  For system calls.
absl::Status SystemError(int err, absl::string_view message);

// The errno kept in `status`: 0 for OK, EIO for a failed status that carries none.
int ErrnoOf(const absl::Status& status);

// A copy with `prefix` and ": " before the message, code and errno kept.  OK stays OK.
absl::Status Annotate(const absl::Status& status, absl::string_view prefix);

}  // namespace argosy

#endif  // ARGOSY_TRANSPORT_ERROR_H_
