// SPDX-License-Identifier: Apache-2.0
#include "transport/conformance/pattern.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstdint>
#include <set>
#include <vector>

#include "gtest/gtest.h"
#include "transport/unique_fd.h"

namespace argosy::conformance {
namespace {

// What a carrier may lose, double or swap: bytes, lines of a cache, pages, packets, buffers.
TEST(PatternTest, PiecesDifferWhateverLiesBetween) {
  for (uint64_t first : {uint64_t{0}, uint64_t{1}, uint64_t{100'003}, uint64_t{1} << 30}) {
    const std::vector<uint8_t> piece = Pattern{64, first}.Bytes();
    for (uint64_t distance = 1; distance <= uint64_t{1} << 40; distance *= 2) {
      EXPECT_NE(piece, (Pattern{64, first + distance}.Bytes())) << first << " + " << distance;
    }
  }
}

// A GiB, which is what cases with a lot of data carry, has 512 of them.
TEST(PatternTest, NoTwoMebibytesAreLikeOthers) {
  std::set<std::vector<uint8_t>> beginnings;
  for (uint64_t i = 0; i < 512; ++i) beginnings.insert(Pattern{64, i << 21}.Bytes());
  EXPECT_EQ(beginnings.size(), 512u);
}

TEST(PatternTest, ReceivingTellsWhereThePatternWasLeft) {
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  const UniqueFd here(pair[0]), there(pair[1]);
  // The second piece is the one 2 MiB further on.
  int error = 0;
  ASSERT_EQ(SendPattern(here.get(), {1000, 0}, 300, &error), 1000u);
  ASSERT_EQ(SendPattern(here.get(), {1000, 1000 + (2 << 20)}, 300, &error), 1000u);
  shutdown(here.get(), SHUT_WR);
  const Received got = ReceivePattern(there.get(), {3000}, 700);
  EXPECT_EQ(got.bytes, 2000u);
  EXPECT_EQ(got.error, 0);
  EXPECT_FALSE(got.matches);
  // By chance the first bytes may be those of the pattern.
  EXPECT_GE(got.first_wrong, 1000u);
  EXPECT_LT(got.first_wrong, 1010u);
}

}  // namespace
}  // namespace argosy::conformance
