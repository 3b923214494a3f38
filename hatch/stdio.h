// SPDX-License-Identifier: Apache-2.0
// File: hatch/stdio.h
//
// Standard output that never blocks, whatever it is.
#ifndef ARGOSY_HATCH_STDIO_H_
#define ARGOSY_HATCH_STDIO_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "transport/unique_fd.h"

namespace argosy::hatch {

// Opens /dev/null on whichever of descriptors 0, 1 and 2 is closed, so that no socket ever takes
// their place.
void OpenMissingStandardStreams();

// Setting O_NONBLOCK on descriptor 1 would set it for every process that shares it (the shell,
// say).  So pipes and terminals are opened a second time, and where that is impossible writes stay
// within what poll() promises.
class StandardOutput {
 public:
  StandardOutput();

  int fd() const { return own_.valid() ? own_.get() : 1; }
  // How many bytes were taken; 0 if none can be now: poll for POLLOUT.
  absl::StatusOr<size_t> Write(absl::Span<const uint8_t> bytes);
  // All of them; a signal ends it.
  absl::Status WriteAll(absl::Span<const uint8_t> bytes);

 private:
  UniqueFd own_;
  bool never_blocks_ = false;
};

}  // namespace argosy::hatch

#endif  // ARGOSY_HATCH_STDIO_H_
