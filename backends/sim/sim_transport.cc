// SPDX-License-Identifier: Apache-2.0
#include "backends/sim/sim_transport.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "sim/control.h"
#include "sim/control_client.h"
#include "transport/error.h"
#include "transport/packet/limits.h"
#include "transport/packet/wire.h"

namespace argosy {
namespace {

using sim::ControlClient;
using sim::control::Kind;
using sim::control::Request;

constexpr absl::string_view kGone =
    "the carrier is gone: argosy-sim stopped, or the domain was killed";

struct Pair {
  UniqueFd ours, theirs;
};

absl::StatusOr<Pair> MakePair(int type) {
  int fds[2];
  if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds) != 0)
    return SystemError(errno, "cannot make a socket");
  Pair pair{UniqueFd(fds[0]), UniqueFd(fds[1])};
  if (type == SOCK_SEQPACKET) {
    setsockopt(pair.ours.get(), SOL_SOCKET, SO_SNDBUF, &sim::control::kMessageSendBuffer,
               sizeof(int));
  }
  return pair;
}

uint16_t WireType(SocketType type) {
  return type == SocketType::kStream ? VSOCK_TYPE_STREAM : VSOCK_TYPE_SEQPACKET;
}

int UnixType(SocketType type) { return type == SocketType::kStream ? SOCK_STREAM : SOCK_SEQPACKET; }

// The daemon knows how a connection ended.
class SimEnding : public Socket::Ending {
 public:
  SimEnding(std::shared_ptr<ControlClient> control, uint32_t id)
      : control_(std::move(control)), id_(id) {}
  ~SimEnding() override { control_->Forget(id_); }
  absl::Status Wait(int, absl::Time deadline) override {
    Request request;
    request.kind = Kind::kFinish;
    request.id = id_;
    sim::control::Answer answer;
    return control_->Ask(request, deadline, &answer);
  }

 private:
  const std::shared_ptr<ControlClient> control_;
  const uint32_t id_;
};

class SimConnecting : public Connecting {
 public:
  SimConnecting(std::shared_ptr<ControlClient> control, uint32_t id, UniqueFd fd,
                uint32_t local_cid, Address peer, SocketType type)
      : control_(std::move(control)),
        id_(id),
        fd_(std::move(fd)),
        local_cid_(local_cid),
        peer_(peer),
        type_(type) {}

  ~SimConnecting() override {
    if (fd_.valid()) control_->Forget(id_);  // given up, or failed
  }

  int fd() const override { return fd_.get(); }
  short events() const override { return POLLIN; }

  absl::StatusOr<Socket> Complete() override {
    sim::control::ConnectResult result;
    const ssize_t n = recv(fd_.get(), &result, sizeof(result), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
      return ErrnoError(EAGAIN, "not connected yet");
    if (n != sizeof(result)) return ErrnoError(ENETRESET, kGone);
    if (result.error != 0) {
      return ErrnoError(result.error,
                        absl::StrCat(ToString(peer_), ": ", sim::control::GetText(result.message)));
    }
    return Socket(std::move(fd_), {local_cid_, result.local_port}, peer_, type_,
                  std::make_unique<SimEnding>(control_, id_));
  }

 private:
  const std::shared_ptr<ControlClient> control_;
  const uint32_t id_;
  UniqueFd fd_;
  const uint32_t local_cid_;
  const Address peer_;
  const SocketType type_;
};

// Waits until `deadline` for a record on a channel.  As poll().
int AwaitRecord(int channel, absl::Time deadline) {
  for (;;) {
    pollfd p = {channel, POLLIN, 0};
    const int64_t ms = absl::ToInt64Milliseconds(deadline - absl::Now());
    const int ready = poll(&p, 1, static_cast<int>(std::max<int64_t>(ms, 0)));
    if (ready >= 0 || errno != EINTR) return ready;
  }
}

// The daemon's answer to a request for a listener or a datagram socket: its port.
absl::StatusOr<uint32_t> AwaitPort(int channel) {
  if (AwaitRecord(channel, absl::Now() + absl::Seconds(10)) == 0) {
    return ErrnoError(ETIMEDOUT, "argosy-sim does not answer");
  }
  sim::control::ListenResult result;
  if (recv(channel, &result, sizeof(result), MSG_DONTWAIT) != sizeof(result)) {
    return ErrnoError(ENETRESET, kGone);
  }
  if (result.error != 0) {
    return ErrnoError(result.error, sim::control::GetText(result.message));
  }
  return result.port;
}

// Gives a listener's or datagram socket's port back: when this returns it is free, as after close()
// of a kernel socket.
void CloseChannel(int channel) {
  shutdown(channel, SHUT_WR);
  // The daemon closes its end behind what it has sent.
  const absl::Time deadline = absl::Now() + absl::Seconds(1);
  char record[256];
  while (AwaitRecord(channel, deadline) == 1 &&
         recv(channel, record, sizeof(record), MSG_DONTWAIT) > 0) {
  }
}

class SimListener : public Listener {
 public:
  SimListener(std::shared_ptr<ControlClient> control, UniqueFd channel, Address local,
              SocketType type)
      : control_(std::move(control)), channel_(std::move(channel)), local_(local), type_(type) {}
  ~SimListener() override { CloseChannel(channel_.get()); }

  int fd() const override { return channel_.get(); }
  Address local() const override { return local_; }

  absl::StatusOr<Socket> Accept() override {
    sim::control::Incoming incoming;
    auto* const bytes = reinterpret_cast<uint8_t*>(&incoming);
    UniqueFd fd;
    bool truncated;
    const ssize_t n = sim::control::ReceiveRecord(
        channel_.get(), absl::MakeSpan(bytes, sizeof(incoming)), &fd, &truncated);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
      return ErrnoError(EAGAIN, "no connection waits");
    }
    if (n != sizeof(incoming) || (!fd.valid() && !truncated)) return ErrnoError(ENETRESET, kGone);
    // Also for one that was lost, or no other would come.
    const sim::control::AcceptAck ack = {incoming.id};
    if (send(channel_.get(), &ack, sizeof(ack), MSG_NOSIGNAL) != sizeof(ack)) {
      return ErrnoError(ENETRESET, kGone);
    }
    if (!fd.valid()) return ErrnoError(EMFILE, "out of file descriptors: a connection was lost");
    if (type_ == SocketType::kSeqpacket) {
      setsockopt(fd.get(), SOL_SOCKET, SO_SNDBUF, &sim::control::kMessageSendBuffer, sizeof(int));
    }
    return Socket(std::move(fd), local_, {incoming.peer_cid, incoming.peer_port}, type_,
                  std::make_unique<SimEnding>(control_, incoming.id));
  }

 private:
  const std::shared_ptr<ControlClient> control_;
  const UniqueFd channel_;
  const Address local_;
  const SocketType type_;
};

class SimDatagram : public DatagramSocket {
 public:
  SimDatagram(std::shared_ptr<ControlClient> control, UniqueFd channel, Address local)
      : control_(std::move(control)), channel_(std::move(channel)), local_(local) {}
  ~SimDatagram() override { CloseChannel(channel_.get()); }

  int fd() const override { return channel_.get(); }
  Address local() const override { return local_; }

  absl::Status SendTo(absl::Span<const uint8_t> bytes, Address to) override {
    if (bytes.size() > packet::kMaxDatagram) {
      return ErrnoError(EMSGSIZE,
                        absl::StrCat("a datagram has at most ", packet::kMaxDatagram, " bytes"));
    }
    const sim::control::DatagramHeader header = {to.cid, to.port};
    iovec iov[2] = {{const_cast<sim::control::DatagramHeader*>(&header), sizeof(header)},
                    {const_cast<uint8_t*>(bytes.data()), bytes.size()}};
    msghdr message = {};
    message.msg_iov = iov;
    message.msg_iovlen = 2;
    if (sendmsg(channel_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
      return absl::OkStatus();
    if (errno == EAGAIN || errno == EINTR) return ErrnoError(EAGAIN, "the carrier has no room now");
    return ErrnoError(ENETRESET, kGone);
  }

  absl::StatusOr<Datagram> ReceiveFrom(absl::Span<uint8_t> buffer) override {
    sim::control::DatagramHeader header;
    iovec iov[2] = {{&header, sizeof(header)}, {buffer.data(), buffer.size()}};
    msghdr message = {};
    message.msg_iov = iov;
    message.msg_iovlen = 2;
    const ssize_t n = recvmsg(channel_.get(), &message, MSG_DONTWAIT | MSG_TRUNC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
      return ErrnoError(EAGAIN, "no datagram waits");
    if (n < static_cast<ssize_t>(sizeof(header))) return ErrnoError(ENETRESET, kGone);
    return Datagram{static_cast<size_t>(n) - sizeof(header), {header.cid, header.port}};
  }

 private:
  const std::shared_ptr<ControlClient> control_;
  const UniqueFd channel_;
  const Address local_;
};

class SimTransport : public Transport {
 public:
  SimTransport(std::string uri, std::shared_ptr<ControlClient> control)
      : uri_(std::move(uri)), control_(std::move(control)) {}

  std::string uri() const override { return uri_; }

  Capabilities capabilities() const override {
    Capabilities c;
    c.seqpacket = true;
    c.datagram = true;
    c.reports_lost_data = true;
    c.knows_cids = true;
    c.reaches_itself = true;
    c.knows_both_addresses = true;
    c.too_large_is_emsgsize = true;
    c.raises_sigpipe = true;
    c.lingers_for_unsent_only = true;
    c.peeks_messages = true;
    c.bad_buffer_is_efault = true;
    c.refuses_whole_messages = true;
    c.counts_unread = true;
    c.counts_unsent = true;
    c.max_message = packet::kDefaultBufAlloc;
    c.max_datagram = packet::kMaxDatagram;
    c.argo_cid_offset = kArgoCidOffset;
    return c;
  }

  absl::StatusOr<uint32_t> LocalCid() override { return control_->cid(); }

  absl::StatusOr<uint32_t> Resolve(absl::string_view name) override {
    if (absl::StatusOr<uint32_t> cid = ParseCid(name); cid.ok()) return cid;
    if (name.empty() || name.size() >= sim::control::kNameSize) {
      return ErrnoError(ENODEV, absl::StrCat("'", name, "' is no name of a domain"));
    }
    Request request;
    request.kind = Kind::kResolve;
    request.id = control_->NewId();
    sim::control::SetText(request.name, name);
    sim::control::Answer answer;
    if (absl::Status s = control_->Ask(request, absl::Now() + absl::Seconds(10), &answer); !s.ok())
      return s;
    return answer.cid;
  }

  absl::StatusOr<std::unique_ptr<Connecting>> Connect(Address peer, SocketType type,
                                                      const ConnectOptions& options) override {
    absl::StatusOr<Pair> pair = MakePair(UnixType(type));
    if (!pair.ok()) return pair.status();
    Request request;
    request.kind = Kind::kConnect;
    request.id = control_->NewId();
    request.cid = peer.cid;
    request.port = peer.port;
    request.local_port = options.local_port;
    request.timeout_ms = static_cast<uint32_t>(
        std::clamp<int64_t>(absl::ToInt64Milliseconds(options.timeout), 1, 24 * 3600 * 1000));
    request.type = WireType(type);
    if (absl::Status s = control_->Send(request, pair->theirs.get()); !s.ok()) return s;
    return std::make_unique<SimConnecting>(control_, request.id, std::move(pair->ours),
                                           control_->cid(), peer, type);
  }

  absl::StatusOr<std::unique_ptr<Listener>> Listen(uint32_t port, SocketType type,
                                                   const ListenOptions& options) override {
    Request request;
    request.kind = Kind::kListen;
    request.type = WireType(type);
    request.backlog = options.backlog;
    UniqueFd channel;
    absl::StatusOr<Address> local = Bind(request, port, &channel);
    if (!local.ok()) return local.status();
    return std::make_unique<SimListener>(control_, std::move(channel), *local, type);
  }

  absl::StatusOr<std::unique_ptr<DatagramSocket>> BindDatagram(uint32_t port) override {
    Request request;
    request.kind = Kind::kBindDatagram;
    UniqueFd channel;
    absl::StatusOr<Address> local = Bind(request, port, &channel);
    if (!local.ok()) return local.status();
    return std::make_unique<SimDatagram>(control_, std::move(channel), *local);
  }

 private:
  absl::StatusOr<Address> Bind(Request& request, uint32_t port, UniqueFd* channel) {
    absl::StatusOr<Pair> pair = MakePair(SOCK_SEQPACKET);
    if (!pair.ok()) return pair.status();
    request.id = control_->NewId();
    request.port = port;
    if (absl::Status s = control_->Send(request, pair->theirs.get()); !s.ok()) return s;
    pair->theirs.reset();  // so that the daemon's death shows as end-of-file
    absl::StatusOr<uint32_t> got = AwaitPort(pair->ours.get());
    if (!got.ok()) return Annotate(got.status(), absl::StrCat("port ", port));
    *channel = std::move(pair->ours);
    return Address{control_->cid(), *got};
  }

  const std::string uri_;
  const std::shared_ptr<ControlClient> control_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Transport>> OpenSim(absl::string_view uri) {
  absl::string_view rest = uri;
  constexpr absl::string_view kDomain = "?domain=";
  const size_t query = rest.find('?');
  if (!absl::ConsumePrefix(&rest, "sim:") || query == absl::string_view::npos ||
      !absl::StartsWith(uri.substr(query), kDomain) || query + kDomain.size() == uri.size()) {
    return ErrnoError(
        EINVAL, absl::StrCat("'", uri,
                             "' is no URI of a simulated domain: expected sim:SOCKET?domain=NAME, ",
                             "such as sim:/run/argosy/sim.sock?domain=dom1"));
  }
  const std::string path(uri.substr(4, query - 4));
  auto control = ControlClient::Open(path, uri.substr(query + kDomain.size()));
  if (!control.ok()) return control.status();
  return std::make_unique<SimTransport>(std::string(uri), *std::move(control));
}

}  // namespace argosy
