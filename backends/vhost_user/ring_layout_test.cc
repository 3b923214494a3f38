// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/ring_layout.h"

#include "gtest/gtest.h"

namespace argosy::vhost_user {
namespace {

TEST(RingLayout, SizesAreThoseOfTheSpecification) {
  EXPECT_EQ(DescriptorsBytes(128), 2048u);
  EXPECT_EQ(AvailableBytes(128, false), 260u);
  EXPECT_EQ(AvailableBytes(128, true), 262u);
  EXPECT_EQ(UsedBytes(128, false), 1028u);
  EXPECT_EQ(UsedBytes(128, true), 1030u);
}

TEST(RingLayout, AnEventPassesOnce) {
  EXPECT_TRUE(EventPassed(5, 6, 5));
  EXPECT_FALSE(EventPassed(5, 5, 4));
  EXPECT_FALSE(EventPassed(5, 7, 6));
  EXPECT_TRUE(EventPassed(5, 9, 2));
  EXPECT_FALSE(EventPassed(5, 5, 5));
}

TEST(RingLayout, EventsWrap) {
  EXPECT_TRUE(EventPassed(0xFFFF, 0, 0xFFFF));
  EXPECT_TRUE(EventPassed(1, 3, 0xFFF0));
  EXPECT_FALSE(EventPassed(0xFFF0, 3, 0xFFF1));
}

}  // namespace
}  // namespace argosy::vhost_user
