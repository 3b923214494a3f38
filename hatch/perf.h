// SPDX-License-Identifier: Apache-2.0
// File: hatch/perf.h
//
// `hatch perf`: throughput and latency between a client and a server.
#ifndef ARGOSY_HATCH_PERF_H_
#define ARGOSY_HATCH_PERF_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "hatch/latency.h"
#include "hatch/session.h"

namespace argosy::hatch {

struct PerfResult {
  std::string transport;
  Address peer;
  bool reverse = false;  // the server sent
  uint64_t bytes = 0;
  double seconds = 0;
  size_t block = 0;
  size_t ping_size = 0;
  LatencySummary latency;
};

std::string FormatText(const PerfResult& result);
std::string FormatJson(const PerfResult& result);  // one line, one object

absl::Status RunPerf(const Session& session);

// One measurement after another, until a signal (EINTR).
absl::Status RunPerfServer(const Session& session);

}  // namespace argosy::hatch

#endif  // ARGOSY_HATCH_PERF_H_
