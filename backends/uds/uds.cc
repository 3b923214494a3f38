// SPDX-License-Identifier: Apache-2.0
#include "backends/uds/uds.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <random>
#include <string>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "transport/error.h"
#include "transport/packet/limits.h"
#include "transport/unix_ending.h"
#include "transport/unix_listener.h"
#include "transport/unix_socket.h"

namespace argosy {
namespace {

constexpr uint32_t kFirstGuestCid = 3;
constexpr uint32_t kFirstFreePort = 1024;
constexpr int kPortAttempts = 64;

// "OK 4294967295\n" has 14.
constexpr size_t kMaxAnswer = 64;

// Between two attempts at a socket with a full backlog: no event tells of room in it.
constexpr std::chrono::milliseconds kRetryAfter(10);

// The kernel refuses messages above sk_sndbuf - 32, and sk_sndbuf is twice what SO_SNDBUF is set
// to.
constexpr size_t kMaxMessage = packet::kDefaultBufAlloc;  // a Linux guest takes no larger ones
constexpr int kSendBuffer = (kMaxMessage + 32) / 2;

using Clock = std::chrono::steady_clock;  // CLOCK_MONOTONIC, as the timer

int TypeOf(SocketType type) { return type == SocketType::kStream ? SOCK_STREAM : SOCK_SEQPACKET; }

std::string SeqpacketPath(const std::string& path) { return path + "_seqpacket"; }

bool IsThere(const std::string& path) {
  struct stat st;
  return stat(path.c_str(), &st) == 0;
}

// What a connected descriptor is to the program: of the promised message size.
absl::Status Prepare(int fd, SocketType type) {
  if (type == SocketType::kSeqpacket &&
      setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &kSendBuffer, sizeof(kSendBuffer)) != 0) {
    return SystemError(errno, "SO_SNDBUF");
  }
  return absl::OkStatus();
}

absl::Status NoSeqpacket(const std::string& path) {
  return ErrnoError(ESOCKTNOSUPPORT,
                    absl::StrCat("the device that serves ", path,
                                 " has no SEQPACKET sockets: there is no ", SeqpacketPath(path)));
}

// Connecting in two steps: connect() to the device's socket, again and again while its backlog is
// full; then the line has been sent, and the answer comes, maybe in parts.  The descriptor that
// waits holds the socket and a timer.
class UdsConnecting : public Connecting {
 public:
  // `path` is the transport's, whatever the type.
  static absl::StatusOr<std::unique_ptr<Connecting>> Start(const std::string& path, Address peer,
                                                           SocketType type,
                                                           absl::Duration timeout) {
    const absl::StatusOr<sockaddr_un> address =
        UnixAddress(type == SocketType::kStream ? path : SeqpacketPath(path));
    if (!address.ok()) return address.status();
    UniqueFd fd(socket(AF_UNIX, TypeOf(type) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd.valid()) return SystemError(errno, "socket");
    UniqueFd timer(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    if (!timer.valid()) return SystemError(errno, "timerfd_create");
    UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
    if (!epoll.valid()) return SystemError(errno, "epoll_create1");
    auto connecting = absl::WrapUnique(new UdsConnecting(
        path, *address, peer, type, timeout, std::move(fd), std::move(timer), std::move(epoll)));
    if (absl::Status s = connecting->Watch(connecting->timer_.get()); !s.ok()) return s;
    const absl::Status knocked = connecting->Knock();
    if (!knocked.ok() && ErrnoOf(knocked) != EAGAIN) return knocked;
    return connecting;
  }

  int fd() const override { return epoll_.get(); }
  short events() const override { return POLLIN; }

  absl::StatusOr<Socket> Complete() override {
    absl::Status status = connected_ ? absl::OkStatus() : Knock();
    if (status.ok()) status = ReadAnswer();
    if (ErrnoOf(status) == EAGAIN && Clock::now() >= deadline_) {
      return ErrnoError(ETIMEDOUT, absl::StrCat(Where(), ": no answer"));
    }
    if (!status.ok()) return status;
    if (fcntl(fd_.get(), F_SETFL, 0) != 0) return SystemError(errno, "fcntl");
    return Socket(std::move(fd_), {kCidHost, kPortAny}, peer_, type_,
                  std::make_unique<UnixEnding>());
  }

 private:
  UdsConnecting(const std::string& path, const sockaddr_un& address, Address peer, SocketType type,
                absl::Duration timeout, UniqueFd fd, UniqueFd timer, UniqueFd epoll)
      : path_(path),
        address_(address),
        peer_(peer),
        type_(type),
        deadline_(Clock::now() + absl::ToChronoMilliseconds(
                                     std::clamp(timeout, absl::Milliseconds(1), absl::Hours(24)))),
        fd_(std::move(fd)),
        timer_(std::move(timer)),
        epoll_(std::move(epoll)) {}

  std::string Where() const { return absl::StrCat("port ", peer_.port, " behind ", path_); }

  absl::Status Watch(int fd) {
    epoll_event event = {};
    event.events = EPOLLIN;
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
      return SystemError(errno, "epoll_ctl");
    }
    return absl::OkStatus();
  }

  absl::Status WakeAt(Clock::time_point time) {
    const absl::Duration since_start = absl::FromChrono(time.time_since_epoch());
    const itimerspec at = {{}, absl::ToTimespec(since_start)};
    if (timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &at, nullptr) != 0) {
      return SystemError(errno, "timerfd_settime");
    }
    return absl::OkStatus();
  }

  // EAGAIN: the backlog is full.
  absl::Status Knock() {
    if (connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address_), sizeof(address_)) != 0) {
      if (errno != EAGAIN) return NotConnected(errno);
      if (absl::Status s = WakeAt(std::min(deadline_, Clock::now() + kRetryAfter)); !s.ok()) {
        return s;
      }
      return ErrnoError(EAGAIN, "the device's backlog is full");
    }
    connected_ = true;
    if (absl::Status s = Prepare(fd_.get(), type_); !s.ok()) return s;
    if (absl::Status s = Watch(fd_.get()); !s.ok()) return s;
    if (absl::Status s = WakeAt(deadline_); !s.ok()) return s;
    // A socket that has just connected has room for it.
    const std::string line = absl::StrCat("CONNECT ", peer_.port, "\n");
    if (send(fd_.get(), line.data(), line.size(), MSG_NOSIGNAL) < 0) return Refused(errno);
    return absl::OkStatus();
  }

  absl::Status NotConnected(int error) const {
    switch (error) {
      case ENOENT:
        if (type_ == SocketType::kSeqpacket && IsThere(path_)) return NoSeqpacket(path_);
        return ErrnoError(ENODEV, absl::StrCat("there is no ", path_,
                                               ": is the machine's vsock device running?"));
      case ECONNREFUSED:
        return ErrnoError(ENODEV, absl::StrCat("nobody serves ", address_.sun_path,
                                               ": the machine's vsock device has ended, or it is "
                                               "no socket"));
      default:
        return SystemError(error, absl::StrCat("connect to ", address_.sun_path));
    }
  }

  // EAGAIN: it has not come to its end.  Takes no byte behind it: those are the program's.
  absl::Status ReadAnswer() {
    for (;;) {
      char bytes[kMaxAnswer];
      const ssize_t n = recv(fd_.get(), bytes, sizeof(bytes), MSG_PEEK);
      if (n < 0 && errno == EAGAIN) return ErrnoError(EAGAIN, "no answer yet");
      if (n <= 0) return Refused(n < 0 ? errno : 0);
      const absl::string_view seen(bytes, static_cast<size_t>(n));
      const size_t newline = seen.find('\n');
      const size_t wanted = newline == absl::string_view::npos ? seen.size() : newline + 1;
      // A part is taken at once, so that it does not wake the program again and again.
      const ssize_t got = recv(fd_.get(), bytes, wanted, 0);
      if (got <= 0) return Refused(got < 0 ? errno : 0);
      answer_.append(bytes, static_cast<size_t>(got));
      const bool whole = absl::EndsWith(answer_, "\n");
      // Which port it names differs between devices.  A message ends with its line.
      const bool good = type_ == SocketType::kStream || (whole && wanted == seen.size());
      if (whole && good && absl::StartsWith(answer_, "OK ")) return absl::OkStatus();
      if (whole || !good || answer_.size() >= kMaxAnswer) {
        return ErrnoError(EPROTO, absl::StrCat(path_, " does not answer as a vsock device: it is ",
                                               "some other program's socket"));
      }
    }
  }

  // `error`: 0 for end-of-file.
  absl::Status Refused(int error) const {
    if (error != 0 && error != ECONNRESET && error != EPIPE) return SystemError(error, path_);
    return ErrnoError(ECONNRESET,
                      absl::StrCat(Where(), ": nobody listens there, or the guest is not up"));
  }

  const std::string path_;
  const sockaddr_un address_;
  const Address peer_;
  const SocketType type_;
  const Clock::time_point deadline_;
  UniqueFd fd_;
  UniqueFd timer_;
  UniqueFd epoll_;
  bool connected_ = false;  // and the line is sent
  std::string answer_;      // what has come of it
};

class UdsListener : public Listener {
 public:
  UdsListener(UnixListener listener, uint32_t port, SocketType type)
      : listener_(std::move(listener)), port_(port), type_(type) {}
  int fd() const override { return listener_.fd(); }
  Address local() const override { return {kCidHost, port_}; }

  absl::StatusOr<Socket> Accept() override {
    for (;;) {
      UniqueFd fd(accept4(listener_.fd(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!fd.valid()) {
        if (errno == EINTR || errno == ECONNABORTED) continue;
        return SystemError(errno, "accept");
      }
      if (absl::Status s = Prepare(fd.get(), type_); !s.ok()) return s;
      return Socket(std::move(fd), local(), {kCidAny, kPortAny}, type_,
                    std::make_unique<UnixEnding>());
    }
  }

 private:
  UnixListener listener_;
  const uint32_t port_;
  const SocketType type_;
};

class UdsTransport : public Transport {
 public:
  UdsTransport(std::string uri, std::string path) : uri_(std::move(uri)), path_(std::move(path)) {}

  std::string uri() const override { return uri_; }

  Capabilities capabilities() const override {
    Capabilities c;
    c.seqpacket = IsThere(SeqpacketPath(path_));
    c.one_machine = true;
    c.too_large_is_emsgsize = c.seqpacket;
    c.raises_sigpipe = true;
    c.lingers_for_unsent_only = true;
    c.peeks_messages = c.seqpacket;
    c.bad_buffer_is_efault = true;
    c.refuses_whole_messages = c.seqpacket;
    c.counts_unread = true;
    c.counts_unsent = true;
    c.max_message = c.seqpacket ? kMaxMessage : 0;
    return c;
  }

  absl::StatusOr<uint32_t> LocalCid() override { return kCidHost; }

  absl::StatusOr<uint32_t> Resolve(absl::string_view name) override {
    absl::StatusOr<uint32_t> cid = ParseCid(name);
    if (cid.ok()) return cid;
    return ErrnoError(ENODEV, absl::StrCat("no machine named '", name, "': ", uri_,
                                           " leads to one guest, which has no name here"));
  }

  absl::StatusOr<std::unique_ptr<Connecting>> Connect(Address peer, SocketType type,
                                                      const ConnectOptions& options) override {
    if (peer.cid < kFirstGuestCid) {
      return ErrnoError(
          ENODEV, absl::StrCat("CID ", peer.cid, " is not the guest's: ", uri_,
                               " leads to the guest alone, at any CID from ", kFirstGuestCid));
    }
    if (options.local_port != kPortAny) {
      return ErrnoError(EADDRNOTAVAIL,
                        absl::StrCat("a connection cannot come from port ", options.local_port,
                                     ": the device chooses the host's port"));
    }
    return UdsConnecting::Start(path_, peer, type, options.timeout);
  }

  absl::StatusOr<std::unique_ptr<Listener>> Listen(uint32_t port, SocketType type,
                                                   const ListenOptions& options) override {
    if (type == SocketType::kSeqpacket && !IsThere(SeqpacketPath(path_))) return NoSeqpacket(path_);
    std::random_device random;
    for (int attempt = 0; attempt < kPortAttempts; ++attempt) {
      const uint32_t candidate = port != kPortAny ? port
                                                  : std::uniform_int_distribution<uint32_t>(
                                                        kFirstFreePort, kPortAny - 1)(random);
      absl::StatusOr<UnixListener> at = UnixListener::Create(
          absl::StrCat(path_, "_", candidate), TypeOf(type), UnixListener::Folder::kExpect);
      const int error = ErrnoOf(at.status());
      // EEXIST: there is a file which is no socket.
      const bool taken = error == EADDRINUSE || error == EEXIST;
      if (taken && port == kPortAny) continue;
      if (taken) {
        return ErrnoError(EADDRINUSE,
                          absl::StrCat("port ", port, " is taken: ", at.status().message()));
      }
      if (!at.ok()) return at.status();
      if (listen(at->fd(), std::clamp(options.backlog, 1, 4096)) != 0) {
        return SystemError(errno, "listen");
      }
      return absl::make_unique<UdsListener>(*std::move(at), candidate, type);
    }
    return ErrnoError(EADDRNOTAVAIL, "no free port found");
  }

  absl::StatusOr<std::unique_ptr<DatagramSocket>> BindDatagram(uint32_t) override {
    return ErrnoError(ESOCKTNOSUPPORT,
                      absl::StrCat(uri_, " has no datagrams; use a stream or SEQPACKET"));
  }

 private:
  const std::string uri_;
  const std::string path_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Transport>> OpenUds(absl::string_view uri) {
  absl::string_view path = uri;
  if (!absl::ConsumePrefix(&path, "uds:") || path.empty()) {
    return ErrnoError(EINVAL, absl::StrCat("'", uri, "' is not of the form uds:PATH, such as ",
                                           "uds:/run/vm4.vsock"));
  }
  const absl::StatusOr<sockaddr_un> address = UnixAddress(std::string(path));
  if (!address.ok()) return Annotate(address.status(), "uds:");
  return absl::make_unique<UdsTransport>(std::string(uri), std::string(path));
}

}  // namespace argosy
