// SPDX-License-Identifier: Apache-2.0
// argosy-flow: streams and messages on which credit could get stuck, over the kernel's AF_VSOCK.
//   argosy-flow listen PORT send|receive TIMES
//   argosy-flow connect CID PORT send|receive TIMES
// One side sends, the other receives.  Both go through kFlows, each flow over a connection of its own
// to the port PORT + its number.  Linux asks nobody for credit, so what is stuck stays so: a call that
// gets nothing done for kPatience is the failure that this looks for.
// Exit codes: 0; 1: a flow is stuck, or did not arrive whole; 2: usage.
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "transport/conformance/pattern.h"
#include "transport/error.h"
#include "transport/unique_fd.h"

namespace argosy {
namespace {

// A busy host makes everything ten times slower; but no call here waits for more than a window.
constexpr absl::Duration kPatience = absl::Seconds(60);
constexpr double kWorthTelling = 1.0;  // seconds
constexpr uint64_t kLargestWindow = 16 << 20;
constexpr uint64_t kKiB = 1024;
constexpr uint64_t kMiB = 1 << 20;

enum class Way {
  kBlocks,   // waits in send() and recv()
  kPolls,    // waits in poll()
  kAnswers,  // as kBlocks, and the receiver answers each round of writes by a byte
  kWaitAll,  // as kBlocks, and the receiver waits for all of `read`
  kRefuses,  // the sender does not wait: messages that are refused are given up, or sent again
};

struct Flow {
  const char* name;
  std::vector<uint64_t> writes;  // bytes of each send(), again and again
  uint64_t bytes;                // in all
  uint64_t read = 64 * kKiB;     // for each recv(); of messages: all
  Way way = Way::kBlocks;
  int type = SOCK_STREAM;
  uint64_t sender = 0, receiver = 0;  // the windows of the two, 0: the kernel's default of 256 KiB
  // Other windows that they take on the way, each after its share of the bytes.
  std::vector<uint64_t> sender_windows = {}, receiver_windows = {};
  int low_water = 0;  // SO_RCVLOWAT from the second recv() on: the first leaves credit held back
};

const std::vector<Flow> kFlows = {
    {"4, 600 and 600 bytes", {4, 600, 600}, 240 * 1204},
    {"4, 600 and 600 bytes, answered", {4, 600, 600}, 230 * 1204, 64 * kKiB, Way::kAnswers},
    {"4, 600 and 600 bytes by poll", {4, 600, 600}, 240 * 1204, 64 * kKiB, Way::kPolls},
    {"single bytes", {1}, 3000},
    {"single bytes, read one by one", {1}, 1000, 1},
    {"single bytes, answered", {1}, 260, 64 * kKiB, Way::kAnswers},
    {.name = "1000 bytes, both windows 1 MiB",
     .writes = {1000},
     .bytes = 1'300'000,
     .sender = kMiB,
     .receiver = kMiB},
    {.name = "1000 bytes, the sender's window 1 MiB",
     .writes = {1000},
     .bytes = 1'100'000,
     .sender = kMiB},
    {.name = "1000 bytes, the receiver's window 1 MiB",
     .writes = {1000},
     .bytes = 1'100'000,
     .receiver = kMiB},
    {.name = "large writes, the receiver's window 1000 bytes",
     .writes = {100'000},
     .bytes = 60'000,
     .receiver = 1000},
    {.name = "large writes, the sender's window 1000 bytes",
     .writes = {100'000},
     .bytes = 60'000,
     .sender = 1000},
    {.name = "10 and 5000 bytes, windows 4 KiB and 8 MiB, by poll",
     .writes = {10, 5000},
     .bytes = 500'000,
     .way = Way::kPolls,
     .sender = 8 * kMiB,
     .receiver = 4 * kKiB},
    {.name = "large writes, both windows 8 MiB",
     .writes = {kMiB},
     .bytes = 9 * kMiB,
     .read = kMiB,
     .sender = 8 * kMiB,
     .receiver = 8 * kMiB},
    {.name = "windows that grow",
     .writes = {5000, 100, 70'000, 1},
     .bytes = 2 * kMiB,
     .sender = 8 * kKiB,
     .receiver = 4 * kKiB,
     .sender_windows = {100'000, kMiB, 2 * kMiB},
     .receiver_windows = {100'000, 300'000, kMiB, 4 * kMiB}},
    {.name = "windows that grow, by poll",
     .writes = {600, 4},
     .bytes = 600'000,
     .way = Way::kPolls,
     .sender = 2 * kMiB,
     .receiver = 8 * kKiB,
     .receiver_windows = {64 * kKiB, kMiB}},
    {.name = "the sender's window shrinks",
     .writes = {70'000, 100},
     .bytes = 2 * kMiB,
     .sender_windows = {8 * kKiB, kMiB, 4 * kKiB, 100'000},
     .receiver_windows = {300'000, kMiB}},
    // What is under way when a receiver's window shrinks need not fit: Linux ends the connection then
    // (ENOBUFS).  Here nothing is, for the sender waits for the answer.
    {.name = "windows that change, answered",
     .writes = {5000, 100, 40'000, 1},
     .bytes = 12 * 45'101,
     .way = Way::kAnswers,
     .sender_windows = {8 * kKiB, kMiB},
     .receiver_windows = {8 * kKiB, kMiB, 4 * kKiB, 300'000, 10'000}},
    {.name = "low water of 100000, 1000 bytes",
     .writes = {1000},
     .bytes = 1'100'000,
     .read = 60'000,
     .low_water = 100'000},
    {.name = "low water of a window, by poll",
     .writes = {7000, 50'000},
     .bytes = 1'100'000,
     .read = 60'000,
     .way = Way::kPolls,
     .low_water = 256 * kKiB},
    // Linux refuses a recv() that waits for a window or more (ENOMEM).
    {.name = "low water of almost a window",
     .writes = {50'000, 7000},
     .bytes = 1'100'000,
     .read = 300'000,
     .low_water = 256 * kKiB - 1},
    {.name = "almost a window waited for",
     .writes = {3000, 1},
     .bytes = 1'100'000,
     .read = 250'000,
     .way = Way::kWaitAll},
    {.name = "low water of 60000, 100 bytes",
     .writes = {100},
     .bytes = 500'000,
     .low_water = 60'000},
    {.name = "all sizes, by poll",
     .writes = {1, 64 * kKiB, 7, 300'000},
     .bytes = 3 * kMiB / 2,
     .read = 10'000,
     .way = Way::kPolls},
    {.name = "messages up to a window",
     .writes = {1, 600, 65'536, 65'537, 200'000, 256 * kKiB, 4020, 4021},
     .bytes = 3 * kMiB / 2,
     .type = SOCK_SEQPACKET},
    {.name = "messages up to a window, by poll",
     .writes = {256 * kKiB, 1, 200'000, 600, 100'000},
     .bytes = 3 * kMiB / 2,
     .way = Way::kPolls,
     .type = SOCK_SEQPACKET},
    {.name = "messages of a byte", .writes = {1}, .bytes = 1500, .type = SOCK_SEQPACKET},
    {.name = "messages of 8 MiB",
     .writes = {8 * kMiB, 1},
     .bytes = 8 * kMiB + 1,
     .type = SOCK_SEQPACKET,
     .sender = 8 * kMiB,
     .receiver = 8 * kMiB},
    {.name = "messages that are refused",
     .writes = {50'000, 100, 3000, 60'000, 65'536},
     .bytes = 200,  // messages
     .way = Way::kRefuses,
     .type = SOCK_SEQPACKET,
     .receiver = 64 * kKiB},
};

// ---- sockets ----

absl::Status SetWindow(int fd, uint64_t window) {
  if (window == 0) return absl::OkStatus();
  for (const int option : {SO_VM_SOCKETS_BUFFER_MAX_SIZE, SO_VM_SOCKETS_BUFFER_SIZE}) {
    const uint64_t size = option == SO_VM_SOCKETS_BUFFER_SIZE ? window : kLargestWindow;
    if (setsockopt(fd, AF_VSOCK, option, &size, sizeof(size)) != 0) {
      return SystemError(errno, "SO_VM_SOCKETS_BUFFER_SIZE");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> Open(const Flow& flow, bool sends) {
  UniqueFd fd(socket(AF_VSOCK, flow.type | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) return SystemError(errno, "socket");
  const timeval patience = absl::ToTimeval(kPatience);
  setsockopt(fd.get(), AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &patience, sizeof(patience));
  const absl::Status set = SetWindow(fd.get(), sends ? flow.sender : flow.receiver);
  if (!set.ok()) return set;
  return fd;
}

absl::Status SetPatience(int fd) {
  const timeval patience = absl::ToTimeval(kPatience);
  if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) != 0 ||
      setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) != 0) {
    return SystemError(errno, "SO_RCVTIMEO");
  }
  return absl::OkStatus();
}

// What a call that answered `n` means: errno (EAGAIN is that of SO_RCVTIMEO and SO_SNDTIMEO), or an
// end that came too early, or data that nobody sent.
absl::Status Broken(ssize_t n, const char* call, uint64_t done, uint64_t all) {
  const std::string where = absl::StrCat(call, " at byte ", done, " of ", all);
  if (n >= 0) return ErrnoError(EIO, absl::StrCat(where, n == 0 ? ": the end" : ": more data"));
  return errno == EAGAIN ? ErrnoError(ETIMEDOUT, absl::StrCat("stuck in ", where))
                         : SystemError(errno, where);
}

// Until poll() says one of the events.  False: it does not, for kPatience.
bool Wait(int fd, short events) {
  pollfd polled = {fd, events, 0};
  const int n = poll(&polled, 1, static_cast<int>(absl::ToInt64Milliseconds(kPatience)));
  if (n == 0) errno = EAGAIN;
  return n > 0;
}

// The next of the windows, when its share of the bytes has passed.
absl::Status ChangeWindow(int fd, const std::vector<uint64_t>& windows, double share,
                          size_t* changes) {
  if (*changes == windows.size() || share * (windows.size() + 1) < *changes + 1) {
    return absl::OkStatus();
  }
  return SetWindow(fd, windows[(*changes)++]);
}

// ---- streams, and messages that are all sent ----

absl::Status Send(int fd, const Flow& flow) {
  const std::vector<uint8_t> all = conformance::Pattern{flow.bytes}.Bytes();
  const bool polls = flow.way == Way::kPolls;
  const int flags = MSG_NOSIGNAL | (polls ? MSG_DONTWAIT : 0);
  size_t changes = 0;
  uint64_t done = 0;
  for (size_t i = 0; done < all.size(); ++i) {
    const uint64_t end = std::min(done + flow.writes[i % flow.writes.size()], all.size());
    while (done < end) {
      const ssize_t n = send(fd, all.data() + done, end - done, flags);
      if (n < 0 && polls && errno == EAGAIN && Wait(fd, POLLOUT)) continue;
      if (n < 0) return Broken(n, "send", done, all.size());
      if (flow.type == SOCK_SEQPACKET && done + n != end) {
        return ErrnoError(EIO, "a part of a message was sent");
      }
      done += n;
    }
    const absl::Status changed =
        ChangeWindow(fd, flow.sender_windows, 1.0 * done / flow.bytes, &changes);
    if (!changed.ok()) return changed;
    char answer;
    if (flow.way != Way::kAnswers || (i + 1) % flow.writes.size() != 0) continue;
    const ssize_t n = recv(fd, &answer, 1, 0);
    if (n != 1) return Broken(n, "recv of an answer", done, all.size());
  }
  return absl::OkStatus();
}

absl::Status Receive(int fd, const Flow& flow) {
  const std::vector<uint8_t> all = conformance::Pattern{flow.bytes}.Bytes();
  const bool messages = flow.type == SOCK_SEQPACKET;
  const uint64_t round = std::accumulate(flow.writes.begin(), flow.writes.end(), uint64_t{0});
  std::vector<uint8_t> buffer(messages ? kLargestWindow : flow.read);
  const int flags = flow.way == Way::kPolls     ? MSG_DONTWAIT
                    : flow.way == Way::kWaitAll ? MSG_WAITALL
                                                : 0;
  size_t changes = 0, reads = 0;
  uint64_t done = 0, answered = 0;
  for (;;) {
    const ssize_t n = recv(fd, buffer.data(), buffer.size(), flags);
    if (n < 0 && flow.way == Way::kPolls && errno == EAGAIN && Wait(fd, POLLIN)) continue;
    if (n < 0) return Broken(n, "recv", done, all.size());
    if (n == 0) break;
    if (done + n > all.size() || std::memcmp(buffer.data(), all.data() + done, n) != 0) {
      return ErrnoError(EIO, absl::StrCat("other bytes came behind byte ", done));
    }
    const uint64_t message = std::min(flow.writes[reads % flow.writes.size()], all.size() - done);
    if (messages && static_cast<uint64_t>(n) != message) {
      return ErrnoError(EIO, absl::StrCat("a message of ", message, " bytes came as ", n));
    }
    done += n;
    if (flow.way != Way::kAnswers || done % round == 0) {
      const absl::Status changed =
          ChangeWindow(fd, flow.receiver_windows, 1.0 * done / flow.bytes, &changes);
      if (!changed.ok()) return changed;
    }
    if (++reads == 1 && flow.low_water != 0 &&
        setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &flow.low_water, sizeof(flow.low_water)) != 0) {
      return SystemError(errno, "SO_RCVLOWAT");
    }
    for (; flow.way == Way::kAnswers && answered + round <= done; answered += round) {
      const ssize_t n = send(fd, "", 1, MSG_NOSIGNAL);
      if (n != 1) return Broken(n, "send of an answer", done, all.size());
    }
  }
  if (done != all.size()) return ErrnoError(EIO, absl::StrCat("it ended at byte ", done));
  return absl::OkStatus();
}

// ---- messages that may be refused ----

// What a message begins with; the rest is the pattern from byte `number` << 32 on.
struct Head {
  uint64_t number;  // from 1; 0: the last one, all of them are said to have been sent
  uint64_t sent;    // of the last: how many
  uint64_t sum;     // and the sum of their numbers
};

std::vector<uint8_t> Message(const Flow& flow, Head head) {
  const uint64_t size =
      head.number == 0 ? sizeof(head) : flow.writes[head.number % flow.writes.size()];
  std::vector<uint8_t> message = conformance::Pattern{size, head.number << 32}.Bytes();
  std::memcpy(message.data(), &head, sizeof(head));
  return message;
}

absl::Status SendSome(int fd, const Flow& flow) {
  Head all = {};
  uint64_t refused = 0;
  for (uint64_t number = 1; number <= flow.bytes; ++number) {
    const std::vector<uint8_t> message = Message(flow, {number, 0, 0});
    ssize_t n;
    while ((n = send(fd, message.data(), message.size(), MSG_NOSIGNAL | MSG_DONTWAIT)) < 0 &&
           errno == EAGAIN && ++refused % 2 == 0) {
      if (!Wait(fd, POLLOUT)) return Broken(-1, "poll before message", number, flow.bytes);
    }
    if (n < 0 && errno == EAGAIN) continue;
    if (n < 0) return Broken(n, "send of message", number, flow.bytes);
    ++all.sent;
    all.sum += number;
  }
  const std::vector<uint8_t> last = Message(flow, all);
  if (send(fd, last.data(), last.size(), MSG_NOSIGNAL) < 0) {
    return Broken(-1, "send of the last message", flow.bytes, flow.bytes);
  }
  if (refused == 0) return ErrnoError(EIO, "no message was refused: nothing was tried");
  return absl::OkStatus();
}

absl::Status ReceiveSome(int fd, const Flow& flow) {
  Head all = {};
  uint64_t before = 0;
  std::vector<uint8_t> buffer(kLargestWindow);
  for (;;) {
    const ssize_t n = recv(fd, buffer.data(), buffer.size(), 0);
    if (n <= 0) return Broken(n, "recv behind message", before, flow.bytes);
    Head head;
    if (static_cast<size_t>(n) < sizeof(head)) return ErrnoError(EIO, "a part of a message came");
    std::memcpy(&head, buffer.data(), sizeof(head));
    const std::vector<uint8_t> message = Message(flow, head);
    if (!std::equal(message.begin(), message.end(), buffer.begin(), buffer.begin() + n)) {
      return ErrnoError(EIO, absl::StrCat("message ", head.number, " is not whole, or not alone: ",
                                          n, " bytes instead of ", message.size()));
    }
    if (head.number == 0) {
      if (head.sent != all.sent || head.sum != all.sum) {
        return ErrnoError(EIO,
                          absl::StrCat(head.sent, " messages went, ", all.sent, " or others came"));
      }
      char nothing;
      return recv(fd, &nothing, 1, 0) == 0 ? absl::OkStatus()
                                           : ErrnoError(EIO, "more came behind the last message");
    }
    if (head.number <= before) {
      return ErrnoError(EIO, absl::StrCat("message ", head.number, " came twice"));
    }
    before = head.number;
    ++all.sent;
    all.sum += head.number;
  }
}

// ---- both sides ----

absl::Status Run(int fd, const Flow& flow, bool sends) {
  const absl::Status patient = SetPatience(fd);
  if (!patient.ok()) return patient;
  if (!sends) return flow.way == Way::kRefuses ? ReceiveSome(fd, flow) : Receive(fd, flow);
  const absl::Status sent = flow.way == Way::kRefuses ? SendSome(fd, flow) : Send(fd, flow);
  if (!sent.ok()) return sent;
  // The receiver closes when it has found everything right; else it resets the connection.
  char nothing;
  if (shutdown(fd, SHUT_WR) != 0) return SystemError(errno, "shutdown");
  const ssize_t n = recv(fd, &nothing, 1, 0);
  return n == 0 ? absl::OkStatus() : Broken(n, "recv of the end", flow.bytes, flow.bytes);
}

sockaddr_vm At(uint32_t cid, uint32_t port) {
  sockaddr_vm address = {};
  address.svm_family = AF_VSOCK;
  address.svm_cid = cid;
  address.svm_port = port;
  return address;
}

absl::StatusOr<UniqueFd> Listen(const Flow& flow, uint32_t port, bool sends) {
  absl::StatusOr<UniqueFd> fd = Open(flow, sends);
  if (!fd.ok()) return fd;
  const sockaddr_vm address = At(VMADDR_CID_ANY, port);
  if (bind(fd->get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      listen(fd->get(), 4) != 0) {
    return SystemError(errno, "listen");
  }
  const absl::Status patient = SetPatience(fd->get());
  if (!patient.ok()) return patient;
  return fd;
}

absl::StatusOr<UniqueFd> Accept(int listener) {
  UniqueFd fd(accept(listener, nullptr, nullptr));
  if (fd.get() < 0) return SystemError(errno, "accept");
  return fd;
}

absl::StatusOr<UniqueFd> Connect(const Flow& flow, sockaddr_vm to, bool sends) {
  absl::StatusOr<UniqueFd> fd = Open(flow, sends);
  if (fd.ok() && connect(fd->get(), reinterpret_cast<const sockaddr*>(&to), sizeof(to)) != 0) {
    return SystemError(errno, "connect");
  }
  return fd;
}

int Main(const std::vector<std::string>& args) {
  const bool listens = args.size() == 4 && args[0] == "listen";
  const std::string way = args.size() < 4 ? "" : args[args.size() - 2];
  uint32_t cid = 0, port = 0, times = 0;
  if (!(listens || (args.size() == 5 && args[0] == "connect" && absl::SimpleAtoi(args[1], &cid))) ||
      !absl::SimpleAtoi(args[args.size() - 3], &port) || (way != "send" && way != "receive") ||
      !absl::SimpleAtoi(args.back(), &times)) {
    std::fprintf(stderr,
                 "usage: argosy-flow listen PORT send|receive TIMES, or\n"
                 "       argosy-flow connect CID PORT send|receive TIMES\n");
    return 2;
  }
  const bool sends = way == "send";
  std::vector<UniqueFd> listeners;
  for (size_t i = 0; listens && i < kFlows.size(); ++i) {
    absl::StatusOr<UniqueFd> listener = Listen(kFlows[i], port + i, sends);
    if (!listener.ok()) {
      std::fprintf(stderr, "argosy-flow: %s\n", std::string(listener.status().message()).c_str());
      return 1;
    }
    listeners.push_back(*std::move(listener));
  }
  if (listens) std::printf("argosy-flow: listening\n");
  std::fflush(stdout);
  const absl::Time begun = absl::Now();
  int failed = 0;
  for (uint32_t time = 0; time < times; ++time) {
    for (size_t i = 0; i < kFlows.size(); ++i) {
      const Flow& flow = kFlows[i];
      const absl::Time start = absl::Now();
      absl::StatusOr<UniqueFd> fd =
          listens ? Accept(listeners[i].get()) : Connect(flow, At(cid, port + i), sends);
      const absl::Status ran = fd.ok() ? Run(fd->get(), flow, sends) : fd.status();
      const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
      if (ran.ok() && seconds < kWorthTelling) continue;
      std::printf("argosy-flow: %5.1f s to %s: %s%s%s\n", seconds, way.c_str(), flow.name,
                  ran.ok() ? "" : ": ", std::string(ran.message()).c_str());
      std::fflush(stdout);
      failed += ran.ok() ? 0 : 1;
    }
  }
  std::printf("argosy-flow: %zu flows, %u times, in %.1f s, %d failed\n", kFlows.size(), times,
              absl::ToDoubleSeconds(absl::Now() - begun), failed);
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace argosy

int main(int argc, char** argv) {
  return argosy::Main(std::vector<std::string>(argv + 1, argv + argc));
}
