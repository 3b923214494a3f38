// SPDX-License-Identifier: Apache-2.0
// Programs that break the rules of the control socket.  Each hurts itself alone: a connection beside it lives on.
#include <dirent.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sim/control.h"
#include "sim/control_client.h"
#include "sim/testing/bystander.h"
#include "sim/testing/daemon.h"
#include "transport/unix_socket.h"

namespace argosy::sim {
namespace {

using ::testing::HasSubstr;

int RawControl(const Daemon& daemon) {
  return ConnectUnix(daemon.socket(), SOCK_SEQPACKET).value().release();
}

// The daemon hangs up.
void ExpectHangUp(int fd) {
  char buffer[32768];
  ssize_t n;
  while ((n = read(fd, buffer, sizeof(buffer))) > 0) {
  }
  EXPECT_TRUE(n == 0 || errno == ECONNRESET);
}

// What the daemon says before it hangs up.
control::Answer LastWords(int fd) {
  control::Answer answer;
  EXPECT_EQ(recv(fd, &answer, sizeof(answer), 0), static_cast<ssize_t>(sizeof(answer)));
  EXPECT_EQ(answer.kind, control::Kind::kFailure);
  return answer;
}

// How many descriptors a process has.
int CountDescriptors(pid_t pid) {
  const std::string path = absl::StrCat("/proc/", pid, "/fd");
  DIR* directory = opendir(path.c_str());
  int count = 0;
  while (readdir(directory) != nullptr) ++count;
  closedir(directory);
  return count;
}

TEST(HostileProgram, GarbageOnTheControlSocketEndsThatProgramOnly) {
  auto daemon = Start();
  Bystander bystander(*daemon);
  for (size_t size :
       {size_t{1}, sizeof(control::Request) - 1, sizeof(control::Request), size_t{4096}}) {
    const int fd = RawControl(*daemon);
    const std::vector<uint8_t> garbage(size, 0xA5);
    ASSERT_EQ(send(fd, garbage.data(), garbage.size(), 0), static_cast<ssize_t>(size));
    const control::Answer answer = LastWords(fd);
    EXPECT_EQ(answer.error, EPROTO);
    EXPECT_THAT(control::GetText(answer.message), HasSubstr("same version"));
    ExpectHangUp(fd);
    close(fd);
    bystander.ExpectAlive();
  }
}

TEST(HostileProgram, RequestBeforeHelloEndsThatProgramOnly) {
  auto daemon = Start();
  Bystander bystander(*daemon);
  const int fd = RawControl(*daemon);
  control::Request request;
  request.kind = control::Kind::kConnect;
  request.type = 1;
  ASSERT_EQ(send(fd, &request, sizeof(request), 0), static_cast<ssize_t>(sizeof(request)));
  EXPECT_THAT(control::GetText(LastWords(fd).message), HasSubstr("joined no domain"));
  ExpectHangUp(fd);
  close(fd);
  bystander.ExpectAlive();
}

TEST(HostileProgram, RequestWithoutItsDescriptorEndsThatProgramOnly) {
  auto daemon = Start();
  Bystander bystander(*daemon);
  const int fd = RawControl(*daemon);
  control::Request request;
  request.version = control::kVersion;
  control::SetText(request.name, "dom0");
  ASSERT_GT(send(fd, &request, sizeof(request), 0), 0);
  control::Answer welcome;
  ASSERT_GT(recv(fd, &welcome, sizeof(welcome), 0), 0);
  request.kind = control::Kind::kConnect;
  request.type = 1;
  ASSERT_GT(send(fd, &request, sizeof(request), 0), 0);
  EXPECT_THAT(control::GetText(LastWords(fd).message), HasSubstr("without its descriptor"));
  ExpectHangUp(fd);
  close(fd);
  bystander.ExpectAlive();
}

TEST(HostileProgram, DescriptorThatIsNoSocketIsRefused) {
  auto daemon = Start();
  Bystander bystander(*daemon);
  auto client = ControlClient::Open(daemon->socket(), "dom0");
  ASSERT_TRUE(client.ok());
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  control::Request request;
  request.kind = control::Kind::kConnect;
  request.id = 7;
  request.type = 1;
  ASSERT_TRUE((*client)->Send(request, ends[1]).ok());
  close(ends[1]);
  char byte;
  EXPECT_EQ(read(ends[0], &byte, 1), 0);  // closed, and nothing was written into it
  close(ends[0]);
  bystander.ExpectAlive();
}

TEST(HostileProgram, DescriptorsThatNobodyAskedForAreClosed) {
  auto daemon = Start();
  Bystander bystander(*daemon);
  const int before = CountDescriptors(daemon->pid());
  const int fd = RawControl(*daemon);
  for (int i = 0; i < 100; ++i) {
    control::Request request;
    request.kind = control::Kind::kCommand;
    iovec iov = {&request, sizeof(request)};
    const int two[2] = {fd, fd};
    alignas(cmsghdr) char ancillary[CMSG_SPACE(sizeof(two))] = {};
    msghdr message = {};
    message.msg_iov = &iov;
    message.msg_iovlen = 1;
    message.msg_control = ancillary;
    message.msg_controllen = sizeof(ancillary);
    cmsghdr* cmsg = CMSG_FIRSTHDR(&message);
    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN(sizeof(two));
    std::memcpy(CMSG_DATA(cmsg), two, sizeof(two));
    ASSERT_EQ(sendmsg(fd, &message, 0), static_cast<ssize_t>(sizeof(request)));
    std::vector<char> answer(sizeof(control::Answer) + control::kTextSize);
    ASSERT_GT(recv(fd, answer.data(), answer.size(), 0), 0);
  }
  bystander.ExpectAlive();  // a round later: what the last record brought is closed
  EXPECT_EQ(CountDescriptors(daemon->pid()), before + 1);
  close(fd);
  bystander.ExpectAlive();
}

// A program keeps a duplicate of the end that it gave away: the kernel goes on to report its events after the daemon closed.
TEST(HostileProgram, EventsOfAClosedDescriptorReachNobody) {
  auto daemon = Start();
  Bystander bystander(*daemon);
  auto client = ControlClient::Open(daemon->socket(), "dom0");
  ASSERT_TRUE(client.ok());
  for (uint32_t id = 1; id <= 50; ++id) {
    int pair[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    control::Request request;
    request.kind = control::Kind::kConnect;
    request.id = id;
    request.cid = 4;
    request.port = 9;
    request.local_port = kPortAny;
    request.timeout_ms = 1000;
    request.type = 1;
    ASSERT_TRUE((*client)->Send(request, pair[1]).ok());
    control::ConnectResult result;
    ASSERT_EQ(recv(pair[0], &result, sizeof(result), 0), static_cast<ssize_t>(sizeof(result)));
    EXPECT_EQ(result.error, ECONNRESET);
    bystander.ExpectAlive();  // a round of the daemon: its end is closed now
    ASSERT_EQ(send(pair[0], "x", 1, MSG_NOSIGNAL), 1);
    bystander.ExpectAlive();
    close(pair[0]);
    close(pair[1]);
  }
}

TEST(HostileProgram, ProgramThatReadsNoAnswersIsDisconnected) {
  auto daemon = Start();
  Bystander bystander(*daemon);
  const int fd = RawControl(*daemon);
  control::Request request;
  request.version = control::kVersion;
  ASSERT_GT(send(fd, &request, sizeof(request), 0), 0);
  request.kind = control::Kind::kCommand;
  // Each answer is 16 KiB; some hundred KiB fit into the socket, then the daemon gives this program
  // up.
  for (int i = 0; i < 10000; ++i) {
    if (send(fd, &request, sizeof(request), MSG_NOSIGNAL) < 0) break;
    ASSERT_LT(i, 9999);
  }
  ExpectHangUp(fd);
  close(fd);
  bystander.ExpectAlive();
}

TEST(HostileProgram, OutOfDescriptorsItStillServesWhomItHas) {
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit few = {64, 64};
  // The child's limit is the daemon's.
  auto daemon = Start();
  ASSERT_EQ(prlimit(daemon->pid(), RLIMIT_NOFILE, &few, nullptr), 0);
  Bystander bystander(*daemon);
  std::vector<UniqueFd> programs;
  for (int i = 0; i < 80; ++i) programs.emplace_back(RawControl(*daemon));
  bystander.ExpectAlive();
  programs.clear();
  // And others again, when there is room: two rounds later.
  bystander.ExpectAlive();
  bystander.ExpectAlive();
  auto transport = OpenSim(daemon->Uri("dom0"));
  EXPECT_TRUE(transport.ok()) << transport.status();
}

}  // namespace
}  // namespace argosy::sim
