// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/host_socket.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "backends/vhost_user/connect_line.h"
#include "spdlog/spdlog.h"
#include "transport/packet/limits.h"

namespace argosy::vhost_user {

using packet::Connection;
using packet::End;
using packet::Payload;

namespace {

// Moved for one socket in one turn, then the others have theirs.
constexpr size_t kTurnBytes = 256 * 1024;

// Pieces of one sendmsg() (IOV_MAX), less the two of one more packet.
constexpr size_t kMaxPending = 1022;

}  // namespace

absl::Status HostSocket::ReadLine() { return loop_.Add(fd_.get(), this); }

absl::Status HostSocket::AskForPort(uint32_t port) {
  state_ = State::kConnecting;
  if (absl::Status s = loop_.Add(fd_.get(), this); !s.ok()) return s;
  AskGuest(port);
  return absl::OkStatus();
}

absl::Status HostSocket::Dial(Connection* connection) {
  connection_ = connection;
  state_ = State::kDialing;
  if (absl::Status s = loop_.Add(fd_.get(), this); !s.ok()) return s;
  loop_.WantWrite(this, true);
  return absl::OkStatus();
}

absl::Status HostSocket::Open(Connection* connection) {
  connection_ = connection;
  state_ = State::kOpen;
  return loop_.Add(fd_.get(), this);
}

void HostSocket::GiveUp() {
  if (connection_ != nullptr) {
    connection_->Reset();
  } else {
    Finish();
  }
}

void HostSocket::Finish() {
  if (state_ == State::kLine) owner_.LineEnded(this);
  if (state_ == State::kEnded) return;
  state_ = State::kEnded;
  if (writer_ != nullptr) loop_.Retire(std::move(writer_));
  owner_.SocketEnded(this);
}

void HostSocket::OnEvents(uint32_t events) {
  if (state_ == State::kDialing) return OnDialed(events);
  if ((events & EPOLLOUT) != 0 && !can_write_) {
    can_write_ = true;
    loop_.WantWrite(this, false);
    WriteBacklog();
    if (can_write_ && connection_ != nullptr) connection_->Drain();
  }
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) == 0 || state_ == State::kEnded) {
    return;
  }
  can_read_ = true;
  const bool ends = (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
  if (ends) end_is_near_ = true;
  if (state_ == State::kLine) TakeLine();
  // Nobody is left who could want the guest's answer, or the rest of what it sent.
  if (ends && (state_ == State::kConnecting || state_ == State::kEnding) && PeerIsGone()) {
    return GiveUp();
  }
  Pump();
}

void HostSocket::OnDialed(uint32_t events) {
  if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) == 0) return;
  int error = 0;
  socklen_t size = sizeof(error);
  if (getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
  if (error == 0 && type_ == VSOCK_TYPE_SEQPACKET) {
    absl::StatusOr<std::unique_ptr<MessageWriter>> writer =
        MessageWriter::Create(loop_, fd_.get(), [this](bool ok) { OnMessageWritten(ok); });
    if (!writer.ok()) {
      spdlog::debug("{}", std::string(writer.status().message()));
      return connection_->Reset();
    }
    writer_ = *std::move(writer);
  }
  if (error != 0) {
    spdlog::debug("port {} of the host refused: {}", connection_->local().port, strerror(error));
    return connection_->Reset();
  }
  state_ = State::kOpen;
  loop_.WantWrite(this, false);
  connection_->Accept();
  Pump();
}

// ---- the line ----

void HostSocket::TakeLine() {
  char bytes[kMaxConnectLine];
  // What follows the line stays in the socket.
  const ssize_t n = recv(fd_.get(), bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) return Finish();
  const absl::StatusOr<ConnectLine> line =
      ParseConnectLine(absl::string_view(bytes, static_cast<size_t>(n)));
  if (!line.ok()) return Finish();
  if (line->size == 0) {
    // A client that sends no more will not finish it.
    pollfd ended = {fd_.get(), POLLRDHUP, 0};
    if (type_ != VSOCK_TYPE_STREAM || (poll(&ended, 1, 0) == 1 && ended.revents != 0)) Finish();
    return;
  }
  recv(fd_.get(), bytes, line->size, MSG_DONTWAIT);
  port_ = line->port;
  state_ = State::kConnecting;
  owner_.LineEnded(this);
  AskGuest(port_);
}

void HostSocket::AskGuest(uint32_t port) {
  const absl::StatusOr<Connection*> connection = owner_.ConnectGuest(this, port);
  if (!connection.ok()) return Finish();
  connection_ = *connection;
}

void HostSocket::OnConnected(Connection&) {
  state_ = State::kOpen;
  if (domain_ == AF_UNIX) {
    // The first bytes on this socket: there is room.  A client that is gone is noticed by the pump.
    const std::string answer = absl::StrCat("OK ", port_, "\n");
    send(fd_.get(), answer.data(), answer.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  }
  loop_.Again(this);
}

// ---- to the guest ----

void HostSocket::OnCanSend(Connection&) { Pump(); }

void HostSocket::Pump() {
  size_t moved = 0;
  while (connection_ != nullptr && state_ == State::kOpen && can_read_ && !input_ended_) {
    if (moved >= kTurnBytes) {
      loop_.Again(this);
      return;
    }
    const ssize_t n = type_ == VSOCK_TYPE_STREAM ? PumpStream() : PumpMessage();
    if (n < 0) return;
    // A message costs at least its overhead, so that empty ones end a turn too.
    moved += n + 64;
  }
}

ssize_t HostSocket::PumpStream() {
  const size_t capacity = connection_->SendCapacity();
  if (capacity == 0) return -1;  // OnCanSend() follows
  const absl::Span<const iovec> room = device_.Room(capacity);
  if (room.empty()) return -1;  // looking for more of it, the device found the ring broken
  size_t bytes = 0;
  for (const iovec& piece : room) bytes += piece.iov_len;
  msghdr message = {};
  message.msg_iov = const_cast<iovec*>(room.data());
  message.msg_iovlen = room.size();
  const ssize_t n = recvmsg(fd_.get(), &message, MSG_DONTWAIT);
  if (n < 0) return ReadFailed(errno);
  if (n == 0) {
    EndOfInput();
    return -1;
  }
  device_.SendRoom(*connection_, static_cast<size_t>(n));
  // Less than asked for: the socket is empty, and an event will tell of more.  Not if one has told
  // of its end already; and descriptors that a program sent along (they are dropped) also cut a read
  // short.
  if (static_cast<size_t>(n) < bytes && !end_is_near_ && (message.msg_flags & MSG_CTRUNC) == 0) {
    can_read_ = false;
  }
  return n;
}

ssize_t HostSocket::PumpMessage() {
  if (!message_.has_value()) {
    const ssize_t result = ReadMessage();
    if (!message_.has_value()) return result;
  }
  const size_t size = message_->bytes.size();
  if (size > connection_->MaxMessage()) {
    // A message must not be lost in silence, nor cut.
    connection_->Reset();
    return -1;
  }
  if (!connection_->CanSendMessage(size)) return -1;
  connection_->SendMessage(Payload(absl::MakeConstSpan(message_->bytes)), message_->end_of_record);
  message_.reset();
  return static_cast<ssize_t>(size);
}

ssize_t HostSocket::ReadMessage() {
  // AF_VSOCK has no look at a message's size before Linux 6.6.
  static thread_local std::vector<uint8_t> room(packet::kDefaultBufAlloc + 1);
  iovec piece = {room.data(), room.size()};
  msghdr message = {};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  const ssize_t n = recvmsg(fd_.get(), &message, MSG_DONTWAIT);
  if (n < 0) return ReadFailed(errno);
  if (n == 0) {
    pollfd ended = {fd_.get(), POLLRDHUP, 0};
    if (poll(&ended, 1, 0) == 1 && ended.revents != 0) {
      EndOfInput();
      return -1;
    }
  }
  message_ = Message{{room.begin(), room.begin() + n}, (message.msg_flags & MSG_EOR) != 0};
  return n;
}

ssize_t HostSocket::ReadFailed(int error) {
  if (error == EINTR) return 0;
  if (error == EAGAIN) {
    can_read_ = false;
    return -1;
  }
  // ECONNRESET: the program closed without reading everything.  Of messages AF_UNIX says so once, before
  // those that the program had sent.
  if (error == ECONNRESET && domain_ == AF_UNIX && type_ == VSOCK_TYPE_SEQPACKET &&
      !std::exchange(lost_unread_, true)) {
    return 0;
  }
  connection_->Reset();
  return -1;
}

bool HostSocket::PeerIsGone() const {
  if (domain_ == AF_VSOCK) {
    // To poll(), a close looks like a half-close; but to write nothing is an error then.
    return send(fd_.get(), nullptr, 0, MSG_DONTWAIT | MSG_NOSIGNAL) < 0;
  }
  pollfd both_ended = {fd_.get(), 0, 0};
  return poll(&both_ended, 1, 0) == 1 && (both_ended.revents & POLLHUP) != 0;
}

void HostSocket::EndOfInput() {
  input_ended_ = true;
  if (lost_unread_) return connection_->Reset();
  if (!output_ending_ && PeerIsGone()) {
    // It closed: what is left for it is lost, and so is what still comes.
    if (!AllWritten()) return connection_->Reset();
    connection_->StopReading();
    if (connection_ == nullptr) return;
  }
  connection_->FinishSending();
}

void HostSocket::OnPeerStoppedReading(Connection& connection) {
  // The program's writes fail with EPIPE from now on.
  input_ended_ = true;
  shutdown(fd_.get(), SHUT_RD);
  connection.FinishSending();
}

// ---- from the guest ----

ssize_t HostSocket::Write(const iovec* pieces, size_t count, size_t bytes) {
  msghdr message = {};
  message.msg_iov = const_cast<iovec*>(pieces);
  message.msg_iovlen = count;
  const ssize_t n = sendmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (n < 0 && errno != EAGAIN && errno != EINTR) {
    write_failed_ = true;
    if (connection_ != nullptr) connection_->StopReading();
  } else if (n < static_cast<ssize_t>(bytes)) {
    can_write_ = false;
    loop_.WantWrite(this, true);
  }
  return n;
}

size_t HostSocket::OnData(Connection&, const Payload& data) {
  if (pending_.size() > kMaxPending) WritePending();
  if (!can_write_ || write_failed_) return 0;
  for (absl::Span<const uint8_t> piece : {data.first, data.second}) {
    if (!piece.empty()) pending_.push_back({const_cast<uint8_t*>(piece.data()), piece.size()});
  }
  if (device_.KeepForPass(this)) {
    pending_bytes_ += data.size();
    return data.size();
  }
  const ssize_t written = Write(pending_.data(), pending_.size(), data.size());
  pending_.clear();
  return static_cast<size_t>(std::max<ssize_t>(written, 0));
}

void HostSocket::WritePending() {
  if (pending_.empty()) return;
  size_t written = 0;
  if (!write_failed_) {
    written = static_cast<size_t>(
        std::max<ssize_t>(Write(pending_.data(), pending_.size(), pending_bytes_), 0));
  }
  if (written < pending_bytes_ && !write_failed_) {
    backlog_.reserve(pending_bytes_ - written);
    for (const iovec& piece : pending_) {
      const size_t skip = std::min(written, piece.iov_len);
      written -= skip;
      const auto* from = static_cast<const uint8_t*>(piece.iov_base);
      backlog_.insert(backlog_.end(), from + skip, from + piece.iov_len);
    }
  }
  pending_.clear();
  pending_bytes_ = 0;
}

bool HostSocket::OnMessage(Connection&, const Payload& message, bool end_of_record) {
  if (writer_ != nullptr) return writer_->Write(message, end_of_record);
  const iovec pieces[2] = {
      {const_cast<uint8_t*>(message.first.data()), message.first.size()},
      {const_cast<uint8_t*>(message.second.data()), message.second.size()},
  };
  // All of it or nothing, as it is a record there, too.
  return can_write_ && Write(pieces, 2, message.size()) >= 0;
}

void HostSocket::WriteBacklog() {
  if (!backlog_.empty()) {
    const iovec rest = {backlog_.data() + backlog_written_, backlog_.size() - backlog_written_};
    backlog_written_ += static_cast<size_t>(std::max<ssize_t>(Write(&rest, 1, rest.iov_len), 0));
    if (backlog_written_ < backlog_.size() && !write_failed_) return;
    backlog_ = {};  // its memory, too
    backlog_written_ = 0;
  }
  AfterAllWritten();
}

void HostSocket::OnMessageWritten(bool ok) {
  if (!ok) {
    write_failed_ = true;
    if (connection_ != nullptr) connection_->StopReading();
  } else if (connection_ != nullptr) {
    connection_->Drain();
  }
  if (state_ != State::kEnded && AllWritten()) AfterAllWritten();
}

void HostSocket::AfterAllWritten() {
  if (output_ending_) shutdown(fd_.get(), SHUT_WR);
  if (state_ == State::kEnding) Finish();
}

void HostSocket::OnPeerFinished(Connection&) { EndOutput(); }

void HostSocket::EndOutput() {
  WritePending();
  output_ending_ = true;
  if (AllWritten()) shutdown(fd_.get(), SHUT_WR);
}

void HostSocket::OnEnded(Connection&, End end) {
  WritePending();
  device_.ForgetPassUser(this);
  connection_ = nullptr;
  if (end == End::kClean && !AllWritten()) {
    state_ = State::kEnding;
  } else {
    Finish();
  }
}

}  // namespace argosy::vhost_user
