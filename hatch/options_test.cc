// SPDX-License-Identifier: Apache-2.0
#include "hatch/options.h"

#include <cerrno>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"
#include "transport/error.h"

namespace argosy::hatch {
namespace {

absl::StatusOr<std::variant<Options, Text>> Parse(const std::string& line) {
  const std::vector<std::string> words = absl::StrSplit("hatch " + line, ' ', absl::SkipEmpty());
  std::vector<const char*> argv;
  for (const std::string& word : words) argv.push_back(word.c_str());
  return ParseOptions(argv.size(), argv.data());
}

Options Good(const std::string& line) {
  absl::StatusOr<std::variant<Options, Text>> parsed = Parse(line);
  EXPECT_TRUE(parsed.ok()) << line << ": " << parsed.status();
  if (!parsed.ok() || !std::holds_alternative<Options>(*parsed)) return {};
  return std::get<Options>(*parsed);
}

std::string TextOf(const std::string& line) {
  absl::StatusOr<std::variant<Options, Text>> parsed = Parse(line);
  EXPECT_TRUE(parsed.ok()) << line << ": " << parsed.status();
  if (!parsed.ok() || !std::holds_alternative<Text>(*parsed)) return "";
  return std::get<Text>(*parsed).text;
}

TEST(Options, Connect) {
  const Options o = Good("-v -w 2.5 -p 99 -T loopback:/x dom0 1234");
  EXPECT_EQ(o.command, Command::kConnect);
  EXPECT_EQ(o.cid, "dom0");
  EXPECT_EQ(o.port, 1234u);
  EXPECT_EQ(o.local_port, 99u);
  EXPECT_EQ(o.wait, absl::Milliseconds(2500));
  EXPECT_EQ(o.transport, "loopback:/x");
  EXPECT_TRUE(o.verbose);
  EXPECT_FALSE(o.receive_only);
}

TEST(Options, APortAloneLeavesTheMachineToTheTransport) {
  for (const char* line : {"1234", "-z 1234", "send 1234", "ping 1234", "perf 1234"}) {
    const Options o = Good(line);
    EXPECT_EQ(o.cid, "") << line;
    EXPECT_EQ(o.port, 1234u) << line;
  }
  // A file is named behind both.
  const Options send = Good("send 3 1234");
  EXPECT_EQ(send.cid, "3");
  EXPECT_EQ(send.file, "-");
}

TEST(Options, TheFormsOfTheArgoTool) {
  const Options connect = Good("0 1234");
  EXPECT_EQ(connect.command, Command::kConnect);
  EXPECT_EQ(connect.cid, "0");
  const Options receive = Good("-r -p 1234");
  EXPECT_EQ(receive.command, Command::kListen);
  EXPECT_EQ(receive.port, 1234u);
  EXPECT_TRUE(receive.receive_only);
}

TEST(Options, ListenHasItsPortInTwoPlaces) {
  EXPECT_EQ(Good("-l 5000").port, 5000u);
  const Options o = Good("-l -k -p 70000 -e cat");
  EXPECT_EQ(o.port, 70000u);
  EXPECT_TRUE(o.keep_listening);
  EXPECT_EQ(o.execute, "cat");
}

TEST(Options, Files) {
  const Options send = Good("send dom1 9 some/file");
  EXPECT_EQ(send.command, Command::kSend);
  EXPECT_EQ(send.cid, "dom1");
  EXPECT_EQ(send.file, "some/file");
  EXPECT_EQ(Good("send 3 9").file, "-");
  EXPECT_EQ(Good("recv 9 out").file, "out");
  EXPECT_EQ(Good("recv 9 out -f").file, "out");
  EXPECT_TRUE(Good("recv 9 out -f").overwrite);
  EXPECT_EQ(Good("recv -T loopback: 9 -").transport, "loopback:");
}

TEST(Options, Measurements) {
  const Options ping = Good("ping 3 9 -c 5 -s 100 -u");
  EXPECT_EQ(ping.command, Command::kPing);
  EXPECT_EQ(ping.count, 5u);
  EXPECT_EQ(ping.size, 100u);
  EXPECT_TRUE(ping.datagram);
  EXPECT_EQ(Good("echo 9").command, Command::kEcho);
  EXPECT_EQ(Good("perf --server 9").command, Command::kPerfServer);
  const Options perf = Good("perf 3 9 --bytes 10M --size 4K --reverse --json");
  EXPECT_EQ(perf.command, Command::kPerf);
  EXPECT_EQ(perf.bytes, 10u << 20);
  EXPECT_EQ(perf.size, 4096u);
  EXPECT_TRUE(perf.reverse && perf.json);
  EXPECT_EQ(perf.count, 1000u);
  EXPECT_EQ(Good("perf 3 9 --pings 0").count, 0u);
  EXPECT_EQ(Good("perf 3 9 --seconds 0.5").duration, absl::Milliseconds(500));
}

TEST(Options, HelpAndVersion) {
  EXPECT_TRUE(absl::StrContains(TextOf("--help"), "--seqpacket"));
  EXPECT_TRUE(absl::StrContains(TextOf("--help"), "recv"));
  EXPECT_TRUE(absl::StrContains(TextOf("send --help"), "CID PORT [FILE]"));
  EXPECT_TRUE(absl::StrContains(TextOf("perf --help"), "--reverse"));
  EXPECT_TRUE(absl::StartsWith(TextOf("--version"), "hatch "));
}

TEST(Options, MistakesAreNamedInOneLine) {
  const std::pair<const char*, const char*> mistakes[] = {
      {"", "a CID and a port are needed"},
      {"3 4294967295", "'4294967295' is no port"},
      {"3 http", "'http' is no port"},
      {"3 -1", "-1"},
      {"99999999999 1", "'99999999999' is no context id"},
      {"dom70000 1", "'dom70000' is no context id"},
      {"any 1", "nobody can be reached"},
      {"3 1 2", "'2' is one argument too many"},
      {"-l", "a port is needed"},
      {"-l 1 -p 2", "the port is given twice"},
      {"-k 3 1", "-k needs -l"},
      {"-u --seqpacket 3 1", "exclude each other"},
      {"-z -u 3 1", "-z only works"},
      {"-r --send-only -p 1", "--send-only excludes"},
      {"-u -e cat 3 1", "-e excludes"},
      {"-w 0 3 1", "-w takes seconds"},
      {"-w nan 3 1", "-w takes seconds"},
      {"-w soon 3 1", "soon"},
      {"-p 99999999999 3 1", "is no port"},
      {"--frobnicate 3 1", "--frobnicate"},
      {"send", "a CID and a port are needed"},
      {"3 4 -l", "'4' is one argument too many"},
      {"ping -s 15 3 1", "-s takes 16"},
      {"ping -c 0 3 1", "-c takes 1"},
      {"perf --size 2M 3 1", "--size takes"},
      {"perf --pings 10000001 3 1", "--pings takes"},
      {"perf --seconds 1 --bytes 1 3 1", "--bytes"},
  };
  for (const auto& [line, expected] : mistakes) {
    const absl::Status s = Parse(line).status();
    EXPECT_EQ(ErrnoOf(s), EINVAL) << line;
    EXPECT_TRUE(absl::StrContains(s.message(), expected)) << line << ": " << s;
    EXPECT_TRUE(absl::StrContains(s.message(), "hatch --help")) << line << ": " << s;
    EXPECT_FALSE(absl::StrContains(s.message(), "\n")) << line << ": " << s;
  }
}

}  // namespace
}  // namespace argosy::hatch
