// SPDX-License-Identifier: Apache-2.0
#include "transport/address.h"

#include <cerrno>

#include "gtest/gtest.h"
#include "transport/error.h"

namespace argosy {
namespace {

TEST(AddressTest, PrintsCidAndPort) { EXPECT_EQ(ToString({3, 1234}), "3:1234"); }

TEST(AddressTest, ParsesCids) {
  EXPECT_EQ(*ParseCid("3"), 3u);
  EXPECT_EQ(*ParseCid("0"), kCidHypervisor);
  EXPECT_EQ(*ParseCid("4294967295"), kCidAny);
  EXPECT_EQ(*ParseCid("host"), kCidHost);
  EXPECT_EQ(*ParseCid("local"), kCidLocal);
  EXPECT_EQ(*ParseCid("any"), kCidAny);
  EXPECT_EQ(*ParseCid("dom0"), kCidHost);
  EXPECT_EQ(*ParseCid("dom5"), 7u);
}

TEST(AddressTest, RefusesWhatIsNoCid) {
  for (const char* text : {"", "x", " 3", "3 ", "+3", "-1", "4294967296", "dom", "dom65536",
                           "dom-1", "Host", "3:4", "0x3"}) {
    EXPECT_EQ(ErrnoOf(ParseCid(text).status()), EINVAL) << "'" << text << "'";
  }
}

TEST(AddressTest, ParsesPorts) {
  EXPECT_EQ(*ParsePort("0"), 0u);
  EXPECT_EQ(*ParsePort("1234"), 1234u);
  EXPECT_EQ(*ParsePort("4294967294"), 4294967294u);
}

TEST(AddressTest, RefusesWhatIsNoPort) {
  for (const char* text : {"", "x", "-1", "+1", " 1", "4294967295", "4294967296", "1.0"}) {
    EXPECT_EQ(ErrnoOf(ParsePort(text).status()), EINVAL) << "'" << text << "'";
  }
}

}  // namespace
}  // namespace argosy
