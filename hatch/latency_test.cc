// SPDX-License-Identifier: Apache-2.0
#include "hatch/latency.h"

#include <cerrno>
#include <deque>

#include "gtest/gtest.h"
#include "transport/error.h"

namespace argosy::hatch {
namespace {

TEST(Summarize, NearestRank) {
  std::vector<double> values;
  for (int i = 100; i >= 1; --i) values.push_back(i);
  const LatencySummary s = Summarize(values, 103);
  EXPECT_EQ(s.sent, 103u);
  EXPECT_EQ(s.lost, 3u);
  EXPECT_EQ(s.min, 1);
  EXPECT_EQ(s.p50, 50);
  EXPECT_EQ(s.p90, 90);
  EXPECT_EQ(s.p99, 99);
  EXPECT_EQ(s.max, 100);
}

TEST(Summarize, OneAndNone) {
  EXPECT_EQ(Summarize({7}, 1).p99, 7);
  EXPECT_EQ(Summarize({}, 4).lost, 4u);
}

// Answers at once, but loses frames, delays them or answers nonsense as told.
class FakeCarrier : public PingCarrier {
 public:
  absl::Status Send(absl::Span<const uint8_t> frame) override {
    ++sent;
    if (sent == lose) return absl::OkStatus();
    if (sent == delay) {
      late.assign(frame.begin(), frame.end());
      return absl::OkStatus();
    }
    if (!late.empty()) answers.push_back(std::move(late));
    late.clear();
    answers.emplace_back(frame.begin(), frame.end());
    if (nonsense) answers.back()[0] ^= 1;
    return absl::OkStatus();
  }
  absl::Status Receive(absl::Span<uint8_t> frame, absl::Time) override {
    if (answers.empty()) return ErrnoError(ETIMEDOUT, "none");
    std::copy(answers.front().begin(), answers.front().end(), frame.begin());
    answers.pop_front();
    return absl::OkStatus();
  }

  int sent = 0, lose = 0, delay = 0;
  bool nonsense = false;
  std::deque<std::vector<uint8_t>> answers;
  std::vector<uint8_t> late;
};

TEST(MeasureRoundTrips, CountsWhatIsLost) {
  FakeCarrier carrier;
  carrier.lose = 3;
  const auto s = MeasureRoundTrips(carrier, 10, 16, absl::Seconds(1));
  ASSERT_TRUE(s.ok());
  EXPECT_EQ(s->sent, 10u);
  EXPECT_EQ(s->lost, 1u);
}

TEST(MeasureRoundTrips, ALateAnswerIsNotTakenForTheNext) {
  FakeCarrier carrier;
  carrier.delay = 3;
  const auto s = MeasureRoundTrips(carrier, 10, 16, absl::Seconds(1));
  ASSERT_TRUE(s.ok());
  EXPECT_EQ(s->lost, 1u);
  EXPECT_TRUE(carrier.answers.empty());
}

TEST(MeasureRoundTrips, NoticesThatItIsNoEcho) {
  FakeCarrier carrier;
  carrier.nonsense = true;
  EXPECT_EQ(ErrnoOf(MeasureRoundTrips(carrier, 10, 16, absl::Seconds(1)).status()), EPROTO);
}

}  // namespace
}  // namespace argosy::hatch
