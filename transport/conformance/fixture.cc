// SPDX-License-Identifier: Apache-2.0
#include "transport/conformance/fixture.h"

#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace argosy::conformance {
namespace {

// A case that hangs ends the run and says which it was: nobody may be there to look.
constexpr int kCaseLimit = 300;  // seconds
char current_case[256];

void CaseHangs(int) {
  static constexpr char kText[] = " did not end within 300 seconds\n";
  if (write(STDERR_FILENO, current_case, strlen(current_case)) < 0 ||
      write(STDERR_FILENO, kText, sizeof(kText) - 1) < 0) {
    _exit(1);
  }
  _exit(1);
}

}  // namespace

uint64_t a_lot = 16 << 20;

void RaiseDescriptorLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

void ConformanceTest::SetUp() {
  const testing::TestInfo& info = *testing::UnitTest::GetInstance()->current_test_info();
  snprintf(current_case, sizeof(current_case), "%s.%s", info.test_suite_name(), info.name());
  signal(SIGALRM, CaseHangs);
  alarm(kCaseLimit);
  RaiseDescriptorLimit();

  RecordProperty("column", tested().column);
  absl::StatusOr<Ends> ends = tested().open();
  ASSERT_TRUE(ends.ok()) << ends.status();
  ends_ = *std::move(ends);
  const absl::StatusOr<uint32_t> cid = near().LocalCid();
  ASSERT_TRUE(cid.ok()) << cid.status();
  near_cid_ = *cid;
  capabilities_ = near().capabilities();
}

void ConformanceTest::TearDown() {
  ends_ = Ends();
  alarm(0);
}

void SeqpacketTest::SetUp() {
  TransportTest::SetUp();
  NEEDS(seqpacket);
}

void DatagramTest::SetUp() {
  TransportTest::SetUp();
  NEEDS(datagram);
}

void ConnectionTest::SetUp() {
  ConformanceTest::SetUp();
  if (type() == SocketType::kSeqpacket) NEEDS(seqpacket);
}

absl::StatusOr<ConformanceTest::Pair> ConformanceTest::Connected(SocketType type, Opener opener) {
  if (opener == Opener::kNear) {
    const absl::StatusOr<FarListener> listener = far().Listen(type);
    if (!listener.ok()) return listener.status();
    absl::StatusOr<Socket> socket = Connect(*listener, type);
    if (!socket.ok()) return socket.status();
    const absl::StatusOr<FarSocket> accepted = far().Accept(*listener);
    if (!accepted.ok()) return accepted.status();
    if (absl::Status s = far().Close(*listener); !s.ok()) return s;
    return Pair{*std::move(socket), *accepted};
  }
  const absl::StatusOr<std::unique_ptr<Listener>> listener = near().Listen(kPortAny, type, {});
  if (!listener.ok()) return listener.status();
  const absl::StatusOr<FarSocket> socket =
      far().Connect({near_cid(), (*listener)->local().port}, type);
  if (!socket.ok()) return socket.status();
  absl::StatusOr<Socket> accepted = AcceptBlocking(**listener, Patience());
  if (!accepted.ok()) return accepted.status();
  return Pair{*std::move(accepted), *socket};
}

absl::StatusOr<Socket> ConformanceTest::Connect(FarListener listener, SocketType type,
                                                const ConnectOptions& options) {
  ConnectOptions patient = options;
  patient.timeout = std::max(options.timeout, kPatience);
  return ConnectBlocking(near(), {far().cid(), listener.port}, type, patient);
}

absl::StatusOr<uint32_t> ConformanceTest::FreePort() {
  const auto listener = near().Listen(kPortAny, SocketType::kStream, {});
  if (!listener.ok()) return listener.status();
  return (*listener)->local().port;
}

absl::StatusOr<uint32_t> ConformanceTest::FreeFarPort() {
  const absl::StatusOr<FarListener> listener = far().Listen(SocketType::kStream);
  if (!listener.ok()) return listener.status();
  if (absl::Status s = far().Close(*listener); !s.ok()) return s;
  return listener->port;
}

std::string NameOfType(const testing::TestParamInfo<std::tuple<Tested, SocketType>>& info) {
  return std::get<1>(info.param) == SocketType::kStream ? "stream" : "seqpacket";
}

testing::AssertionResult HasErrno(const char* expression, const char*, const absl::Status& status,
                                  int expected) {
  if (ErrnoOf(status) == expected) return testing::AssertionSuccess();
  const auto name = [](int error) -> std::string {
    return error == 0 ? "OK" : strerrorname_np(error);
  };
  return testing::AssertionFailure()
         << expression << "\n  expected: " << name(expected)
         << "\n       got: " << name(ErrnoOf(status)) << " (" << status.message() << ")";
}

bool SendAll(const Socket& socket, absl::string_view text) {
  while (!text.empty()) {
    const ssize_t n = send(socket.fd(), text.data(), text.size(), MSG_NOSIGNAL);
    if (n < 0) {
      ADD_FAILURE() << "send: " << strerror(errno);
      return false;
    }
    text.remove_prefix(n);
  }
  return true;
}

std::string ReadSome(const Socket& socket) {
  char buffer[256];
  const ssize_t n = read(socket.fd(), buffer, sizeof(buffer));
  if (n < 0) return absl::StrCat("errno ", errno);
  return std::string(buffer, n);
}

void CloseSocket(Socket socket) { std::move(socket).Release().reset(); }

short PollFor(int fd, short events, absl::Duration wait) {
  pollfd p = {fd, events, 0};
  const int n = poll(&p, 1, static_cast<int>(absl::ToInt64Milliseconds(wait)));
  return n > 0 ? p.revents : short{0};
}

}  // namespace argosy::conformance
