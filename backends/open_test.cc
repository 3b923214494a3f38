// SPDX-License-Identifier: Apache-2.0
#include "backends/open.h"

#include <cerrno>
#include <cstdlib>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "transport/error.h"
#include "transport/testing/temporary_directory.h"

namespace argosy {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(OpenTransportTest, OpensBySchemeAndKeepsTheUri) {
  const TemporaryDirectory directory;
  const std::string uri = "loopback:" + directory.path();
  const auto transport = OpenTransport(uri);
  ASSERT_TRUE(transport.ok()) << transport.status();
  EXPECT_EQ((*transport)->uri(), uri);
}

TEST(OpenTransportTest, ListsTheSchemes) {
  for (const char* uri : {"", "loopback", "tcp:1", "/tmp/x", "Kernel:"}) {
    const auto transport = OpenTransport(uri);
    EXPECT_EQ(ErrnoOf(transport.status()), EINVAL) << uri;
    EXPECT_THAT(std::string(transport.status().message()),
                AllOf(HasSubstr(uri), HasSubstr("loopback:[DIR]"), HasSubstr("kernel:"),
                      HasSubstr("uds:PATH")));
  }
}

TEST(OpenTransportTest, KernelTakesNothingBehindIt) {
  EXPECT_EQ(ErrnoOf(OpenTransport("kernel:1").status()), EINVAL);
}

TEST(DefaultTransportUriTest, FollowsTheEnvironment) {
  ASSERT_EQ(setenv("ARGOSY_TRANSPORT", "loopback:/x", 1), 0);
  EXPECT_EQ(*DefaultTransportUri(), "loopback:/x");
  unsetenv("ARGOSY_TRANSPORT");
}

TEST(DefaultTransportUriTest, SaysWhatToDoWithoutACarrier) {
  for (const bool empty : {false, true}) {
    if (empty) setenv("ARGOSY_TRANSPORT", "", 1);
    const auto uri = DefaultTransportUri();
    if (uri.ok()) {
      EXPECT_EQ(*uri, "kernel:");
    } else {
      EXPECT_EQ(ErrnoOf(uri.status()), ENODEV);
      EXPECT_THAT(std::string(uri.status().message()),
                  AllOf(HasSubstr("argosy-sim"), HasSubstr("ARGOSY_TRANSPORT='sim:")));
    }
  }
  unsetenv("ARGOSY_TRANSPORT");
}

}  // namespace
}  // namespace argosy
