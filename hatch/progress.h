// SPDX-License-Identifier: Apache-2.0
// File: hatch/progress.h
//
// A progress bar on standard error, if that is a terminal.
#ifndef ARGOSY_HATCH_PROGRESS_H_
#define ARGOSY_HATCH_PROGRESS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/time/time.h"

namespace argosy::hatch {

// "12.3 MiB".
std::string FormatBytes(double bytes);

// One line of at most `width` columns: share, bar, bytes, rate and the time left; without `total`
// what can be said.
std::string FormatProgress(uint64_t done, std::optional<uint64_t> total, absl::Duration elapsed,
                           int width);

class Progress {
 public:
  Progress();
  ~Progress();  // clears the line

  void Update(uint64_t done, std::optional<uint64_t> total);

 private:
  const bool shown_;
  const absl::Time start_;
  absl::Time next_;
};

}  // namespace argosy::hatch

#endif  // ARGOSY_HATCH_PROGRESS_H_
