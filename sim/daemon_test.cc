// SPDX-License-Identifier: Apache-2.0
// argosy-sim as a process: its life, and the faults that programs, domains and the daemon itself
// can have.  Each test also shows that a connection beside the fault lives on.
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "backends/sim/sim_transport.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sim/control.h"
#include "sim/control_client.h"
#include "sim/testing/bystander.h"
#include "sim/testing/daemon.h"
#include "transport/error.h"
#include "transport/transport.h"

namespace argosy::sim {
namespace {

using ::testing::HasSubstr;

// Writes what goes in at once, 512 KiB at most: a transfer that is under way.
size_t WriteSome(int fd) {
  const std::vector<char> bytes(65536, 'f');
  size_t total = 0;
  while (total < 512 * 1024) {
    const ssize_t n = send(fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n <= 0) break;
    total += n;
  }
  return total;
}

TEST(DaemonLife, TermEndsItCleanly) {
  auto daemon = Start();
  struct stat there;
  ASSERT_EQ(stat(daemon->socket().c_str(), &there), 0);
  EXPECT_EQ(there.st_mode & 0777, 0600u);
  EXPECT_EQ(daemon->Kill(SIGTERM), 0);
  EXPECT_NE(stat(daemon->socket().c_str(), &there), 0);
}

// Runs argosy-sim with arguments that make it fail; its exit code and what it said.
std::pair<int, std::string> RunToEnd(const std::string& arguments) {
  const char* binary = getenv("ARGOSY_SIM");
  const std::string command =
      absl::StrCat(binary != nullptr ? binary : "sim/argosy-sim", " ", arguments, " 2>&1");
  FILE* out = popen(command.c_str(), "r");
  std::string text;
  char buffer[512];
  while (fgets(buffer, sizeof(buffer), out) != nullptr) text += buffer;
  const int status = pclose(out);
  return {WEXITSTATUS(status), text};
}

TEST(DaemonLife, SecondInstanceIsRefused) {
  auto daemon = Start();
  const auto [code, text] = RunToEnd(absl::StrCat("--socket ", daemon->socket()));
  EXPECT_EQ(code, 2);
  EXPECT_THAT(text, HasSubstr("another process serves"));
  Bystander(*daemon).ExpectAlive();
}

TEST(DaemonLife, StaleSocketIsReplaced) {
  auto daemon = Start();
  ASSERT_EQ(daemon->Kill(SIGKILL), 128 + SIGKILL);
  struct stat there;
  ASSERT_EQ(stat(daemon->socket().c_str(), &there), 0);
  // The same path again; the last --socket counts.
  auto again = Start({"--socket", daemon->socket()});
  ASSERT_NE(again, nullptr);
  auto transport = OpenSim(daemon->Uri("dom0"));
  EXPECT_TRUE(transport.ok()) << transport.status();
}

TEST(DaemonLife, WrongUsageSaysWhatIsWrong) {
  EXPECT_THAT(RunToEnd("--domains 0"), testing::Pair(2, HasSubstr("--domains")));
  EXPECT_THAT(RunToEnd("--domain x=web"), testing::Pair(2, HasSubstr("ID=NAME")));
  EXPECT_THAT(RunToEnd("--nonsense"), testing::Pair(2, HasSubstr("--help")));
  EXPECT_THAT(RunToEnd("--config /nonexistent/file"), testing::Pair(2, HasSubstr("cannot read")));
  EXPECT_THAT(RunToEnd("--socket /nonexistent/folder/sim.sock"),
              testing::Pair(2, HasSubstr("cannot")));
  EXPECT_THAT(RunToEnd("list --socket /nonexistent/sim.sock"),
              testing::Pair(1, HasSubstr("no argosy-sim serves")));
  EXPECT_THAT(RunToEnd("--help"), testing::Pair(0, HasSubstr("simulated Xen machine")));
}

TEST(DaemonFaults, NoDaemon) {
  auto transport = OpenSim("sim:/nonexistent/sim.sock?domain=dom0");
  EXPECT_EQ(ErrnoOf(transport.status()), ECONNREFUSED);
  EXPECT_THAT(std::string(transport.status().message()), HasSubstr("start one with"));
}

TEST(DaemonFaults, UnknownDomain) {
  auto daemon = Start();
  auto transport = OpenSim(daemon->Uri("nobody"));
  EXPECT_EQ(ErrnoOf(transport.status()), ENODEV);
  EXPECT_THAT(std::string(transport.status().message()), HasSubstr("dom0, dom1, dom2"));
  auto dom0 = Join(*daemon, "dom0");
  EXPECT_EQ(ErrnoOf(dom0->Resolve("nobody").status()), ENODEV);
  EXPECT_EQ(ErrnoOf(ConnectBlocking(*dom0, {99, 1234}, SocketType::kStream).status()), ENODEV);
}

TEST(DaemonFaults, WrongUri) {
  for (const char* uri : {"sim:", "sim:/x", "sim:/x?domain=", "sim:/x?dom=1"}) {
    EXPECT_EQ(ErrnoOf(OpenSim(uri).status()), EINVAL) << uri;
  }
}

TEST(DaemonFaults, ListenerGoesOnAfterItsProgramRanOutOfDescriptors) {
  auto daemon = Start();
  auto server = Join(*daemon, "dom0");
  auto client = Join(*daemon, "dom1");
  auto listener = server->Listen(2010, SocketType::kStream, {});
  ASSERT_TRUE(listener.ok());
  auto lost = ConnectBlocking(*client, {kCidHost, 2010}, SocketType::kStream);
  ASSERT_TRUE(lost.ok());
  auto kept = ConnectBlocking(*client, {kCidHost, 2010}, SocketType::kStream);
  ASSERT_TRUE(kept.ok());
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit none = {3, limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const absl::Status full = AcceptBlocking(**listener, Far()).status();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_EQ(ErrnoOf(full), EMFILE);
  EXPECT_TRUE(AcceptBlocking(**listener, Far()).ok());
}

TEST(DaemonFaults, NamesThatAreAddressesAreRefused) {
  auto daemon = Start();
  auto operator_ = ControlClient::Open(daemon->socket(), "");
  ASSERT_TRUE(operator_.ok());
  for (const char* name : {"", "7", "host", "dom1", "a b", "\x1b[31m"}) {
    EXPECT_FALSE((*operator_)->Command(control::Verb::kCreate, name).ok()) << name;
  }
  ASSERT_TRUE((*operator_)->Command(control::Verb::kCreate, "dom9").ok());
  auto dom9 = Join(*daemon, "dom9");
  EXPECT_EQ(*dom9->LocalCid(), 9 + kArgoCidOffset);
}

TEST(DaemonFaults, ReaderThatNeverReadsStopsItsOwnWriterOnly) {
  auto daemon = Start();
  Bystander same_domains(*daemon, "dom0", "dom1");
  auto server = Join(*daemon, "dom0");
  auto client = Join(*daemon, "dom1");
  auto listener = server->Listen(2000, SocketType::kStream, {});
  ASSERT_TRUE(listener.ok());
  auto writer = ConnectBlocking(*client, {kCidHost, 2000}, SocketType::kStream);
  ASSERT_TRUE(writer.ok());
  auto reader = AcceptBlocking(**listener, Far());
  ASSERT_TRUE(reader.ok());
  // Writes until the reader's side and both AF_UNIX sockets are full: the same two domains pass other bytes meanwhile, and
  // what is held is bounded.
  const std::vector<char> bytes(65536, 'f');
  size_t held = 0;
  for (int refused = 0; refused < 50;) {
    const ssize_t n = send(writer->fd(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0) held += n;
    refused = n > 0 ? 0 : refused + 1;
    same_domains.ExpectAlive();
    ASSERT_LT(held, 4u * 1024 * 1024);
  }
  same_domains.ExpectAlive();
  // And nothing is lost: all of it comes out.
  std::vector<char> buffer(65536);
  size_t got = 0;
  while (got < held) {
    const ssize_t n = read(reader->fd(), buffer.data(), buffer.size());
    ASSERT_GT(n, 0);
    got += n;
  }
  EXPECT_EQ(got, held);
}

TEST(DaemonLife, WhatAPeerDidBeforeTheAcceptIsSeenAfterIt) {
  auto daemon = Start();
  auto server = Join(*daemon, "dom0");
  auto client = Join(*daemon, "dom1");
  auto listener = server->Listen(2011, SocketType::kStream, {});
  ASSERT_TRUE(listener.ok());
  for (const std::string text : {"", "early"}) {
    auto near = ConnectBlocking(*client, {kCidHost, 2011}, SocketType::kStream);
    ASSERT_TRUE(near.ok());
    ASSERT_EQ(write(near->fd(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
    ASSERT_EQ(shutdown(near->fd(), SHUT_WR), 0);
    Bystander(*daemon, "dom0", "dom1").ExpectAlive();  // behind all that on the same link
    auto far = AcceptBlocking(**listener, Far());
    ASSERT_TRUE(far.ok());
    char buffer[16];
    std::string got;
    for (ssize_t n; (n = read(far->fd(), buffer, sizeof(buffer))) > 0;) got.append(buffer, n);
    EXPECT_EQ(got, text);
    ASSERT_EQ(write(far->fd(), "answer", 6), 6);
    EXPECT_EQ(read(near->fd(), buffer, sizeof(buffer)), 6);
  }
}

TEST(DaemonFaults, FullBacklogRefuses) {
  auto daemon = Start();
  auto server = Join(*daemon, "dom0");
  auto client = Join(*daemon, "dom1");
  auto listener = server->Listen(2001, SocketType::kStream, {.backlog = 2});
  ASSERT_TRUE(listener.ok());
  std::vector<Socket> waiting;
  for (int i = 0; i < 2; ++i) {
    auto s = ConnectBlocking(*client, {kCidHost, 2001}, SocketType::kStream);
    ASSERT_TRUE(s.ok()) << s.status();
    waiting.push_back(*std::move(s));
  }
  auto refused = ConnectBlocking(*client, {kCidHost, 2001}, SocketType::kStream);
  EXPECT_EQ(ErrnoOf(refused.status()), ECONNRESET);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("backlog"));
  ASSERT_TRUE(AcceptBlocking(**listener, Far()).ok());
}

TEST(DaemonFaults, BudgetRefusesClearlyAndKeepsWhatIsThere) {
  // 1 MiB: two connections of two 256 KiB ends.
  auto daemon = Start({"--domains", "2", "--buffer-budget", "1"});
  auto server = Join(*daemon, "dom0");
  auto client = Join(*daemon, "dom1");
  auto listener = server->Listen(2002, SocketType::kStream, {});
  ASSERT_TRUE(listener.ok());
  std::vector<Socket> kept;
  for (int i = 0; i < 2; ++i) {
    auto s = ConnectBlocking(*client, {kCidHost, 2002}, SocketType::kStream);
    ASSERT_TRUE(s.ok()) << s.status();
    kept.push_back(*std::move(s));
  }
  auto refused = ConnectBlocking(*client, {kCidHost, 2002}, SocketType::kStream);
  EXPECT_EQ(ErrnoOf(refused.status()), ENOBUFS);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("--buffer-budget"));
  auto far = AcceptBlocking(**listener, Far());
  ASSERT_TRUE(far.ok());
  ASSERT_EQ(write(kept[0].fd(), "x", 1), 1);
  char byte;
  ASSERT_EQ(read(far->fd(), &byte, 1), 1);
}

TEST(DaemonFaults, KilledDomainIsAnErrorOnBothSides) {
  auto daemon = Start();
  Bystander bystander(*daemon, "dom0", "dom2");
  auto server = Join(*daemon, "dom0");
  auto client = Join(*daemon, "dom1");
  auto listener = server->Listen(2003, SocketType::kStream, {});
  ASSERT_TRUE(listener.ok());
  auto near = ConnectBlocking(*client, {kCidHost, 2003}, SocketType::kStream);
  ASSERT_TRUE(near.ok());
  auto far = AcceptBlocking(**listener, Far());
  ASSERT_TRUE(far.ok());
  WriteSome(near->fd());  // killed in mid-transfer
  auto operator_ = ControlClient::Open(daemon->socket(), "");
  ASSERT_TRUE(operator_.ok());
  ASSERT_TRUE((*operator_)->Command(control::Verb::kKill, "dom1").ok());
  EXPECT_EQ(ErrnoOf(near->Finish(Far())), ENETRESET);
  EXPECT_EQ(ErrnoOf(far->Finish(Far())), ECONNRESET);
  // The blocked reader wakes.
  std::vector<char> buffer(65536);
  while (read(far->fd(), buffer.data(), buffer.size()) > 0) {
  }
  bystander.ExpectAlive();
  EXPECT_EQ(ErrnoOf(ConnectBlocking(*server, {3, 1}, SocketType::kStream).status()), ENODEV);
  // And it comes back under its name.
  ASSERT_TRUE((*operator_)->Command(control::Verb::kCreate, "dom1").ok());
  Bystander(*daemon, "dom0", "dom1").ExpectAlive();
}

TEST(DaemonFaults, RestartedDomainTalksAgain) {
  auto daemon = Start();
  Bystander bystander(*daemon, "dom0", "dom2");
  auto operator_ = ControlClient::Open(daemon->socket(), "");
  ASSERT_TRUE(operator_.ok());
  for (int i = 0; i < 3; ++i) {
    Bystander(*daemon, "dom0", "dom1").ExpectAlive();
    ASSERT_TRUE((*operator_)->Command(control::Verb::kRestart, "dom1").ok());
  }
  bystander.ExpectAlive();
}

TEST(DaemonFaults, PausedDomainTimesOutAndGoesOnLater) {
  auto daemon = Start();
  auto operator_ = ControlClient::Open(daemon->socket(), "");
  ASSERT_TRUE(operator_.ok());
  Bystander bystander(*daemon, "dom0", "dom1");
  auto dom0 = Join(*daemon, "dom0");
  ASSERT_TRUE((*operator_)->Command(control::Verb::kPause, "dom1").ok());
  auto late =
      ConnectBlocking(*dom0, {3, 1234}, SocketType::kStream, {.timeout = absl::Milliseconds(50)});
  EXPECT_EQ(ErrnoOf(late.status()), ETIMEDOUT);
  ASSERT_TRUE((*operator_)->Command(control::Verb::kResume, "dom1").ok());
  bystander.ExpectAlive();
}

// A program may write a message while the way to the peer is full: it waits, like a stream's bytes.
TEST(DaemonFaults, MessageWaitsForACarrierThatIsBlocked) {
  auto daemon = Start();
  auto operator_ = ControlClient::Open(daemon->socket(), "");
  ASSERT_TRUE(operator_.ok());
  auto server = Join(*daemon, "dom0");
  auto client = Join(*daemon, "dom1");
  auto messages = server->Listen(2007, SocketType::kSeqpacket, {});
  ASSERT_TRUE(messages.ok());
  auto near = ConnectBlocking(*client, {kCidHost, 2007}, SocketType::kSeqpacket);
  ASSERT_TRUE(near.ok()) << near.status();
  auto far = AcceptBlocking(**messages, Far());
  ASSERT_TRUE(far.ok()) << far.status();
  auto listener = server->Listen(2008, SocketType::kStream, {});
  ASSERT_TRUE(listener.ok());
  std::vector<Socket> streams;
  for (int i = 0; i < 80; ++i) {  // 256 KiB of credit each: more than ring and queue hold
    auto stream = ConnectBlocking(*client, {kCidHost, 2008}, SocketType::kStream);
    ASSERT_TRUE(stream.ok()) << stream.status();
    streams.push_back(*std::move(stream));
  }
  ASSERT_TRUE((*operator_)->Command(control::Verb::kPause, "dom0").ok());
  for (const Socket& stream : streams) {
    WriteSome(stream.fd());
    // Answered after the daemon's turn with the stream.
    ASSERT_TRUE(client->Resolve("dom2").ok());
  }
  ASSERT_EQ(send(near->fd(), "message", 7, MSG_NOSIGNAL), 7);
  ASSERT_TRUE(client->Resolve("dom2").ok());
  ASSERT_TRUE(client->Resolve("dom2").ok());
  ASSERT_TRUE((*operator_)->Command(control::Verb::kResume, "dom0").ok());
  char buffer[8];
  EXPECT_EQ(read(far->fd(), buffer, sizeof(buffer)), 7) << strerror(errno);
}

TEST(DaemonFaults, KilledDaemonIsAnErrorInMidTransfer) {
  auto daemon = Start();
  auto server = Join(*daemon, "dom0");
  auto client = Join(*daemon, "dom1");
  auto listener = server->Listen(2004, SocketType::kStream, {});
  ASSERT_TRUE(listener.ok());
  auto near = ConnectBlocking(*client, {kCidHost, 2004}, SocketType::kStream);
  ASSERT_TRUE(near.ok());
  auto far = AcceptBlocking(**listener, Far());
  ASSERT_TRUE(far.ok());
  WriteSome(near->fd());
  daemon->Kill(SIGKILL);
  EXPECT_EQ(ErrnoOf(near->Finish(Far())), ENETRESET);
  EXPECT_EQ(ErrnoOf(far->Finish(Far())), ENETRESET);
  pollfd p = {(*listener)->fd(), POLLIN, 0};
  ASSERT_EQ(poll(&p, 1, 10000), 1);
  EXPECT_EQ(ErrnoOf((*listener)->Accept().status()), ENETRESET);
  EXPECT_EQ(ErrnoOf(client->Listen(1, SocketType::kStream, {}).status()), ENETRESET);
}

TEST(DaemonFaults, KilledProgramIsAResetIfItLeftDataUnread) {
  auto daemon = Start();
  auto server = Join(*daemon, "dom0");
  auto listener = server->Listen(2005, SocketType::kStream, {});
  ASSERT_TRUE(listener.ok());
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    auto client = OpenSim(daemon->Uri("dom1"));
    auto near = ConnectBlocking(**client, {kCidHost, 2005}, SocketType::kStream);
    char byte;
    if (!near.ok() || write(ready[1], "r", 1) != 1 || read(near->fd(), &byte, 1) != 1) _exit(1);
    pause();  // never reads on
    _exit(0);
  }
  char byte;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  auto far = AcceptBlocking(**listener, Far());
  ASSERT_TRUE(far.ok());
  WriteSome(far->fd());
  kill(child, SIGKILL);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  EXPECT_EQ(ErrnoOf(far->Finish(Far())), ECONNRESET);
  close(ready[0]);
  close(ready[1]);
}

TEST(DaemonFaults, ClientThatVanishesWhileConnecting) {
  auto daemon = Start();
  Bystander bystander(*daemon);
  auto operator_ = ControlClient::Open(daemon->socket(), "");
  ASSERT_TRUE(operator_.ok());
  auto dom0 = Join(*daemon, "dom0");
  ASSERT_TRUE((*operator_)->Command(control::Verb::kPause, "dom1").ok());
  for (int i = 0; i < 100; ++i) {
    auto connecting = dom0->Connect({3, 1234}, SocketType::kStream, {.timeout = absl::Seconds(60)});
    ASSERT_TRUE(connecting.ok());
  }
  ASSERT_TRUE((*operator_)->Command(control::Verb::kResume, "dom1").ok());
  bystander.ExpectAlive();
}

TEST(DaemonFaults, PortTaken) {
  auto daemon = Start();
  auto dom0 = Join(*daemon, "dom0");
  auto other = Join(*daemon, "dom0");
  auto listener = dom0->Listen(2006, SocketType::kStream, {});
  ASSERT_TRUE(listener.ok());
  EXPECT_EQ(ErrnoOf(other->Listen(2006, SocketType::kStream, {}).status()), EADDRINUSE);
  listener->reset();
  auto again = other->Listen(2006, SocketType::kStream, {});
  EXPECT_TRUE(again.ok()) << again.status();
}

}  // namespace
}  // namespace argosy::sim
