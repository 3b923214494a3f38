// SPDX-License-Identifier: Apache-2.0
#include "hatch/latency.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>

#include "absl/time/clock.h"
#include "hatch/endian.h"
#include "hatch/socket_io.h"
#include "hatch/wait.h"
#include "transport/error.h"

namespace argosy::hatch {
namespace {

// A frame: this, its number, and filling.
constexpr uint64_t kFrameMagic = 0x676e69702d686368;  // "hch-ping"

}  // namespace

LatencySummary Summarize(std::vector<double> microseconds, uint64_t sent) {
  LatencySummary summary;
  summary.sent = sent;
  summary.lost = sent - microseconds.size();
  if (microseconds.empty()) return summary;
  std::sort(microseconds.begin(), microseconds.end());
  // Nearest rank.
  const auto percentile = [&](double share) {
    const auto rank = static_cast<size_t>(std::ceil(share * microseconds.size()));
    return microseconds[std::max<size_t>(rank, 1) - 1];
  };
  summary.min = microseconds.front();
  summary.p50 = percentile(0.50);
  summary.p90 = percentile(0.90);
  summary.p99 = percentile(0.99);
  summary.max = microseconds.back();
  return summary;
}

absl::StatusOr<LatencySummary> MeasureRoundTrips(PingCarrier& carrier, uint64_t count, size_t size,
                                                 absl::Duration patience) {
  using Clock = std::chrono::steady_clock;
  std::vector<uint8_t> out(size), in(size);
  for (size_t i = 0; i < size; ++i) out[i] = static_cast<uint8_t>(i);
  StoreLittle(out.data(), kFrameMagic);
  std::vector<double> microseconds;
  uint64_t sent = 0;
  while (sent < count && !Stopped()) {
    const uint64_t number = sent++;
    StoreLittle(out.data() + 8, number);
    const Clock::time_point start = Clock::now();
    const absl::Time deadline = absl::Now() + patience;
    absl::Status s = carrier.Send(out);
    while (s.ok()) {
      s = carrier.Receive(absl::MakeSpan(in), deadline);
      if (!s.ok()) break;
      if (LoadLittle<uint64_t>(in.data()) != kFrameMagic) {
        return ErrnoError(EPROTO, "what answers is no echo: start 'hatch echo PORT' there");
      }
      // Older ones are late, and counted as lost already.
      if (LoadLittle<uint64_t>(in.data() + 8) == number) break;
    }
    if (s.ok()) {
      microseconds.push_back(
          std::chrono::duration<double, std::micro>(Clock::now() - start).count());
    } else if (ErrnoOf(s) == EINTR) {
      --sent;
    } else if (ErrnoOf(s) != ETIMEDOUT) {
      return s;
    }
  }
  return Summarize(std::move(microseconds), sent);
}

absl::Status StreamCarrier::Send(absl::Span<const uint8_t> frame) {
  return SendAll(fd_, frame, absl::Now() + patience_);
}

absl::Status StreamCarrier::Receive(absl::Span<uint8_t> frame, absl::Time deadline) {
  size_t have = partial_.size();
  std::copy(partial_.begin(), partial_.end(), frame.begin());
  partial_.clear();
  while (have < frame.size()) {
    absl::StatusOr<size_t> n = ReceiveSome(fd_, frame.subspan(have), deadline);
    if (!n.ok()) {
      partial_.assign(frame.begin(), frame.begin() + have);
      return n.status();
    }
    if (*n == 0) return ErrnoError(ECONNRESET, "the peer closed the connection too early");
    have += *n;
  }
  return absl::OkStatus();
}

}  // namespace argosy::hatch
