// SPDX-License-Identifier: Apache-2.0
#include "nested-test/bench/tcp_transport.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "transport/error.h"

namespace argosy {
namespace {

sockaddr_in SocketAddress(Address address) {
  sockaddr_in in = {};
  in.sin_family = AF_INET;
  in.sin_addr.s_addr = htonl(address.cid);
  in.sin_port = htons(static_cast<uint16_t>(address.port));
  return in;
}

absl::StatusOr<UniqueFd> NewSocket() {
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return SystemError(errno, "socket(AF_INET)");
  return fd;
}

absl::Status PendingError(int fd, absl::string_view what) {
  int error = 0;
  socklen_t size = sizeof(error);
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) return SystemError(errno, what);
  return error == 0 ? absl::OkStatus() : SystemError(error, what);
}

class TcpEnding : public Socket::Ending {
 public:
  absl::Status Wait(int fd, absl::Time deadline) override {
    for (;;) {
      pollfd p = {fd, POLLRDHUP, 0};
      const absl::Duration left =
          std::clamp(deadline - absl::Now(), absl::ZeroDuration(), absl::Hours(24));
      const int n = poll(&p, 1, static_cast<int>(absl::ToInt64Milliseconds(left)));
      if (n < 0 && errno != EINTR) return SystemError(errno, "poll");
      if (n > 0) return PendingError(fd, "the connection failed");
      if (absl::Now() >= deadline) return ErrnoError(ETIMEDOUT, "the connection did not end");
    }
  }
};

absl::StatusOr<Socket> MakeSocket(UniqueFd fd, Address peer) {
  return Socket(std::move(fd), Address{}, peer, SocketType::kStream, std::make_unique<TcpEnding>());
}

class TcpConnecting : public Connecting {
 public:
  TcpConnecting(UniqueFd fd, Address peer) : fd_(std::move(fd)), peer_(peer) {}
  int fd() const override { return fd_.get(); }
  short events() const override { return POLLOUT; }

  absl::StatusOr<Socket> Complete() override {
    pollfd p = {fd_.get(), POLLOUT, 0};
    if (poll(&p, 1, 0) <= 0) return ErrnoError(EAGAIN, "still connecting");
    if (absl::Status s = PendingError(fd_.get(), "connect"); !s.ok()) return s;
    if (fcntl(fd_.get(), F_SETFL, 0) != 0) return SystemError(errno, "fcntl");
    return MakeSocket(std::move(fd_), peer_);
  }

 private:
  UniqueFd fd_;
  const Address peer_;
};

class TcpListener : public Listener {
 public:
  TcpListener(UniqueFd fd, Address local) : fd_(std::move(fd)), local_(local) {}
  int fd() const override { return fd_.get(); }
  Address local() const override { return local_; }

  absl::StatusOr<Socket> Accept() override {
    sockaddr_in in = {};
    socklen_t length = sizeof(in);
    UniqueFd fd(accept4(fd_.get(), reinterpret_cast<sockaddr*>(&in), &length, SOCK_CLOEXEC));
    if (!fd.valid()) return SystemError(errno, "accept");
    return MakeSocket(std::move(fd), {ntohl(in.sin_addr.s_addr), ntohs(in.sin_port)});
  }

 private:
  UniqueFd fd_;
  const Address local_;
};

class TcpTransport : public Transport {
 public:
  std::string uri() const override { return "tcp:"; }
  Capabilities capabilities() const override { return {}; }
  absl::StatusOr<uint32_t> LocalCid() override { return INADDR_ANY; }

  absl::StatusOr<uint32_t> Resolve(absl::string_view name) override {
    in_addr address = {};
    if (inet_pton(AF_INET, std::string(name).c_str(), &address) == 1) return ntohl(address.s_addr);
    return ErrnoError(ENODEV, absl::StrCat("'", name, "' is no IPv4 address"));
  }

  absl::StatusOr<std::unique_ptr<Connecting>> Connect(Address peer, SocketType,
                                                      const ConnectOptions&) override {
    absl::StatusOr<UniqueFd> fd = NewSocket();
    if (!fd.ok()) return fd.status();
    const sockaddr_in in = SocketAddress(peer);
    if (connect(fd->get(), reinterpret_cast<const sockaddr*>(&in), sizeof(in)) != 0 &&
        errno != EINPROGRESS) {
      return SystemError(errno, "connect");
    }
    return absl::make_unique<TcpConnecting>(*std::move(fd), peer);
  }

  absl::StatusOr<std::unique_ptr<Listener>> Listen(uint32_t port, SocketType,
                                                   const ListenOptions& options) override {
    absl::StatusOr<UniqueFd> fd = NewSocket();
    if (!fd.ok()) return fd.status();
    const Address local = {INADDR_ANY, port};
    const sockaddr_in in = SocketAddress(local);
    if (bind(fd->get(), reinterpret_cast<const sockaddr*>(&in), sizeof(in)) != 0) {
      return SystemError(errno, absl::StrCat("bind to port ", port));
    }
    if (listen(fd->get(), options.backlog) != 0) return SystemError(errno, "listen");
    return absl::make_unique<TcpListener>(*std::move(fd), local);
  }

  absl::StatusOr<std::unique_ptr<DatagramSocket>> BindDatagram(uint32_t) override {
    return ErrnoError(ESOCKTNOSUPPORT, "streams only");
  }
};

}  // namespace

std::unique_ptr<Transport> MakeTcpTransport() { return std::make_unique<TcpTransport>(); }

}  // namespace argosy
