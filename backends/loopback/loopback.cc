// SPDX-License-Identifier: Apache-2.0
#include "backends/loopback/loopback.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "backends/loopback/port_directory.h"
#include "transport/error.h"
#include "transport/packet/limits.h"
#include "transport/unix_ending.h"
#include "transport/unix_socket.h"

namespace argosy {
namespace {

using packet::kMaxDatagram;

// The kernel refuses messages above sk_sndbuf - 32, and sk_sndbuf is twice what SO_SNDBUF is set
// to.
constexpr int kSendBufferOverhead = 32;
constexpr int kSendBuffer = (packet::kDefaultBufAlloc + kSendBufferOverhead) / 2;

absl::StatusOr<UniqueFd> NewSocket(int type) {
  UniqueFd fd(socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return SystemError(errno, "socket");
  return fd;
}

int TypeOf(SocketType type) { return type == SocketType::kStream ? SOCK_STREAM : SOCK_SEQPACKET; }

// What a connected descriptor is to the program: of the promised message size.
absl::Status Prepare(int fd, SocketType type) {
  if (type == SocketType::kSeqpacket &&
      setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &kSendBuffer, sizeof(kSendBuffer)) != 0) {
    return SystemError(errno, "SO_SNDBUF");
  }
  return absl::OkStatus();
}

// Keeps the connecting side's port taken as long as its connection.
class ConnectorEnding : public UnixEnding {
 public:
  explicit ConnectorEnding(BoundPort port) : port_(std::move(port)) {}

 private:
  BoundPort port_;
};

// An AF_UNIX connect() answers at once: this only carries the answer.
class LoopbackConnecting : public Connecting {
 public:
  // `fd` is pollable when `result` is an error.
  LoopbackConnecting(UniqueFd fd, absl::StatusOr<Socket> result)
      : fd_(std::move(fd)),
        result_(std::move(result)),
        poll_fd_(result_.ok() ? result_->fd() : fd_.get()) {}
  int fd() const override { return poll_fd_; }
  short events() const override { return POLLOUT; }
  absl::StatusOr<Socket> Complete() override {
    absl::StatusOr<Socket> result = std::move(result_);
    result_ = ErrnoError(EINVAL, "the connection was already handed out");
    return result;
  }

 private:
  UniqueFd fd_;
  absl::StatusOr<Socket> result_;
  const int poll_fd_;
};

class LoopbackListener : public Listener {
 public:
  LoopbackListener(UniqueFd fd, BoundPort port, SocketType type)
      : fd_(std::move(fd)), port_(std::move(port)), type_(type) {}
  int fd() const override { return fd_.get(); }
  Address local() const override { return {kCidLocal, port_.port()}; }

  absl::StatusOr<Socket> Accept() override {
    for (;;) {
      sockaddr_un peer = {};
      socklen_t length = sizeof(peer);
      UniqueFd fd(accept4(fd_.get(), reinterpret_cast<sockaddr*>(&peer), &length, SOCK_CLOEXEC));
      if (!fd.valid()) {
        if (errno == EINTR || errno == ECONNABORTED) continue;
        return SystemError(errno, "accept");
      }
      const absl::StatusOr<uint32_t> port = PortOf(peer, length, PortSpace::kConnection);
      if (!port.ok()) continue;  // some other program: it has no address, so it is turned away
      const absl::Status prepared = Prepare(fd.get(), type_);
      if (!prepared.ok()) return prepared;
      return Socket(std::move(fd), local(), {kCidLocal, *port}, type_,
                    std::make_unique<UnixEnding>());
    }
  }

 private:
  UniqueFd fd_;
  BoundPort port_;
  const SocketType type_;
};

class LoopbackDatagramSocket : public DatagramSocket {
 public:
  LoopbackDatagramSocket(UniqueFd fd, BoundPort port, PortDirectory directory)
      : fd_(std::move(fd)), port_(std::move(port)), directory_(std::move(directory)) {}
  int fd() const override { return fd_.get(); }
  Address local() const override { return {kCidLocal, port_.port()}; }

  absl::Status SendTo(absl::Span<const uint8_t> bytes, Address to) override {
    if (to.cid != kCidLocal) return ErrnoError(ENODEV, absl::StrCat("no CID ", to.cid, " here"));
    if (bytes.size() > kMaxDatagram) {
      return ErrnoError(EMSGSIZE,
                        absl::StrCat("a datagram holds at most ", kMaxDatagram, " bytes"));
    }
    const sockaddr_un address =
        UnixAddress(directory_.PathOf(PortSpace::kDatagram, to.port)).value();
    if (sendto(fd_.get(), bytes.data(), bytes.size(), 0,
               reinterpret_cast<const sockaddr*>(&address), sizeof(address)) >= 0) {
      return absl::OkStatus();
    }
    switch (errno) {
      case ENOENT:
      case ECONNREFUSED:  // nobody there
      case EAGAIN:        // the receiver is full; its room cannot be waited for
        return absl::OkStatus();
      default:
        return SystemError(errno, "sendto");
    }
  }

  absl::StatusOr<Datagram> ReceiveFrom(absl::Span<uint8_t> buffer) override {
    for (;;) {
      sockaddr_un from = {};
      socklen_t length = sizeof(from);
      const ssize_t size = recvfrom(fd_.get(), buffer.data(), buffer.size(), MSG_TRUNC,
                                    reinterpret_cast<sockaddr*>(&from), &length);
      if (size < 0) return SystemError(errno, "recvfrom");
      const absl::StatusOr<uint32_t> port = PortOf(from, length, PortSpace::kDatagram);
      if (!port.ok()) continue;  // some other program
      return Datagram{static_cast<size_t>(size), {kCidLocal, *port}};
    }
  }

 private:
  UniqueFd fd_;
  BoundPort port_;
  const PortDirectory directory_;
};

class LoopbackTransport : public Transport {
 public:
  LoopbackTransport(std::string uri, PortDirectory directory)
      : uri_(std::move(uri)), directory_(std::move(directory)) {}

  std::string uri() const override { return uri_; }

  Capabilities capabilities() const override {
    Capabilities c;
    c.seqpacket = true;
    c.datagram = true;
    c.reset_on_fd = true;
    c.reports_lost_data = true;
    c.knows_cids = true;
    c.reaches_itself = true;
    c.knows_both_addresses = true;
    c.port_privilege_by_thread = true;
    c.too_large_is_emsgsize = true;
    c.tells_stopped_reading = true;
    c.raises_sigpipe = true;
    c.lingers_for_unsent_only = true;
    c.peeks_messages = true;
    c.bad_buffer_is_efault = true;
    c.refuses_whole_messages = true;
    c.counts_unread = true;
    c.counts_unsent = true;
    c.max_message = packet::kDefaultBufAlloc;
    c.max_datagram = kMaxDatagram;
    return c;
  }

  absl::StatusOr<uint32_t> LocalCid() override { return kCidLocal; }

  absl::StatusOr<uint32_t> Resolve(absl::string_view name) override {
    absl::StatusOr<uint32_t> cid = ParseCid(name);
    if (cid.ok()) return cid;
    return ErrnoError(ENODEV, absl::StrCat("no machine named '", name, "': ", uri_,
                                           " knows only 'local' (CID 1)"));
  }

  absl::StatusOr<std::unique_ptr<Connecting>> Connect(Address peer, SocketType type,
                                                      const ConnectOptions& options) override {
    if (peer.cid != kCidLocal) {
      return ErrnoError(ENODEV, absl::StrCat("no CID ", peer.cid, " behind ", uri_,
                                             ": it knows only 1 ('local')"));
    }
    absl::StatusOr<UniqueFd> fd = NewSocket(TypeOf(type));
    if (!fd.ok()) return fd.status();
    // The listener learns our port from our socket's name.
    absl::StatusOr<BoundPort> port =
        directory_.Bind(fd->get(), PortSpace::kConnection, options.local_port);
    if (!port.ok()) return port.status();
    absl::StatusOr<Socket> result = Connected(*fd, *std::move(port), peer, type);
    return absl::make_unique<LoopbackConnecting>(*std::move(fd), std::move(result));
  }

  absl::StatusOr<std::unique_ptr<Listener>> Listen(uint32_t port, SocketType type,
                                                   const ListenOptions& options) override {
    absl::StatusOr<UniqueFd> fd = NewSocket(TypeOf(type));
    if (!fd.ok()) return fd.status();
    absl::StatusOr<BoundPort> bound = directory_.Bind(fd->get(), PortSpace::kConnection, port);
    if (!bound.ok()) return bound.status();
    if (listen(fd->get(), std::clamp(options.backlog, 1, 4096)) != 0) {
      return SystemError(errno, "listen");
    }
    return absl::make_unique<LoopbackListener>(*std::move(fd), *std::move(bound), type);
  }

  absl::StatusOr<std::unique_ptr<DatagramSocket>> BindDatagram(uint32_t port) override {
    absl::StatusOr<UniqueFd> fd = NewSocket(SOCK_DGRAM);
    if (!fd.ok()) return fd.status();
    absl::StatusOr<BoundPort> bound = directory_.Bind(fd->get(), PortSpace::kDatagram, port);
    if (!bound.ok()) return bound.status();
    return absl::make_unique<LoopbackDatagramSocket>(*std::move(fd), *std::move(bound), directory_);
  }

 private:
  // Takes `fd` on success only.
  absl::StatusOr<Socket> Connected(UniqueFd& fd, BoundPort port, Address peer, SocketType type) {
    const sockaddr_un address =
        UnixAddress(directory_.PathOf(PortSpace::kConnection, peer.port)).value();
    const int rc = connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
    const int error = errno;
    port.RemoveFile();  // the name has served
    if (rc != 0) {
      switch (error) {
        case ENOENT:
        case ECONNREFUSED:
          return ErrnoError(ECONNRESET, absl::StrCat(ToString(peer), ": nobody listens there"));
        case EAGAIN:
          return ErrnoError(ECONNRESET, absl::StrCat(ToString(peer), ": its backlog is full"));
        case EPROTOTYPE:
          return ErrnoError(ECONNRESET,
                            absl::StrCat(ToString(peer), ": it takes another type of socket"));
        default:
          return SystemError(error, absl::StrCat("connect to ", ToString(peer)));
      }
    }
    const absl::Status prepared = Prepare(fd.get(), type);
    if (!prepared.ok()) return prepared;
    if (fcntl(fd.get(), F_SETFL, 0) != 0) return SystemError(errno, "fcntl");
    const Address local = {kCidLocal, port.port()};
    return Socket(std::move(fd), local, peer, type,
                  std::make_unique<ConnectorEnding>(std::move(port)));
  }

  const std::string uri_;
  const PortDirectory directory_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Transport>> OpenLoopback(absl::string_view uri) {
  absl::string_view path = uri;
  if (!absl::ConsumePrefix(&path, "loopback:")) {
    return ErrnoError(EINVAL, absl::StrCat("'", uri, "' is not of the form loopback:[DIR]"));
  }
  absl::StatusOr<PortDirectory> directory = PortDirectory::Open(path);
  if (!directory.ok()) return Annotate(directory.status(), uri);
  return absl::make_unique<LoopbackTransport>(std::string(uri), *std::move(directory));
}

}  // namespace argosy
