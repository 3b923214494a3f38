// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/connect_line.h"

#include <cerrno>
#include <string>

#include "gtest/gtest.h"
#include "transport/error.h"

namespace argosy::vhost_user {
namespace {

TEST(ConnectLineTest, HasPortAndSize) {
  const auto line = ParseConnectLine("CONNECT 1234\n");
  ASSERT_TRUE(line.ok());
  EXPECT_EQ(line->port, 1234u);
  EXPECT_EQ(line->size, 13u);
}

TEST(ConnectLineTest, IsReadAsPeersReadIt) {
  for (const char* text : {"connect 7\n", "Connect\t 7\n", " CONNECT  7 \r\n", "CONNECT 0007\n"}) {
    const auto line = ParseConnectLine(text);
    ASSERT_TRUE(line.ok()) << text;
    EXPECT_EQ(line->port, 7u) << text;
  }
}

TEST(ConnectLineTest, LeavesWhatFollows) {
  const auto line = ParseConnectLine("CONNECT 1\nhello\n");
  ASSERT_TRUE(line.ok());
  EXPECT_EQ(line->size, 10u);
}

TEST(ConnectLineTest, WaitsForItsEnd) {
  const std::string whole = "CONNECT 1234\n";
  for (size_t n = 0; n < whole.size(); ++n) {
    const auto line = ParseConnectLine(whole.substr(0, n));
    ASSERT_TRUE(line.ok()) << n;
    EXPECT_EQ(line->size, 0u) << n;
  }
  EXPECT_EQ(ParseConnectLine(std::string(kMaxConnectLine - 1, ' '))->size, 0u);
}

TEST(ConnectLineTest, RefusesEverythingElse) {
  for (const std::string& text :
       {std::string("\n"), std::string("CONNECT\n"), std::string("CONNECT \n"),
        std::string("CONNECTS 1\n"), std::string("CONNECT 1 2\n"), std::string("CONNECT -1\n"),
        std::string("CONNECT +1\n"), std::string("CONNECT 0x10\n"),
        std::string("CONNECT 4294967295\n"), std::string("CONNECT 4294967296\n"),
        std::string("GET / HTTP/1.1\r\n"), std::string("CONNECT 1\0\n", 11),
        std::string(kMaxConnectLine, ' '),
        "CONNECT 1" + std::string(kMaxConnectLine, ' ') + "\n"}) {
    EXPECT_EQ(ErrnoOf(ParseConnectLine(text).status()), EPROTO) << text;
  }
}

}  // namespace
}  // namespace argosy::vhost_user
