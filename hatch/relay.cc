// SPDX-License-Identifier: Apache-2.0
//
// One poll loop, one buffer for each direction.  A buffer is filled only when it is empty: that
// bounds memory, passes the slower side's pace on to the faster, and keeps messages whole.
#include "hatch/relay.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "hatch/message_sender.h"
#include "hatch/stdio.h"
#include "hatch/wait.h"
#include "transport/error.h"

namespace argosy::hatch {
namespace {

constexpr size_t kBufferSize = 256 * 1024;  // also the largest SEQPACKET message of any backend
constexpr size_t kLargestMessage = 64 * 1024;
constexpr int kSendFlags = MSG_DONTWAIT | MSG_NOSIGNAL;
// When the connection has failed already, its end can only add a reason.
constexpr absl::Duration kReasonWait = absl::Seconds(1);
// A full receiver of datagrams cannot be polled for.
constexpr absl::Duration kDatagramRetry = absl::Milliseconds(2);

class Buffer {
 public:
  explicit Buffer(size_t size) : bytes_(size) {}
  bool empty() const { return begin_ == end_; }
  absl::Span<uint8_t> Space() { return absl::MakeSpan(bytes_); }  // when empty
  void Filled(size_t n) { begin_ = 0, end_ = n; }
  absl::Span<const uint8_t> Data() const {
    return absl::MakeConstSpan(bytes_).subspan(begin_, end_ - begin_);
  }
  void Taken(size_t n) { begin_ += n; }
  void Clear() { begin_ = end_ = 0; }

 private:
  std::vector<uint8_t> bytes_;
  size_t begin_ = 0, end_ = 0;
};

class StreamRelay {
 public:
  StreamRelay(const Session& session, Socket& socket)
      : session_(session),
        socket_(socket),
        peer_(Describe(socket.peer())),
        messages_(socket.type() == SocketType::kSeqpacket),
        outgoing_(messages_ ? std::clamp<size_t>(session.transport.capabilities().max_message, 1,
                                                 kLargestMessage)
                            : kBufferSize),
        incoming_(kBufferSize),
        input_open_(!session.options.receive_only),
        must_shut_down_(input_open_) {}

  absl::Status Run();

 private:
  // Each moves what can be moved now.  A returned error is one of this side (standard input or
  // output, a bug) and ends the relay; trouble of the connection goes to failure_, and what has
  // arrived is still delivered.
  absl::Status ReadInput();
  absl::Status WriteOutput();
  void ReadSocket();
  void WriteSocket();
  absl::Status OnHangUp();
  ssize_t Send(absl::Span<const uint8_t> bytes) {
    return sender_ != nullptr ? sender_->Send(bytes)
                              : send(socket_.fd(), bytes.data(), bytes.size(), kSendFlags);
  }

  void SendingEnds(absl::Status why) {
    if (failure_.ok()) failure_ = std::move(why);
    input_open_ = must_shut_down_ = false;
    outgoing_.Clear();
  }
  void ConnectionEnds(int err) {
    socket_open_ = false;
    SendingEnds(
        err == ECONNRESET
            ? ErrnoError(err, absl::StrCat(peer_, " reset the connection: data may be lost"))
            : SystemError(err, peer_));
  }

  const Session& session_;
  Socket& socket_;
  const std::string peer_;
  const bool messages_;
  StandardOutput output_;
  Buffer outgoing_, incoming_;
  bool input_open_;          // standard input may give more
  bool must_shut_down_;      // the peer is still to be told that no more comes
  bool socket_open_ = true;  // the peer may send more
  bool gone_ = false;        // the peer closed both directions
  absl::Status failure_;
  // Sends in place of send(), or null.  Its thread ends before the buffer goes that it reads.
  std::unique_ptr<MessageSender> sender_;
};

absl::Status StreamRelay::ReadInput() {
  const ssize_t n = read(STDIN_FILENO, outgoing_.Space().data(), outgoing_.Space().size());
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return absl::OkStatus();
  if (n < 0) return SystemError(errno, "cannot read standard input");
  if (n == 0) input_open_ = false;
  outgoing_.Filled(n);
  return absl::OkStatus();
}

void StreamRelay::WriteSocket() {
  while (!outgoing_.empty()) {
    const ssize_t n = Send(outgoing_.Data());
    if (n >= 0) {
      outgoing_.Taken(n);
    } else if (errno == EINTR && sender_ != nullptr) {
      socket_open_ = false;
      SendingEnds(ErrnoError(EIO, absl::StrCat("was stopped while it sent a message to ", peer_,
                                               ": the message may be lost")));
    } else if (errno == EAGAIN || errno == EINTR) {
      return;
    } else if (errno == EPIPE) {
      SendingEnds(ErrnoError(
          EPIPE, absl::StrCat(peer_, " closed the connection before everything was sent")));
    } else {
      ConnectionEnds(errno);
    }
  }
}

void StreamRelay::ReadSocket() {
  const absl::Span<uint8_t> space = incoming_.Space();
  // MSG_TRUNC: the length of the whole message, to notice one that was cut.
  const ssize_t n =
      recv(socket_.fd(), space.data(), space.size(), MSG_DONTWAIT | (messages_ ? MSG_TRUNC : 0));
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n < 0) {
    ConnectionEnds(errno);
  } else if (n == 0) {
    socket_open_ = false;
  } else if (static_cast<size_t>(n) > space.size()) {
    socket_open_ = false;
    SendingEnds(ErrnoError(EMSGSIZE, absl::StrCat(peer_, " sent a message of ", n,
                                                  " bytes: more than ", kBufferSize)));
  } else if (!session_.options.send_only) {
    incoming_.Filled(n);
  }
}

absl::Status StreamRelay::WriteOutput() {
  while (!incoming_.empty()) {
    absl::StatusOr<size_t> n = output_.Write(incoming_.Data());
    if (!n.ok()) return n.status();
    if (*n == 0) break;
    incoming_.Taken(*n);
  }
  return absl::OkStatus();
}

// The peer closed altogether.  Input that nobody waits for is not waited for either; input that is
// there is lost.
absl::Status StreamRelay::OnHangUp() {
  gone_ = true;
  pollfd input = {STDIN_FILENO, POLLIN, 0};
  if (input_open_ && outgoing_.empty() && poll(&input, 1, 0) > 0) {
    if (absl::Status s = ReadInput(); !s.ok()) return s;
  }
  input_open_ = false;
  WriteSocket();
  return absl::OkStatus();
}

absl::Status StreamRelay::Run() {
  if (messages_ && !session_.transport.capabilities().refuses_whole_messages) {
    absl::StatusOr<std::unique_ptr<MessageSender>> sender = MessageSender::Start(socket_.fd());
    if (!sender.ok()) return sender.status();
    sender_ = *std::move(sender);
  }
  for (;;) {
    if (!input_open_ && outgoing_.empty() && must_shut_down_) {
      // An error here means that the connection is over, which reading shows.
      (void)shutdown(socket_.fd(), SHUT_WR);
      must_shut_down_ = false;
    }
    if (!socket_open_ && !input_open_ && outgoing_.empty() && incoming_.empty()) break;

    short socket_events = 0;
    if (socket_open_ && incoming_.empty()) socket_events |= POLLIN;
    if (!outgoing_.empty() && sender_ == nullptr) socket_events |= POLLOUT;
    // With the peer's direction at its end the socket is watched for POLLHUP alone; before that,
    // POLLHUP would only make the loop spin.
    const bool watch_socket = socket_events != 0 || (!socket_open_ && input_open_ && !gone_);
    pollfd fds[4] = {
        {input_open_ && outgoing_.empty() ? STDIN_FILENO : -1, POLLIN, 0},
        {watch_socket ? socket_.fd() : -1, socket_events, 0},
        {incoming_.empty() ? -1 : output_.fd(), POLLOUT, 0},
        {!outgoing_.empty() && sender_ != nullptr ? sender_->fd() : -1, POLLIN, 0},
    };
    absl::Status s = PollOrStop(fds, DeadlineIn(session_.options.wait));
    if (ErrnoOf(s) == ETIMEDOUT) {
      return ErrnoError(ETIMEDOUT,
                        absl::StrCat("no data to or from ", peer_, " within the time of -w"));
    }
    if (s.ok() && fds[0].revents != 0) s = ReadInput();
    if (!s.ok()) return s;
    if (!outgoing_.empty()) WriteSocket();
    if (socket_open_ && incoming_.empty() && (fds[1].revents & ~POLLOUT) != 0) ReadSocket();
    if (s = WriteOutput(); !s.ok()) return s;
    if (!socket_open_ && !gone_ && (fds[1].revents & (POLLHUP | POLLERR)) != 0) {
      if (s = OnHangUp(); !s.ok()) return s;
    }
  }
  const absl::Status how =
      session_.Finish(socket_, DeadlineIn(failure_.ok() ? session_.options.wait : kReasonWait));
  const bool says_more = !how.ok() && ErrnoOf(how) != ETIMEDOUT;
  return failure_.ok() || says_more ? how : failure_;
}

}  // namespace

absl::Status Relay(const Session& session, Socket& socket) {
  return StreamRelay(session, socket).Run();
}

absl::Status RelayDatagrams(const Session& session, DatagramSocket& socket, const Address* to) {
  const Options& options = session.options;
  StandardOutput output;
  const size_t largest =
      std::clamp<size_t>(session.transport.capabilities().max_datagram, 1, kLargestMessage);
  std::vector<uint8_t> outgoing(largest), incoming(kLargestMessage);
  bool have_peer = to != nullptr;
  Address peer = have_peer ? *to : Address{};
  bool input_open = !options.receive_only;
  size_t waiting = 0;  // bytes of the datagram that could not be sent yet

  absl::Time idle_end = DeadlineIn(options.wait);

  while (input_open || waiting > 0 || !options.send_only) {
    const bool read_input = input_open && waiting == 0 && have_peer;
    pollfd fds[2] = {{read_input ? STDIN_FILENO : -1, POLLIN, 0}, {socket.fd(), POLLIN, 0}};
    const absl::Time retry = waiting > 0 ? absl::Now() + kDatagramRetry : absl::InfiniteFuture();
    absl::Status s = PollOrStop(fds, std::min(idle_end, retry));
    if (ErrnoOf(s) == ETIMEDOUT && absl::Now() >= idle_end) return absl::OkStatus();
    if (!s.ok() && ErrnoOf(s) != ETIMEDOUT) return s;

    if (fds[0].revents != 0) {
      const ssize_t n = read(STDIN_FILENO, outgoing.data(), outgoing.size());
      if (n < 0 && errno != EINTR && errno != EAGAIN)
        return SystemError(errno, "cannot read standard input");
      if (n == 0) input_open = false;
      if (n > 0) waiting = n;
    }
    if (waiting > 0) {
      s = socket.SendTo(absl::MakeConstSpan(outgoing.data(), waiting), peer);
      if (!s.ok() && ErrnoOf(s) != EAGAIN)
        return Annotate(s, absl::StrCat("cannot send to ", Describe(peer)));
      if (s.ok()) {
        waiting = 0;
        idle_end = DeadlineIn(options.wait);
      }
    }
    if (fds[1].revents == 0) continue;
    absl::StatusOr<DatagramSocket::Datagram> got = socket.ReceiveFrom(absl::MakeSpan(incoming));
    if (!got.ok()) {
      if (ErrnoOf(got.status()) == EAGAIN) continue;
      return Annotate(got.status(), "cannot receive");
    }
    if (!have_peer || (to == nullptr && options.keep_listening && !(got->from == peer))) {
      session.Note(absl::StrCat("datagrams from ", Describe(got->from)));
      peer = got->from;
      have_peer = true;
    }
    if (!(got->from == peer) || options.send_only) continue;
    idle_end = DeadlineIn(options.wait);
    s = output.WriteAll(absl::MakeConstSpan(incoming.data(), std::min(got->size, incoming.size())));
    if (!s.ok()) return s;
  }
  return absl::OkStatus();
}

}  // namespace argosy::hatch
