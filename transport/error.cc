// SPDX-License-Identifier: Apache-2.0
#include "transport/error.h"

#include <cerrno>
#include <cstring>
#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace argosy {
namespace {

// Where a status keeps its errno, as decimal text.
constexpr absl::string_view kErrnoPayload = "argosy/errno";

// The table of docs/errors.md.
absl::StatusCode CodeOf(int err) {
  switch (err) {
    case EAGAIN:
    case ECONNREFUSED:
      return absl::StatusCode::kUnavailable;
    case ECONNRESET:
      return absl::StatusCode::kAborted;
    case ETIMEDOUT:
      return absl::StatusCode::kDeadlineExceeded;
    case ENODEV:
    case ENOENT:
      return absl::StatusCode::kNotFound;
    case ESOCKTNOSUPPORT:
      return absl::StatusCode::kUnimplemented;
    case EADDRINUSE:
      return absl::StatusCode::kAlreadyExists;
    case EADDRNOTAVAIL:
      return absl::StatusCode::kOutOfRange;
    case EPIPE:
      return absl::StatusCode::kFailedPrecondition;
    case EACCES:
      return absl::StatusCode::kPermissionDenied;
    case ENETRESET:
      return absl::StatusCode::kCancelled;
    case ENOBUFS:
    case EMFILE:
      return absl::StatusCode::kResourceExhausted;
    case EMSGSIZE:
    case EINVAL:
      return absl::StatusCode::kInvalidArgument;
    case EPROTO:
      return absl::StatusCode::kInternal;
    default:
      return absl::ErrnoToStatusCode(err);
  }
}

}  // namespace

absl::Status ErrnoError(int err, absl::string_view message) {
  absl::Status status(CodeOf(err), message);
  status.SetPayload(kErrnoPayload, absl::Cord(absl::StrCat(err)));
  return status;
}

absl::Status SystemError(int err, absl::string_view message) {
  return ErrnoError(err, absl::StrCat(message, ": ", strerror(err)));
}

int ErrnoOf(const absl::Status& status) {
  if (status.ok()) return 0;
  const absl::optional<absl::Cord> payload = status.GetPayload(kErrnoPayload);
  int err;
  if (!payload.has_value() || !absl::SimpleAtoi(std::string(*payload), &err)) return EIO;
  return err;
}

absl::Status Annotate(const absl::Status& status, absl::string_view prefix) {
  if (status.ok()) return status;
  absl::Status annotated(status.code(), absl::StrCat(prefix, ": ", status.message()));
  status.ForEachPayload([&annotated](absl::string_view url, const absl::Cord& payload) {
    annotated.SetPayload(url, payload);
  });
  return annotated;
}

}  // namespace argosy
