// SPDX-License-Identifier: Apache-2.0
// What an agent does with scripts that make no sense.  What it does with those that do, the suite shows.
#include "transport/conformance/agent.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "transport/conformance/protocol.h"
#include "transport/error.h"

namespace argosy::conformance {
namespace {

// A carrier that has CID 77 and nothing else.
class Nothing : public Transport {
 public:
  std::string uri() const override { return "nothing:"; }
  Capabilities capabilities() const override { return {}; }
  absl::StatusOr<uint32_t> LocalCid() override { return 77; }
  absl::StatusOr<uint32_t> Resolve(absl::string_view) override { return Unsupported(); }
  absl::StatusOr<std::unique_ptr<Connecting>> Connect(Address, SocketType,
                                                      const ConnectOptions&) override {
    return Unsupported();
  }
  absl::StatusOr<std::unique_ptr<Listener>> Listen(uint32_t, SocketType,
                                                   const ListenOptions&) override {
    return Unsupported();
  }
  absl::StatusOr<std::unique_ptr<DatagramSocket>> BindDatagram(uint32_t) override {
    return Unsupported();
  }

 private:
  static absl::Status Unsupported() { return ErrnoError(ESOCKTNOSUPPORT, "nothing here"); }
};

// How an agent ends whose script is `text`; what it answered.
std::pair<absl::Status, std::string> Serve(const std::string& text) {
  int pair[2];
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  UniqueFd script(pair[0]), agent(pair[1]);
  EXPECT_EQ(write(script.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  shutdown(script.get(), SHUT_WR);
  Nothing transport;
  const absl::Status how = Agent(transport).Serve(agent.get());
  agent.reset();
  std::string answers;
  char buffer[4096];
  for (ssize_t n; (n = read(script.get(), buffer, sizeof(buffer))) > 0;) answers.append(buffer, n);
  return {how, answers};
}

TEST(AgentTest, HangUpIsNoError) {
  const auto [how, answers] = Serve("");
  EXPECT_TRUE(how.ok()) << how;
  EXPECT_EQ(answers, "");
}

TEST(AgentTest, AnswersUnderTheTagOfTheCommand) {
  const auto [how, answers] = Serve("5 cid\n");
  EXPECT_TRUE(how.ok()) << how;
  EXPECT_EQ(answers, "5 done 0 77\n");
}

TEST(AgentTest, PassesOnErrnoAndMessage) {
  const auto [how, answers] = Serve("1 listen 0 1234 1\n2 &connect 3 4 0 5 6\n");
  EXPECT_TRUE(how.ok()) << how;
  // "nothing here"
  const std::string error = absl::StrCat(" done ", ESOCKTNOSUPPORT, " =6e6f7468696e672068657265\n");
  EXPECT_EQ(answers, absl::StrCat("1", error, "2", error));
}

TEST(AgentTest, UnknownObjectsAreErrorsOfTheCommand) {
  for (const char* command : {"accept 9 0", "send 9 0 =61", "receive 9 1 0", "send-pattern 9 1 0 1",
                              "receive-pattern 9 1 0 1", "receive-message 9 1 0", "shutdown 9 1",
                              "finish 9 0", "poll 9 1 0", "close 9", "hold 9", "kill 9",
                              "send-datagram 9 1 1", "receive-datagram 9 1 0"}) {
    const auto [how, answers] = Serve(absl::StrCat("1 ", command, "\n2 cid\n"));
    EXPECT_TRUE(how.ok()) << command << ": " << how;
    EXPECT_EQ(answers.rfind(absl::StrCat("1 done ", EBADF, " ="), 0), 0u) << command << answers;
    EXPECT_NE(answers.find("\n2 done 0 77\n"), std::string::npos) << command;
  }
}

TEST(AgentTest, NonsenseEndsTheSession) {
  const std::string endless(kMaxLine + 1, '1');
  for (const std::string& text :
       {std::string("1 fly\n"), std::string("1 cid 1\n"), std::string("1 listen 0 1\n"),
        std::string("cid\n"), std::string("\n"), endless}) {
    const auto [how, answers] = Serve(text);
    EXPECT_EQ(ErrnoOf(how), EPROTO) << text;
    EXPECT_EQ(answers, "") << text;
  }
}

}  // namespace
}  // namespace argosy::conformance
