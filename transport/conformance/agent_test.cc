// SPDX-License-Identifier: Apache-2.0
// What an agent does with scripts that make no sense or mean harm.  What it does with those that do
// not, the suite shows.
#include "transport/conformance/agent.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "gtest/gtest.h"
#include "transport/conformance/protocol.h"
#include "transport/error.h"
#include "transport/unique_fd.h"

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

// An object for one thread at a time.  Each call takes a while, so that a second one would meet it.
class OneAtATime {
 public:
  void Call(absl::Duration length = absl::Milliseconds(1)) {
    EXPECT_FALSE(busy_.exchange(true)) << "two threads at once";
    absl::SleepFor(length);
    busy_ = false;
  }

 private:
  std::atomic<bool> busy_ = false;
};

// A connection whose peer never takes what it was sent: Finish() waits for its deadline, whatever
// happens to the descriptor.
class NeverEnds : public Socket::Ending {
 public:
  absl::Status Wait(int, absl::Time deadline) override {
    calls_.Call(deadline - absl::Now());
    return ErrnoError(ETIMEDOUT, "not yet");
  }

 private:
  OneAtATime calls_;
};

class NeverConnects : public Connecting {
 public:
  int fd() const override { return never_.get(); }
  short events() const override { return POLLIN; }
  absl::StatusOr<Socket> Complete() override { return ErrnoError(EAGAIN, "not yet"); }

 private:
  const UniqueFd never_{eventfd(0, EFD_CLOEXEC)};
};

class ConnectsAtOnce : public Connecting {
 public:
  explicit ConnectsAtOnce(UniqueFd fd) : fd_(std::move(fd)) {}
  int fd() const override { return fd_.get(); }
  short events() const override { return POLLOUT; }
  absl::StatusOr<Socket> Complete() override {
    return Socket(std::move(fd_), {}, {}, SocketType::kStream, std::make_unique<NeverEnds>());
  }

 private:
  UniqueFd fd_;
};

class NobodyComes : public Listener {
 public:
  int fd() const override { return never_.get(); }
  Address local() const override { return {}; }
  absl::StatusOr<Socket> Accept() override {
    calls_.Call();
    return ErrnoError(EAGAIN, "none waits");
  }

 private:
  const UniqueFd never_{eventfd(0, EFD_CLOEXEC)};
  OneAtATime calls_;
};

class NothingComes : public DatagramSocket {
 public:
  int fd() const override { return never_.get(); }
  Address local() const override { return {}; }
  absl::Status SendTo(absl::Span<const uint8_t>, Address) override { return absl::OkStatus(); }
  absl::StatusOr<Datagram> ReceiveFrom(absl::Span<uint8_t>) override {
    calls_.Call();
    return ErrnoError(EAGAIN, "none waits");
  }

 private:
  const UniqueFd never_{eventfd(0, EFD_CLOEXEC)};
  OneAtATime calls_;
};

// A carrier on which all waiting is for ever.  Port 1 connects, to `peer`; others do not.
class Endless : public Nothing {
 public:
  explicit Endless(int* peer) : peer_(peer) {}
  absl::StatusOr<std::unique_ptr<Connecting>> Connect(Address to, SocketType,
                                                      const ConnectOptions&) override {
    if (to.port != 1) return std::make_unique<NeverConnects>();
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
      return SystemError(errno, "socketpair");
    }
    *peer_ = pair[1];
    return std::make_unique<ConnectsAtOnce>(UniqueFd(pair[0]));
  }
  absl::StatusOr<std::unique_ptr<Listener>> Listen(uint32_t, SocketType,
                                                   const ListenOptions&) override {
    return std::make_unique<NobodyComes>();
  }
  absl::StatusOr<std::unique_ptr<DatagramSocket>> BindDatagram(uint32_t) override {
    return std::make_unique<NothingComes>();
  }

 private:
  int* const peer_;
};

// A script that has a connection, 1, a listener, 2, and a datagram socket, 3.  When it goes it hangs
// up, and waits until the agent has ended.
class Script {
 public:
  Script() {
    auto agent = AgentThread::Start(std::make_unique<Endless>(&peer_));
    EXPECT_TRUE(agent.ok()) << agent.status();
    agent_ = *std::move(agent);
    channel_.emplace(agent_->control());
    EXPECT_EQ(Do({.verb = "connect", .numbers = {3, 1, 0, 0, 1000}}), 0);
    EXPECT_EQ(Do({.verb = "listen", .numbers = {0, 5, 1}}), 0);
    EXPECT_EQ(Do({.verb = "bind-datagram", .numbers = {5}}), 0);
  }
  ~Script() {
    agent_.reset();
    close(peer_);
  }

  void Start(const Message& command) { EXPECT_TRUE(channel_->Write(command).ok()); }
  // The tag and the errno of the next answer.
  std::pair<uint64_t, int> Answer() {
    const absl::StatusOr<Message> answer = channel_->Read();
    EXPECT_TRUE(answer.ok()) << answer.status();
    return answer.ok() ? std::make_pair(answer->tag, static_cast<int>(answer->numbers[0]))
                       : std::make_pair(uint64_t{0}, -1);
  }
  int Do(const Message& command) {
    Start(command);
    return Answer().second;
  }
  // The other end of the connection; nobody reads there.
  int peer() const { return peer_; }

 private:
  int peer_ = -1;
  std::unique_ptr<AgentThread> agent_;
  std::optional<MessageChannel> channel_;
};

constexpr uint64_t kForEver = 24 * 3600 * 1000;

TEST(AgentTest, SixtyFourCommandsAtOnceAreEnough) {
  Script script;
  for (uint64_t tag = 1; tag <= 65; ++tag) {
    script.Start({.tag = tag, .background = true, .verb = "accept", .numbers = {2, kForEver}});
  }
  EXPECT_EQ(script.Answer(), std::make_pair(uint64_t{65}, EAGAIN));
  EXPECT_EQ(script.Do({.verb = "cid"}), 0);
}

TEST(AgentTest, CommandsThatAreDoneLeaveNoThread) {
  Script script;
  const auto megabytes = [] {
    uint64_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    return pages * getpagesize() >> 20;
  };
  const uint64_t before = megabytes();
  for (int i = 0; i < 4000; ++i) {
    ASSERT_EQ(script.Do({.background = true, .verb = "cid"}), 0) << i;
  }
  // A thread that nobody joined keeps its stack, of 2 MiB at least.
  EXPECT_LT(megabytes(), before + 4000);
}

TEST(AgentTest, HangUpEndsWhatWaits) {
  for (const Message& command : {Message{.verb = "accept", .numbers = {2, kForEver}},
                                 {.verb = "connect", .numbers = {3, 2, 0, 0, kForEver}},
                                 {.verb = "receive", .numbers = {1, 1, 0}},
                                 {.verb = "receive-message", .numbers = {1, 1, 0}},
                                 {.verb = "receive-pattern", .numbers = {1, 1, 0, 1}},
                                 {.verb = "send-pattern", .numbers = {1, 1 << 30, 0, 1000}},
                                 {.verb = "finish", .numbers = {1, kForEver}},
                                 {.verb = "poll", .numbers = {1, POLLIN, kForEver}},
                                 {.verb = "receive-datagram", .numbers = {3, 1, kForEver}}}) {
    SCOPED_TRACE(command.verb);
    Script script;
    script.Start(command);
  }
}

TEST(AgentTest, HangUpEndsWhatWorksWithAClosedConnection) {
  Script script;
  script.Start(
      {.tag = 1, .background = true, .verb = "send-pattern", .numbers = {1, 1 << 30, 0, 1000}});
  char byte;
  ASSERT_EQ(read(script.peer(), &byte, 1), 1);  // it is at work
  EXPECT_EQ(script.Do({.tag = 2, .verb = "close", .numbers = {1}}), 0);
  EXPECT_EQ(script.Do({.tag = 3, .verb = "close", .numbers = {1}}), EBADF);
}

TEST(AgentTest, ChildIsKilledOnce) {
  Script script;
  ASSERT_EQ(script.Do({.verb = "hold", .numbers = {1}}), 0);
  EXPECT_EQ(script.Do({.verb = "poll", .numbers = {1, POLLIN, 0}}), EBADF);
  for (int i = 0; i < 8; ++i) script.Start({.background = true, .verb = "kill", .numbers = {4}});
  for (int i = 0; i < 8; ++i) EXPECT_EQ(script.Answer().second, 0);
  // Nobody has the connection now.
  pollfd p = {script.peer(), POLLIN, 0};
  EXPECT_EQ(poll(&p, 1, -1), 1);
  EXPECT_NE(p.revents & POLLHUP, 0);
}

TEST(AgentTest, CommandsShareAnObject) {
  Script script;
  for (int i = 0; i < 8; ++i) {
    script.Start({.background = true, .verb = "accept", .numbers = {2, kForEver}});
    script.Start({.background = true, .verb = "receive-datagram", .numbers = {3, 1, kForEver}});
    script.Start({.background = true, .verb = "finish", .numbers = {1, kForEver}});
  }
  EXPECT_EQ(script.Do({.verb = "accept", .numbers = {2, 0}}), EAGAIN);
  EXPECT_EQ(script.Do({.verb = "receive-datagram", .numbers = {3, 1, 0}}), EAGAIN);
}

}  // namespace
}  // namespace argosy::conformance
