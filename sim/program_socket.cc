// SPDX-License-Identifier: Apache-2.0
#include "sim/program_socket.h"

#include <linux/sockios.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "transport/error.h"

namespace argosy::sim {

using packet::Connection;
using packet::End;
using packet::Payload;

namespace {

// Moved for one socket in one turn, then the others have theirs.
constexpr size_t kTurnBytes = 256 * 1024;
// Connections and datagrams likewise.
constexpr int kTurnRecords = 64;

// sendmsg() of the payload's two pieces behind an optional header.
ssize_t SendPieces(int fd, absl::Span<const uint8_t> header, const Payload& payload) {
  iovec iov[3];
  int n = 0;
  for (absl::Span<const uint8_t> piece : {header, payload.first, payload.second}) {
    if (!piece.empty()) iov[n++] = {const_cast<uint8_t*>(piece.data()), piece.size()};
  }
  msghdr message = {};
  message.msg_iov = iov;
  message.msg_iovlen = n;
  return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

template <typename Record>
void SendRecord(int fd, const Record& record) {
  // The first record on a pair that nobody else writes to: there is room, unless the program went
  // away.
  send(fd, &record, sizeof(record), MSG_DONTWAIT | MSG_NOSIGNAL);
}

struct EndText {
  int error;
  const char* text;
};

EndText Describe(End end, bool connected) {
  switch (end) {
    case End::kClean:
      return {0, ""};
    case End::kRefused:
      return {ECONNRESET, "refused: nobody listens there for this type, or the backlog is full"};
    case End::kTimedOut:
      return {ETIMEDOUT, "no answer: the domain is paused, or has no Argosy link yet"};
    case End::kCarrierLost:
      return {ECONNRESET, "the peer's domain was killed or restarted"};
    case End::kLocal:
      return {ECONNRESET, "this side gave the connection up"};
    case End::kReset:
      break;
  }
  return {ECONNRESET, connected ? "reset: the peer gave the connection up, or did not take all data"
                                : "reset by the peer"};
}

}  // namespace

void SendListenResult(int fd, const absl::Status& status, uint32_t port) {
  control::ListenResult result;
  result.error = ErrnoOf(status);
  result.port = port;
  control::SetText(result.message, status.message());
  SendRecord(fd, result);
}

// ---- ProgramSocket ----

absl::Status ProgramSocket::PrepareDescriptor(int fd, uint16_t type) {
  const int want_type = type == VSOCK_TYPE_STREAM ? SOCK_STREAM : SOCK_SEQPACKET;
  int domain = 0, got_type = 0;
  socklen_t size = sizeof(int);
  if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0 || domain != AF_UNIX ||
      getsockopt(fd, SOL_SOCKET, SO_TYPE, &got_type, &size) != 0 || got_type != want_type) {
    return ErrnoError(EINVAL, "the descriptor is no AF_UNIX socket of the right type");
  }
  if (type == VSOCK_TYPE_SEQPACKET) {
    const int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &control::kMessageSendBuffer, sizeof(int));
  }
  return absl::OkStatus();
}

void ProgramSocket::GiveUp() { connection_->Reset(); }

void ProgramSocket::Accepted() {
  listener_ = nullptr;
  domain_.endpoint().Accepted(*connection_);
}

absl::Status ProgramSocket::Attach(UniqueFd fd) {
  fd_ = std::move(fd);
  if (absl::Status s = loop_.Add(fd_.get(), this); !s.ok()) return s;
  connected_ = connection_->state() != Connection::State::kConnecting;
  can_read_ = can_write_ = true;
  connection_->HoldLastByte();
  // What the peer did while the connection waited at its listener.
  if (output_shut_) EndOutput();
  if (input_ended_) shutdown(fd_.get(), SHUT_RD);
  if (connected_) {
    connection_->Drain();
    loop_.Again(this);
  }
  return absl::OkStatus();
}

void ProgramSocket::Refuse(const UniqueFd& fd, int error, absl::string_view message) {
  control::ConnectResult result;
  result.error = error;
  control::SetText(result.message, message);
  SendRecord(fd.get(), result);
}

void ProgramSocket::OnEvents(uint32_t events) {
  if (connection_ == nullptr) return;
  if ((events & (EPOLLHUP | EPOLLERR)) != 0 && !connected_) {
    connection_->Reset();  // the program gave up waiting
    return;
  }
  if ((events & EPOLLOUT) != 0 && !output_shut_) {
    can_write_ = true;
    loop_.WantWrite(this, false);
    connection_->Drain();
    if (connection_ == nullptr) return;
  }
  // Both directions are shut, and not by us: the program closed its descriptor.
  const bool left = (events & EPOLLHUP) != 0 && !output_shut_;
  if (left || output_shut_) ConfirmIfRead();
  if (connection_ != nullptr && (left || lost_unread_)) connection_->StopReading();
  if (connection_ == nullptr) return;
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) {
    can_read_ = true;
    PumpIn();
  }
}

void ProgramSocket::PumpIn() {
  size_t moved = 0;
  while (connection_ != nullptr && connected_ && can_read_ && !input_ended_) {
    if (moved >= kTurnBytes) {
      loop_.Again(this);
      return;
    }
    const ssize_t n = connection_->type() == VSOCK_TYPE_STREAM ? PumpStream() : PumpMessage();
    if (n < 0) return;
    // A message costs at least its overhead, so that empty ones end a turn too.
    moved += n + 64;
  }
}

ssize_t ProgramSocket::PumpStream() {
  const size_t room = connection_->SendCapacity();
  if (room == 0) return -1;  // OnCanSend() follows
  const ssize_t n =
      recv(fd_.get(), domain_.staging(), std::min(room, Domain::kStagingSize), MSG_DONTWAIT);
  if (n < 0) return ReadFailed(errno);
  if (n == 0) {
    EndOfInput();
    return -1;
  }
  connection_->Send(Payload(absl::MakeConstSpan(domain_.staging(), n)));
  return n;
}

ssize_t ProgramSocket::PumpMessage() {
  // Once read, a message must be sent: so one of any size must fit, or the size must be known.
  if (connection_->Credit() < connection_->MaxMessage() ||
      !connection_->CanSendMessage(connection_->MaxMessage())) {
    const ssize_t size = recv(fd_.get(), nullptr, 0, MSG_DONTWAIT | MSG_PEEK | MSG_TRUNC);
    if (size < 0) return ReadFailed(errno);
    if (static_cast<size_t>(size) <= connection_->MaxMessage() &&
        !connection_->CanSendMessage(size))
      return -1;
  }
  iovec iov = {domain_.staging(), Domain::kStagingSize};
  alignas(cmsghdr) char ancillary[CMSG_SPACE(sizeof(ucred))];
  msghdr message = {};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  message.msg_control = ancillary;
  message.msg_controllen = sizeof(ancillary);
  const ssize_t n = recvmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (n < 0) return ReadFailed(errno);
  // With SO_PASSCRED every message names its sender, and end-of-file does not: so an empty message is none.
  if (!control::TakeAncillary(message, nullptr) && n == 0) {
    EndOfInput();
    return -1;
  }
  if ((message.msg_flags & MSG_TRUNC) != 0 || !connection_->CanSendMessage(n)) {
    // Larger than the peer's buffer, or than any message may be if the program raised the limit of its descriptor: too late
    // to refuse it, and a message must not be lost in silence.
    connection_->Reset();
    return -1;
  }
  connection_->SendMessage(Payload(absl::MakeConstSpan(domain_.staging(), n)), false);
  return n;
}

ssize_t ProgramSocket::ReadFailed(int error) {
  if (error == EINTR) return 0;
  if (error == EAGAIN) {
    can_read_ = false;
    return -1;
  }
  if (error == ECONNRESET && !lost_unread_) {
    // The program closed with data unread.  What it wrote before stands behind this error.
    lost_unread_ = true;
    return 0;
  }
  connection_->Reset();
  return -1;
}

void ProgramSocket::EndOfInput() {
  input_ended_ = true;
  // If the program closed its descriptor, the peer's must learn that nobody reads before it sees the
  // end of what it reads; the event that says so may come behind the end.
  pollfd both_ended = {fd_.get(), 0, 0};
  if (!output_shut_ && poll(&both_ended, 1, 0) == 1 && (both_ended.revents & POLLHUP) != 0) {
    ConfirmIfRead();
    if (connection_ != nullptr) connection_->StopReading();
    if (connection_ == nullptr) return;
  }
  if (lost_unread_) {
    connection_->Reset();
  } else {
    connection_->FinishSending();
  }
}

ssize_t ProgramSocket::Write(const Payload& data) {
  if (!can_write_) return -1;
  const ssize_t n = SendPieces(fd_.get(), {}, data);
  if (n < 0 && errno != EAGAIN && errno != EINTR) {
    connection_->StopReading();
    return -1;
  }
  if (n < static_cast<ssize_t>(data.size())) {
    can_write_ = false;
    loop_.WantWrite(this, true);
  }
  return n;
}

void ProgramSocket::OnConnected(Connection& connection) {
  connected_ = true;
  control::ConnectResult result;
  result.local_port = connection.local().port;
  SendRecord(fd_.get(), result);
  loop_.Again(this);  // it may have written already
}

size_t ProgramSocket::OnData(Connection&, const Payload& data) {
  if (!fd_.valid()) return 0;  // it waits at its listener
  return std::max<ssize_t>(Write(data), 0);
}

bool ProgramSocket::OnMessage(Connection&, const Payload& message, bool) {
  return fd_.valid() && Write(message) >= 0;
}

void ProgramSocket::OnCanSend(Connection&) { PumpIn(); }

void ProgramSocket::OnPeerFinished(Connection&) {
  output_shut_ = true;
  if (fd_.valid()) EndOutput();
}

void ProgramSocket::EndOutput() {
  shutdown(fd_.get(), SHUT_WR);
  // From now on each read of the program is an event; the turn looks whether there was none to wait
  // for.
  loop_.WantWrite(this, true);
  loop_.Again(this);
}

// The program has read all if nothing is queued at its end and it did not close with data unread.
// In this order: the kernel sets the error before it empties the queue.  A message being freed may
// count one byte for a moment; one that waits counts hundreds.
void ProgramSocket::ConfirmIfRead() {
  int queued = 0, error = 0;
  socklen_t size = sizeof(error);
  if (ioctl(fd_.get(), SIOCOUTQ, &queued) != 0 || queued >= 256) return;
  if (getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0)
    lost_unread_ = true;
  if (!lost_unread_) connection_->ConfirmTaken();
}

void ProgramSocket::OnTurn() {
  if (connection_ != nullptr && output_shut_) ConfirmIfRead();
  PumpIn();
}

void ProgramSocket::OnPeerStoppedReading(Connection& connection) {
  // The program's writes fail with EPIPE from now on; what it wrote and nobody will read is
  // dropped.
  input_ended_ = true;
  if (fd_.valid()) shutdown(fd_.get(), SHUT_RD);
  connection.FinishSending();
}

void ProgramSocket::OnEnded(Connection&, End end) {
  connection_ = nullptr;
  const EndText text = Describe(end, connected_);
  if (!connected_ && fd_.valid()) Refuse(fd_, text.error, text.text);
  if (listener_ != nullptr) listener_->Forget(this);
  owner_.SocketEnded(this, text.error, text.text);
}

// ---- ProgramListener ----

absl::Status ProgramListener::Start(uint32_t port, int backlog) {
  absl::StatusOr<uint32_t> got = domain_.endpoint().Listen(port, type_, backlog, this);
  absl::Status status = got.status();
  if (status.ok()) {
    port_ = *got;
    status = loop_.Add(channel_.get(), this);
    if (!status.ok()) domain_.endpoint().StopListening(port_);
  }
  SendListenResult(channel_.get(), status, port_);
  return status;
}

packet::ConnectionUser* ProgramListener::OnIncoming(Connection& connection) {
  ProgramSocket* socket = owner_.SocketArrived(this, connection);
  socket->set_listener(this);
  waiting_.push_back(socket);
  HandOver();
  return socket;
}

void ProgramListener::Forget(ProgramSocket* socket) {
  if (handed_over_ == socket) handed_over_ = nullptr;
  waiting_.erase(std::remove(waiting_.begin(), waiting_.end(), socket), waiting_.end());
}

// One at a time: descriptors under way count against limits of the whole user, and the backlog is
// the endpoint's.
void ProgramListener::HandOver() {
  if (ack_expected_ || waiting_.empty()) return;
  ProgramSocket* socket = waiting_.front();
  waiting_.pop_front();
  const int type = type_ == VSOCK_TYPE_STREAM ? SOCK_STREAM : SOCK_SEQPACKET;
  int pair[2];
  if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair) != 0) {
    socket->GiveUp();  // out of descriptors: better reset than left to wait for ever
    return;
  }
  UniqueFd ours(pair[0]), theirs(pair[1]);
  const Connection* connection = socket->connection();
  control::Incoming incoming = {socket->id(), connection->peer().cid, connection->peer().port};
  if (control::SendRecord(channel_.get(), control::Bytes(incoming), theirs.get(), MSG_DONTWAIT) <
      0) {
    socket->GiveUp();  // the program is gone, or has too many descriptors under way
    return;
  }
  ack_expected_ = true;
  handed_over_ = socket;
  // An error of Attach() leaves the socket without events; the program then sees end-of-file when
  // it goes.
  socket->PrepareDescriptor(ours.get(), type_).IgnoreError();
  socket->Attach(std::move(ours)).IgnoreError();
}

void ProgramListener::OnEvents(uint32_t events) {
  control::AcceptAck ack;
  for (;;) {
    const ssize_t n = recv(channel_.get(), &ack, sizeof(ack), MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) break;
    if (n != sizeof(ack) || !ack_expected_) {
      // Closed, or nonsense: a listener that does not keep the protocol is ended like one that was
      // closed.
      owner_.ListenerClosed(this);
      return;
    }
    ack_expected_ = false;
    if (handed_over_ != nullptr && handed_over_->id() == ack.id) handed_over_->Accepted();
    handed_over_ = nullptr;
    HandOver();
  }
  if ((events & (EPOLLHUP | EPOLLRDHUP)) != 0) owner_.ListenerClosed(this);
}

// ---- ProgramDatagram ----

absl::Status ProgramDatagram::Start(uint32_t port) {
  absl::StatusOr<uint32_t> got = domain_.endpoint().BindDatagram(port, this);
  absl::Status status = got.status();
  if (status.ok()) {
    port_ = *got;
    status = loop_.Add(channel_.get(), this);
    if (!status.ok()) domain_.endpoint().CloseDatagram(port_);
  }
  SendListenResult(channel_.get(), status, port_);
  return status;
}

void ProgramDatagram::OnEvents(uint32_t) { Pump(); }

void ProgramDatagram::Pump() {
  for (int i = 0; i < kTurnRecords; ++i) {
    const ssize_t n = recv(channel_.get(), domain_.staging(), Domain::kStagingSize, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return;
    control::DatagramHeader to;
    if (n < static_cast<ssize_t>(sizeof(to))) {
      owner_.DatagramClosed(this);
      return;
    }
    std::memcpy(&to, domain_.staging(), sizeof(to));
    // Unreliable: what cannot be sent is dropped, and the endpoint counts it.
    domain_.endpoint()
        .SendDatagram(port_, {to.cid, to.port},
                      Payload(absl::MakeConstSpan(domain_.staging() + sizeof(to), n - sizeof(to))))
        .IgnoreError();
  }
  loop_.Again(this);
}

bool ProgramDatagram::OnDatagram(Address from, const Payload& datagram) {
  const control::DatagramHeader header = {from.cid, from.port};
  const auto* bytes = reinterpret_cast<const uint8_t*>(&header);
  return SendPieces(channel_.get(), absl::MakeConstSpan(bytes, sizeof(header)), datagram) >= 0;
}

}  // namespace argosy::sim
