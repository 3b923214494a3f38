// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/policy.h"

#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace argosy::vhost_user {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Rule MakeRule(bool allow, absl::string_view text) {
  auto rule = ParseRule(allow, text);
  EXPECT_TRUE(rule.ok()) << rule.status();
  return *std::move(rule);
}

TEST(PolicyTest, WithoutRulesAllIsAllowed) {
  Policy policy(3, {}, false);
  EXPECT_TRUE(policy.Allows(Direction::kIn, 2, 1));
  EXPECT_TRUE(policy.Allows(Direction::kOut, 4, 4294967295));
  EXPECT_THAT(policy.Counts(), IsEmpty());
}

TEST(PolicyTest, TheFirstRuleThatFitsDecidesAndIsCounted) {
  Policy policy(3,
                {MakeRule(true, "out:2:80"), MakeRule(false, "out:2:1-1023"),
                 MakeRule(false, "in:4"), MakeRule(false, "in:*:22")},
                false);
  EXPECT_TRUE(policy.Allows(Direction::kOut, 2, 80));
  EXPECT_FALSE(policy.Allows(Direction::kOut, 2, 1));
  EXPECT_FALSE(policy.Allows(Direction::kOut, 2, 1023));
  EXPECT_TRUE(policy.Allows(Direction::kOut, 2, 1024));
  EXPECT_TRUE(policy.Allows(Direction::kOut, 4, 1023));
  EXPECT_FALSE(policy.Allows(Direction::kIn, 4, 5000));
  EXPECT_FALSE(policy.Allows(Direction::kIn, 2, 22));
  EXPECT_TRUE(policy.Allows(Direction::kIn, 2, 23));
  EXPECT_THAT(policy.Counts(), ElementsAre("'allow out:2:80': 1", "'deny out:2:1-1023': 2",
                                           "'deny in:4': 1", "'deny in:*:22': 1"));
}

TEST(PolicyTest, OutboundOnlyHasExceptions) {
  Policy policy(3, {MakeRule(true, "in:2:22")}, true);
  EXPECT_TRUE(policy.Allows(Direction::kOut, 2, 5000));
  EXPECT_TRUE(policy.Allows(Direction::kIn, 2, 22));
  EXPECT_FALSE(policy.Allows(Direction::kIn, 2, 23));
  EXPECT_FALSE(policy.Allows(Direction::kIn, 4, 22));
  EXPECT_THAT(policy.Counts(), ElementsAre("'allow in:2:22': 1", "'outbound-only': 2"));
}

TEST(PolicyTest, WhatIsNoRuleSaysWhy) {
  for (const char* text :
       {"", "up", "in:", "in:x", "in:-1", "in:4294967296", "in:3:", "in:3:x", "in:3:5-", "in:3:5-4",
        "in:3:1-2-3", "in:3:4294967296", "in:3:4:5", "IN", "in:*:*-4"}) {
    const auto rule = ParseRule(false, text);
    ASSERT_FALSE(rule.ok()) << text;
    EXPECT_THAT(rule.status().message(), HasSubstr(std::string("'deny ") + text + "'"));
  }
  for (const char* text :
       {"in", "out", "in:*", "out:3", "in:*:*", "out:3:*", "in:*:0-4294967295"}) {
    EXPECT_TRUE(ParseRule(true, text).ok()) << text;
  }
}

}  // namespace
}  // namespace argosy::vhost_user
