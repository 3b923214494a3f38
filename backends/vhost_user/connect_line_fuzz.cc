// SPDX-License-Identifier: Apache-2.0
// A client of the host that sends what it likes instead of its line, in pieces of any size.
// Whatever it sends: the parser reads nothing behind the bytes it was given, more bytes do not change
// what it has once said, and the socket asks for the port that the parser finds in the whole, leaves
// the bytes behind the line where they are, and is over when the client is.
//
// An input is the size of a piece (0: all at once), and the bytes.
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "backends/vhost_user/connect_line.h"
#include "backends/vhost_user/host_socket.h"
#include "backends/vhost_user/vsock_device.h"
#include "transport/error.h"
#include "transport/event_loop.h"
#include "transport/unique_fd.h"

namespace argosy::vhost_user {
namespace {

// What a socketpair takes without a reader.
constexpr size_t kMaxBytes = 4096;

void Check(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

// The parser's word on the first `size` bytes, which lie alone so that asan sees who reads on.
absl::StatusOr<ConnectLine> Parse(absl::string_view bytes, size_t size) {
  const auto copy = std::make_unique<char[]>(size);
  std::copy_n(bytes.data(), size, copy.get());
  return ParseConnectLine(absl::string_view(copy.get(), size));
}

void CheckLine(absl::string_view bytes, const ConnectLine& line) {
  Check(line.size <= bytes.size() && line.size <= kMaxConnectLine, "the line is too long");
  Check(bytes.find('\n') == line.size - 1, "the line does not end at the first newline");
  Check(line.port != UINT32_MAX, "a port that means any port");
  const size_t digits = bytes.find_first_of("0123456789");
  uint32_t port;
  Check(absl::SimpleAtoi(
            bytes.substr(digits, bytes.find_first_not_of("0123456789", digits) - digits), &port) &&
            port == line.port,
        "another port");
}

// What the parser says of the whole, if it has said the same since it first said something.
absl::StatusOr<ConnectLine> CheckParser(absl::string_view bytes) {
  std::optional<absl::StatusOr<ConnectLine>> said;
  for (size_t size = 0; size <= std::min(bytes.size(), 2 * kMaxConnectLine); ++size) {
    absl::StatusOr<ConnectLine> line = Parse(bytes, size);
    if (said.has_value()) {
      Check(line.ok() == said->ok(), "it changed its mind");
      Check(!line.ok() || (line->port == (*said)->port && line->size == (*said)->size),
            "the line has changed");
    } else if (!line.ok() || line->size != 0) {
      if (line.ok()) CheckLine(bytes.substr(0, size), *line);
      said = std::move(line);
    } else {
      Check(size < kMaxConnectLine, "it waits for more than a line");
    }
  }
  return said.has_value() ? *said : ConnectLine();
}

// Nobody's device: the guest does not run.
class NoUser : public packet::LinkUser {
 public:
  void OnPacket(uint64_t, const packet::Header&, const packet::Payload&) override {}
  void OnCanSend(uint64_t) override {}
  void OnPeerReset(uint64_t) override {}
};

class Owner : public HostSocketOwner {
 public:
  Owner(EventLoop& loop, int socket) : loop_(loop), socket_(socket) {}

  void Keep(std::unique_ptr<HostSocket> socket) { kept_ = std::move(socket); }
  bool over() const { return kept_ == nullptr; }
  const std::optional<uint32_t>& port() const { return port_; }
  const std::string& behind() const { return behind_; }

  absl::StatusOr<packet::Connection*> ConnectGuest(HostSocket*, uint32_t port) override {
    Check(line_ended_ && !port_.has_value(), "a port is asked for too early, or twice");
    port_ = port;
    behind_.resize(kMaxBytes);
    const ssize_t n = recv(socket_, behind_.data(), behind_.size(), MSG_PEEK | MSG_DONTWAIT);
    behind_.resize(static_cast<size_t>(std::max<ssize_t>(n, 0)));
    return ErrnoError(ENODEV, "no guest");
  }
  void LineEnded(HostSocket*) override {
    Check(!line_ended_, "the line ended twice");
    line_ended_ = true;
  }
  void SocketEnded(HostSocket*) override {
    Check(line_ended_ && kept_ != nullptr, "the socket ended twice, or before its line");
    loop_.Retire(std::move(kept_));
  }

 private:
  EventLoop& loop_;
  const int socket_;
  std::unique_ptr<HostSocket> kept_;
  bool line_ended_ = false;
  std::optional<uint32_t> port_;
  std::string behind_;
};

void CheckSocket(absl::string_view bytes, size_t piece, const absl::StatusOr<ConnectLine>& line) {
  int ends[2];
  Check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "no sockets");
  UniqueFd client(ends[0]);
  EventLoop loop;
  NoUser nobody;
  VsockDevice device(loop, nobody, {});
  Owner owner(loop, ends[1]);
  auto made = std::make_unique<HostSocket>(loop, owner, device, UniqueFd(ends[1]), AF_UNIX,
                                           VSOCK_TYPE_STREAM);
  HostSocket* const socket = made.get();
  owner.Keep(std::move(made));
  Check(socket->ReadLine().ok(), "it is not watched");
  size_t sent = 0;
  while (sent < bytes.size() && !owner.over()) {
    const size_t n = std::min(piece, bytes.size() - sent);
    Check(send(client.get(), bytes.data() + sent, n, MSG_NOSIGNAL) == static_cast<ssize_t>(n),
          "the client cannot send");
    sent += n;
    Check(loop.RunOnce(absl::InfinitePast()).ok(), "the loop failed");
  }
  const bool asked = line.ok() && line->size != 0;
  Check(owner.over() == (asked || !line.ok()), "it ended too early or too late");
  Check(owner.port().has_value() == asked, "a line was missed or made up");
  if (asked) {
    Check(*owner.port() == line->port, "another port than the parser's");
    Check(owner.behind() == bytes.substr(line->size, sent - line->size), "bytes behind the line");
  }
  client.reset();
  Check(loop.RunOnce(absl::InfinitePast()).ok() && owner.over(), "it outlives its client");
}

}  // namespace
}  // namespace argosy::vhost_user

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace argosy::vhost_user;
  if (size == 0) return 0;
  const absl::string_view bytes(reinterpret_cast<const char*>(data + 1),
                                std::min(size - 1, kMaxBytes));
  CheckSocket(bytes, data[0] == 0 ? kMaxBytes : data[0], CheckParser(bytes));
  return 0;
}
