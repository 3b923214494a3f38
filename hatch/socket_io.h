// SPDX-License-Identifier: Apache-2.0
// File: hatch/socket_io.h
//
// Whole reads and writes on a non-blocking stream.  Besides what is named, each fails with the
// errno of the system call, ETIMEDOUT at the deadline and EINTR after a signal.
#ifndef ARGOSY_HATCH_SOCKET_IO_H_
#define ARGOSY_HATCH_SOCKET_IO_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace argosy::hatch {

absl::Status SendAll(int fd, absl::Span<const uint8_t> bytes, absl::Time deadline);

// At least one byte, or 0 at end-of-file.
absl::StatusOr<size_t> ReceiveSome(int fd, absl::Span<uint8_t> buffer, absl::Time deadline);

// Fills the buffer.  ECONNRESET if the stream ends before.
absl::Status ReceiveAll(int fd, absl::Span<uint8_t> buffer, absl::Time deadline);

}  // namespace argosy::hatch

#endif  // ARGOSY_HATCH_SOCKET_IO_H_
