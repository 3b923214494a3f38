// SPDX-License-Identifier: Apache-2.0
// File: hatch/latency.h
//
// Round trips: how they are measured, and what a set of them says.
#ifndef ARGOSY_HATCH_LATENCY_H_
#define ARGOSY_HATCH_LATENCY_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace argosy::hatch {

struct LatencySummary {
  uint64_t sent = 0;
  uint64_t lost = 0;
  // In microseconds; zero if everything was lost.
  double min = 0, p50 = 0, p90 = 0, p99 = 0, max = 0;
};

// `microseconds` of the round trips that came back, in any order.
LatencySummary Summarize(std::vector<double> microseconds, uint64_t sent);

// Where round trips go: over a stream or by datagrams.
class PingCarrier {
 public:
  virtual ~PingCarrier() = default;
  virtual absl::Status Send(absl::Span<const uint8_t> frame) = 0;
  // Fills `frame` with the next that comes back.  ETIMEDOUT at the deadline.
  virtual absl::Status Receive(absl::Span<uint8_t> frame, absl::Time deadline) = 0;
};

// Sends `count` frames of `size` (at least 16) bytes, each after the answer to the one before or
// after `patience`.  EPROTO if something else than an echo answers.  A signal ends the measurement
// early, with what there is.
absl::StatusOr<LatencySummary> MeasureRoundTrips(PingCarrier& carrier, uint64_t count, size_t size,
                                                 absl::Duration patience);

// A connected, non-blocking stream.
class StreamCarrier : public PingCarrier {
 public:
  explicit StreamCarrier(int fd, absl::Duration patience) : fd_(fd), patience_(patience) {}
  absl::Status Send(absl::Span<const uint8_t> frame) override;
  absl::Status Receive(absl::Span<uint8_t> frame, absl::Time deadline) override;

 private:
  const int fd_;
  const absl::Duration patience_;
  std::vector<uint8_t> partial_;  // of a frame that had not come in time
};

}  // namespace argosy::hatch

#endif  // ARGOSY_HATCH_LATENCY_H_
