// SPDX-License-Identifier: Apache-2.0
// argosy-many: many connections at once, each with its own bytes there and back.
//   argosy-many --serve PORT              echoes every connection, all at once
//   argosy-many CID PORT COUNT BYTES      opens COUNT connections, and only then sends BYTES over each
//   argosy-many --messages CID PORT COUNT sends COUNT messages of many sizes to an echo of messages
// Exit codes: 0; 1: a connection failed, or other bytes came back; 2: usage.
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "backends/open.h"
#include "transport/conformance/pattern.h"
#include "transport/error.h"
#include "transport/transport.h"

namespace argosy {
namespace {

constexpr size_t kChunk = 4096;
constexpr int kBacklog = 1024;
constexpr size_t kLargestMessage = 200'000;

int Fail(const absl::Status& status) {
  fprintf(stderr, "argosy-many: %s\n", std::string(status.message()).c_str());
  return 1;
}

void Echo(Socket socket) {
  char buffer[kChunk];
  ssize_t n;
  while ((n = read(socket.fd(), buffer, sizeof(buffer))) > 0) {
    for (ssize_t done = 0, m; done < n; done += m) {
      m = send(socket.fd(), buffer + done, n - done, MSG_NOSIGNAL);
      if (m < 0) {
        Fail(SystemError(errno, "send"));
        return;
      }
    }
  }
  if (n < 0) Fail(SystemError(errno, "read"));
}

int Serve(Transport& transport, uint32_t port) {
  const auto listener = transport.Listen(port, SocketType::kStream, {kBacklog});
  if (!listener.ok()) return Fail(listener.status());
  printf("argosy-many: serving at %s\n", ToString((*listener)->local()).c_str());
  fflush(stdout);
  for (;;) {
    absl::StatusOr<Socket> socket = AcceptBlocking(**listener);
    if (!socket.ok()) return Fail(socket.status());
    std::thread(&Echo, *std::move(socket)).detach();
  }
}

// One connection of the client's.
struct Connection {
  Socket socket;
  size_t sent = 0;
  size_t received = 0;
};

// Each connection has its own bytes: they are the same pattern, begun elsewhere.
class Bytes {
 public:
  Bytes(size_t connections, size_t size) : all_(conformance::Pattern{connections + size}.Bytes()) {}
  const uint8_t* Of(size_t connection) const { return all_.data() + connection; }

 private:
  const std::vector<uint8_t> all_;
};

// What can be done now without waiting.  Blocking is only in poll().
absl::Status Move(Connection& c, short events, const uint8_t* bytes, size_t size) {
  if ((events & POLLOUT) != 0 && c.sent < size) {
    const ssize_t n = send(c.socket.fd(), bytes + c.sent, std::min(kChunk, size - c.sent),
                           MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN) return SystemError(errno, "send");
    c.sent += std::max<ssize_t>(n, 0);
    if (c.sent == size) shutdown(c.socket.fd(), SHUT_WR);
  }
  if ((events & (POLLIN | POLLHUP | POLLRDHUP | POLLERR)) == 0) return absl::OkStatus();
  uint8_t buffer[kChunk];
  const ssize_t n = recv(c.socket.fd(), buffer, sizeof(buffer), MSG_DONTWAIT);
  if (n < 0) return errno == EAGAIN ? absl::OkStatus() : SystemError(errno, "recv");
  if (n == 0) return ErrnoError(ECONNRESET, "the connection ended early");
  if (c.received + n > size || memcmp(buffer, bytes + c.received, n) != 0) {
    return ErrnoError(EIO, "other bytes came back");
  }
  c.received += n;
  return absl::OkStatus();
}

int Connect(Transport& transport, Address server, size_t count, size_t size) {
  const Bytes bytes(count, size);
  const absl::Time begun = absl::Now();
  std::vector<Connection> connections;
  for (size_t i = 0; i < count; ++i) {
    absl::StatusOr<Socket> socket =
        ConnectBlocking(transport, server, SocketType::kStream, {absl::Seconds(60)});
    if (!socket.ok()) return Fail(socket.status());
    connections.push_back({*std::move(socket)});
  }
  const absl::Time open = absl::Now();
  for (size_t left = count; left > 0;) {
    std::vector<pollfd> polled(count, pollfd{-1, 0, 0});
    for (size_t i = 0; i < count; ++i) {
      const Connection& c = connections[i];
      if (c.received == size) continue;
      const short out = c.sent < size ? POLLOUT : 0;
      polled[i] = {c.socket.fd(), static_cast<short>(POLLIN | out), 0};
    }
    if (poll(polled.data(), polled.size(), -1) < 0) return Fail(SystemError(errno, "poll"));
    for (size_t i = 0; i < count; ++i) {
      if (polled[i].revents == 0) continue;
      const absl::Status moved = Move(connections[i], polled[i].revents, bytes.Of(i), size);
      if (!moved.ok()) return Fail(Annotate(moved, absl::StrCat("connection ", i)));
      if (connections[i].received == size) --left;
    }
  }
  for (Connection& c : connections) {
    const absl::Status end = c.socket.Finish(absl::Now() + absl::Seconds(60));
    if (!end.ok()) return Fail(end);
  }
  printf("argosy-many: %zu connections in %.1f s, %zu bytes there and back on each in %.1f s\n",
         count, absl::ToDoubleSeconds(open - begun), size,
         absl::ToDoubleSeconds(absl::Now() - open));
  return 0;
}

// SEQPACKET: each message must come back whole and alone.
int SendMessages(Transport& transport, Address server, size_t count) {
  const absl::StatusOr<Socket> socket =
      ConnectBlocking(transport, server, SocketType::kSeqpacket, {absl::Seconds(60)});
  if (!socket.ok()) return Fail(socket.status());
  for (size_t i = 0; i < count; ++i) {
    // From one byte to several packets.
    const size_t size = 1 + i * 7919 % kLargestMessage;
    const std::vector<uint8_t> message = conformance::Pattern{size, i << 32}.Bytes();
    std::vector<uint8_t> back(kLargestMessage + 1);
    if (send(socket->fd(), message.data(), size, MSG_NOSIGNAL) < 0) {
      return Fail(SystemError(errno, "send"));
    }
    const ssize_t n = recv(socket->fd(), back.data(), back.size(), 0);
    if (n < 0) return Fail(SystemError(errno, "recv"));
    back.resize(n);
    if (back != message) {
      return Fail(ErrnoError(EIO, absl::StrCat("message ", i, ": ", size, " bytes went, ", n,
                                               " or others came back")));
    }
  }
  printf("argosy-many: %zu messages there and back\n", count);
  return 0;
}

int Main(int argc, char** argv) {
  uint32_t port = 0, count = 0, size = 0;
  const std::vector<std::string> args(argv + 1, argv + argc);
  const bool serve = argc == 3 && args[0] == "--serve";
  const bool messages = argc == 5 && args[0] == "--messages";
  const size_t cid_at = messages ? 1 : 0;
  const bool usable = serve ? absl::SimpleAtoi(args[1], &port)
                            : argc == 5 && absl::SimpleAtoi(args[cid_at + 1], &port) &&
                                  absl::SimpleAtoi(args[cid_at + 2], &count) &&
                                  (messages || absl::SimpleAtoi(args[3], &size));
  if (!usable) {
    fprintf(stderr,
            "usage: argosy-many --serve PORT, argosy-many CID PORT COUNT BYTES, or argosy-many "
            "--messages CID PORT COUNT\n");
    return 2;
  }
  rlimit descriptors = {};
  getrlimit(RLIMIT_NOFILE, &descriptors);
  descriptors.rlim_cur = descriptors.rlim_max;
  setrlimit(RLIMIT_NOFILE, &descriptors);
  const absl::StatusOr<std::unique_ptr<Transport>> transport = OpenTransport("kernel:");
  if (!transport.ok()) return Fail(transport.status());
  if (serve) return Serve(**transport, port);
  const absl::StatusOr<uint32_t> cid = (*transport)->Resolve(args[cid_at]);
  if (!cid.ok()) return Fail(cid.status());
  if (messages) return SendMessages(**transport, {*cid, port}, count);
  return Connect(**transport, {*cid, port}, count, size);
}

}  // namespace
}  // namespace argosy

int main(int argc, char** argv) { return argosy::Main(argc, argv); }
