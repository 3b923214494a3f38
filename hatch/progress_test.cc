// SPDX-License-Identifier: Apache-2.0
#include "hatch/progress.h"

#include "gtest/gtest.h"

namespace argosy::hatch {
namespace {

TEST(FormatBytes, ChoosesTheUnit) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1536), "1.5 KiB");
  EXPECT_EQ(FormatBytes(3.0 * (1 << 20)), "3.0 MiB");
}

TEST(FormatProgress, ShowsShareBarRateAndTimeLeft) {
  EXPECT_EQ(FormatProgress(50 << 20, 100 << 20, absl::Seconds(10), 70),
            " 50% [================                ] 50.0 MiB  5.0 MiB/s  ETA 0:10");
}

TEST(FormatProgress, UnknownSizeHasNoShareAndNoEnd) {
  EXPECT_EQ(FormatProgress(1 << 20, std::nullopt, absl::Seconds(1), 80), "1.0 MiB  1.0 MiB/s");
}

TEST(FormatProgress, FitsIntoAnyWidth) {
  for (int width : {0, 1, 10, 40, 200}) {
    EXPECT_LE(FormatProgress(1 << 30, uint64_t{1} << 40, absl::Hours(5), width).size(),
              static_cast<size_t>(width));
  }
}

TEST(FormatProgress, NothingYet) {
  EXPECT_EQ(FormatProgress(0, 10, absl::ZeroDuration(), 30), "  0% [           ] 0 B  0 B/s");
}

}  // namespace
}  // namespace argosy::hatch
