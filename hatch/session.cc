// SPDX-License-Identifier: Apache-2.0
#include "hatch/session.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "hatch/wait.h"
#include "transport/error.h"

namespace argosy::hatch {
namespace {

// Finish() cannot be woken by a signal, so it is asked again and again.
constexpr absl::Duration kFinishSlice = absl::Milliseconds(200);

constexpr uint32_t kFirstFreePort = 1024;

absl::Status ExplainConnect(const absl::Status& status, const Transport& transport,
                            const Address& peer) {
  switch (ErrnoOf(status)) {
    case EINTR:
      return status;
    case ECONNRESET:
      // A device between the host and its guest gives no reason.
      if (transport.capabilities().one_machine) {
        return ErrnoError(ECONNRESET,
                          absl::StrCat("nobody listens at ", Describe(peer),
                                       " for this type of socket, its backlog is full, the guest "
                                       "is not up, or a rule of its device refuses: start the "
                                       "listening side first"));
      }
      return ErrnoError(ECONNRESET,
                        absl::StrCat("nobody listens at ", Describe(peer),
                                     " for this type of socket, or its backlog is full: start the "
                                     "listening side first"));
    case ETIMEDOUT:
      return ErrnoError(ETIMEDOUT,
                        absl::StrCat("no answer from ", Describe(peer),
                                     ": is that machine up and its vsock driver loaded?"));
    default:
      return Annotate(status, absl::StrCat("cannot connect to ", Describe(peer)));
  }
}

absl::Status ExplainBind(const absl::Status& status, uint32_t port) {
  const std::string what = absl::StrCat("cannot listen on port ", port);
  switch (ErrnoOf(status)) {
    case EADDRINUSE:
      return ErrnoError(EADDRINUSE, absl::StrCat(what, ": another program listens there"));
    case EACCES:
      if (port >= kFirstFreePort) break;
      return ErrnoError(EACCES, absl::StrCat(what, ": ports below ", kFirstFreePort,
                                             " need privilege, choose a higher one"));
    default:
      break;
  }
  return Annotate(status, what);
}

}  // namespace

void Say(absl::string_view line) {
  const std::string text = absl::StrCat("hatch: ", line, "\n");
  // One write, so that lines of several processes do not mix; nowhere to complain if it fails.
  if (write(STDERR_FILENO, text.data(), text.size()) < 0) return;
}

absl::Status ConfigurationError(absl::string_view message) { return ErrnoError(EINVAL, message); }

int ExitCode(const absl::Status& status) {
  if (status.ok()) return 0;
  return ErrnoOf(status) == EINVAL ? 2 : 1;
}

std::string Describe(const Address& address) {
  // What the transport does not know (Capabilities::one_machine, knows_both_addresses).
  if (address.port == kPortAny) return "the other machine";
  if (address.cid == kCidAny) return absl::StrCat("port ", address.port);
  return absl::StrCat("CID ", address.cid, " port ", address.port);
}

absl::Status WithPeer(const absl::Status& failure, const Address& peer) {
  const bool says_it = failure.ok() || ErrnoOf(failure) == EINTR || ErrnoOf(failure) == ENETRESET;
  return says_it ? failure : Annotate(failure, Describe(peer));
}

absl::Status SetNonBlocking(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) return SystemError(errno, "fcntl");
  return absl::OkStatus();
}

void Session::Note(absl::string_view line) const {
  if (options.verbose) Say(line);
}

absl::StatusOr<Address> Session::Peer() const {
  if (options.cid.empty()) {
    if (transport.capabilities().one_machine) return Address{kCidAny, options.port};
    return ConfigurationError(absl::StrCat("a CID and a port are needed over ", transport.uri(),
                                           " (see 'hatch --help')"));
  }
  Address peer{kCidHost, options.port};
  // CID 0 is reserved; `hatch 0 PORT` has always meant dom0.
  if (options.cid != "0") {
    absl::StatusOr<uint32_t> cid = transport.Resolve(options.cid);
    if (!cid.ok()) {
      return ErrnoOf(cid.status()) == ENODEV
                 ? ErrnoError(ENODEV, absl::StrCat("'", options.cid, "' is not known to ",
                                                   transport.uri(), ": check the name"))
                 : cid.status();
    }
    peer.cid = *cid;
  }
  const std::optional<uint32_t> offset = transport.capabilities().argo_cid_offset;
  if (offset.has_value() && peer.cid >= *offset && (options.verbose || isatty(STDERR_FILENO))) {
    Say(absl::StrCat("CID ", peer.cid, " = dom", peer.cid - *offset));
  }
  return peer;
}

absl::StatusOr<Socket> Session::Connect(SocketType type) const {
  absl::StatusOr<Address> peer = Peer();
  if (!peer.ok()) return peer.status();
  ConnectOptions how;
  how.local_port = options.local_port;
  if (options.wait != absl::ZeroDuration()) how.timeout = options.wait;
  absl::StatusOr<std::unique_ptr<Connecting>> connecting = transport.Connect(*peer, type, how);
  if (!connecting.ok()) return ExplainConnect(connecting.status(), transport, *peer);
  for (;;) {
    absl::StatusOr<Socket> socket = (*connecting)->Complete();
    if (socket.ok()) {
      Note(absl::StrCat("connected to ", Describe(*peer)));
      return socket;
    }
    if (ErrnoOf(socket.status()) != EAGAIN) {
      return ExplainConnect(socket.status(), transport, *peer);
    }
    pollfd ready = {(*connecting)->fd(), (*connecting)->events(), 0};
    if (absl::Status s = PollOrStop({&ready, 1}, absl::InfiniteFuture()); !s.ok()) return s;
  }
}

absl::StatusOr<std::unique_ptr<Listener>> Session::Listen(SocketType type) const {
  absl::StatusOr<std::unique_ptr<Listener>> listener = transport.Listen(options.port, type, {});
  if (!listener.ok()) return ExplainBind(listener.status(), options.port);
  Note(absl::StrCat("listening on ", (*listener)->local().port));
  return listener;
}

absl::StatusOr<Socket> Session::Accept(Listener& listener) const {
  for (;;) {
    absl::StatusOr<Socket> socket = listener.Accept();
    if (socket.ok()) {
      Note(absl::StrCat("connection from ", Describe(socket->peer())));
      return socket;
    }
    if (ErrnoOf(socket.status()) != EAGAIN) return Annotate(socket.status(), "cannot accept");
    pollfd ready = {listener.fd(), POLLIN, 0};
    if (absl::Status s = PollOrStop({&ready, 1}, absl::InfiniteFuture()); !s.ok()) return s;
  }
}

absl::StatusOr<std::unique_ptr<DatagramSocket>> Session::Bind(uint32_t port) const {
  absl::StatusOr<std::unique_ptr<DatagramSocket>> socket = transport.BindDatagram(port);
  if (!socket.ok()) return ExplainBind(socket.status(), port);
  return socket;
}

absl::Status Session::Finish(Socket& socket, absl::Time deadline) const {
  for (;;) {
    const absl::Time until = std::min(deadline, absl::Now() + kFinishSlice);
    const absl::Status how = socket.Finish(until);
    const std::string peer = Describe(socket.peer());
    switch (ErrnoOf(how)) {
      case 0:
        return how;
      case ETIMEDOUT:
        if (Stopped()) return StoppedError();
        if (until == deadline)
          return ErrnoError(ETIMEDOUT, absl::StrCat(peer, " did not close in time"));
        continue;
      case ECONNRESET:
        return ErrnoError(
            ECONNRESET,
            absl::StrCat(peer, " reset the connection: what was sent last may be lost"));
      case ENETRESET:
        return ErrnoError(ENETRESET,
                          absl::StrCat("the connection to ", peer,
                                       " is lost: this side's domain, device or daemon is gone"));
      default:
        return Annotate(how, peer);
    }
  }
}

absl::Status Session::WithReason(Socket& socket, absl::Status failure) const {
  if (ErrnoOf(failure) == EINTR) return failure;
  const absl::Status how = Finish(socket, absl::Now() + kReasonWait);
  return ErrnoOf(how) == ENETRESET ? how : failure;
}

absl::Status Session::Failed(Socket& socket, absl::Status failure) const {
  return WithPeer(WithReason(socket, std::move(failure)), socket.peer());
}

}  // namespace argosy::hatch
