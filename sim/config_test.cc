// SPDX-License-Identifier: Apache-2.0
#include "sim/config.h"

#include <cerrno>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "transport/error.h"

namespace argosy::sim {
namespace {

using ::testing::HasSubstr;

TEST(ParseConfig, ReadsEverything) {
  auto config = ParseConfig(
      "socket: /tmp/x.sock\n"
      "mac_permissive: true\n"
      "buffer_budget_mib: 16\n"
      "domains:\n"
      "  - {id: 0, name: dom0}\n"
      "  - {id: 7, name: web, ring_size: 65536, buffer: 8192}\n");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->socket, "/tmp/x.sock");
  EXPECT_TRUE(config->machine.mac_permissive);
  EXPECT_EQ(config->machine.buffer_budget, 16u << 20);
  ASSERT_EQ(config->domains.size(), 2u);
  EXPECT_EQ(config->domains[1].domid, 7);
  EXPECT_EQ(config->domains[1].name, "web");
  EXPECT_EQ(config->domains[1].ring_size, 65536u);
  EXPECT_EQ(config->domains[1].buf_alloc, 8192u);
}

TEST(ParseConfig, EmptyIsAllDefaults) {
  auto config = ParseConfig("");
  ASSERT_TRUE(config.ok());
  EXPECT_TRUE(config->domains.empty());
  EXPECT_EQ(config->socket, control::DefaultSocket());
}

TEST(ParseConfig, NamesTheLineAndTheFault) {
  const struct {
    const char* yaml;
    const char* message;
  } kCases[] = {
      {"domain: []", "line 1: unknown key 'domain'"},
      {"- a", "line 1"},
      {"domains: 3", "line 1: domains must be a list"},
      {"domains:\n  - {name: x}", "line 2: a domain needs an id"},
      {"domains:\n  - {id: 1}\n  - {id: 1}", "line 3: domain 1 twice"},
      {"domains:\n  - {id: 1, name: a}\n  - {id: 2, name: a}", "line 3: the name 'a' twice"},
      {"domains:\n  - {id: 40000}", "id must be a number from 0 to"},
      {"domains:\n  - {id: -1}", "id must be a number"},
      {"domains:\n  - {id: 1, name: 'a b'}", "letters, digits"},
      {"domains:\n  - {id: 1, ring: 4}", "unknown key 'ring'"},
      {"domains:\n  - {id: 1, ring_size: 16}", "ring_size must be a number from 4096"},
      {"mac_permissive: 3", "mac_permissive must be true or false"},
      {"buffer_budget_mib: 0", "from 1 to"},
      {"socket: [a]", "socket must be a path"},
      {"a: [", "line"},
  };
  for (const auto& c : kCases) {
    auto config = ParseConfig(c.yaml);
    EXPECT_EQ(ErrnoOf(config.status()), EINVAL) << c.yaml;
    EXPECT_THAT(std::string(config.status().message()), HasSubstr(c.message)) << c.yaml;
  }
}

TEST(ParseDomain, TakesIdsWithAndWithoutName) {
  EXPECT_EQ(ParseDomain("3=web")->name, "web");
  EXPECT_EQ(ParseDomain("3")->domid, 3);
  for (const char* text : {"", "=a", "x=a", "3=", "99999=a", "3=a b", "-1"}) {
    EXPECT_EQ(ErrnoOf(ParseDomain(text).status()), EINVAL) << text;
  }
}

TEST(ReadConfig, SaysWhichFile) {
  auto config = ReadConfig("/nonexistent/argosy.yaml");
  EXPECT_EQ(ErrnoOf(config.status()), ENOENT);
  EXPECT_THAT(std::string(config.status().message()), HasSubstr("/nonexistent/argosy.yaml"));
}

}  // namespace
}  // namespace argosy::sim
