// SPDX-License-Identifier: Apache-2.0
#include "hatch/echo.h"

#include <sys/socket.h>

#include <cerrno>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "hatch/endings.h"
#include "hatch/wait.h"
#include "transport/error.h"

namespace argosy::hatch {
namespace {

constexpr size_t kMostConnections = 64;
constexpr size_t kBufferSize = 64 * 1024;

class EchoConnection {
 public:
  explicit EchoConnection(Socket socket) : socket_(std::move(socket)), buffer_(kBufferSize) {}

  pollfd Interest() const {
    return {socket_.fd(), static_cast<short>(begin_ < end_ ? POLLOUT : POLLIN), 0};
  }
  enum class State { kOpen, kPeerFinished, kFailed };

  // Moves what can be moved.  kFailed: errno says why.
  State Move() {
    if (begin_ == end_) {
      const ssize_t n = recv(socket_.fd(), buffer_.data(), buffer_.size(), 0);
      if (n == 0) return State::kPeerFinished;
      if (n < 0) return Failure();
      begin_ = 0;
      end_ = n;
    }
    const ssize_t n = send(socket_.fd(), buffer_.data() + begin_, end_ - begin_, MSG_NOSIGNAL);
    if (n < 0) return Failure();
    begin_ += n;
    return State::kOpen;
  }
  const Socket& socket() const { return socket_; }
  Socket TakeSocket() && { return std::move(socket_); }

 private:
  static State Failure() {
    return errno == EAGAIN || errno == EINTR ? State::kOpen : State::kFailed;
  }

  Socket socket_;
  std::vector<uint8_t> buffer_;
  size_t begin_ = 0, end_ = 0;
};

absl::Status EchoDatagrams(const Session& session) {
  absl::StatusOr<std::unique_ptr<DatagramSocket>> socket = session.Bind(session.options.port);
  if (!socket.ok()) return socket.status();
  session.Note(absl::StrCat("listening on ", (*socket)->local().port));
  std::vector<uint8_t> buffer(kBufferSize);
  for (;;) {
    pollfd ready = {(*socket)->fd(), POLLIN, 0};
    if (absl::Status s = PollOrStop({&ready, 1}, absl::InfiniteFuture()); !s.ok()) return s;
    absl::StatusOr<DatagramSocket::Datagram> got = (*socket)->ReceiveFrom(absl::MakeSpan(buffer));
    if (!got.ok()) {
      if (ErrnoOf(got.status()) == EAGAIN) continue;
      return Annotate(got.status(), "cannot receive");
    }
    if (got->size > buffer.size()) continue;
    // Unreliable both ways: an answer that cannot be sent is a lost one.
    const absl::Status sent =
        (*socket)->SendTo(absl::MakeConstSpan(buffer).first(got->size), got->from);
    if (!sent.ok())
      session.Note(absl::StrCat("no answer to ", Describe(got->from), ": ", sent.message()));
  }
}

}  // namespace

absl::Status RunEcho(const Session& session) {
  if (session.options.datagram) return EchoDatagrams(session);
  absl::StatusOr<std::unique_ptr<Listener>> listener = session.Listen(SocketType::kStream);
  if (!listener.ok()) return listener.status();
  std::vector<EchoConnection> connections;
  Endings endings(session);
  std::vector<pollfd> fds;
  for (;;) {
    fds.clear();
    for (const EchoConnection& connection : connections) fds.push_back(connection.Interest());
    const bool room = connections.size() + endings.size() < kMostConnections;
    fds.push_back({room ? (*listener)->fd() : -1, POLLIN, 0});
    absl::Status ready = PollOrStop(absl::MakeSpan(fds), endings.NextCheck());
    if (!ready.ok() && ErrnoOf(ready) != ETIMEDOUT) return ready;
    for (size_t i = connections.size(); i-- > 0;) {
      if (fds[i].revents == 0) continue;
      const EchoConnection::State state = connections[i].Move();
      if (state == EchoConnection::State::kOpen) continue;
      if (state == EchoConnection::State::kFailed) {
        session.Note(SystemError(errno, Describe(connections[i].socket().peer())).message());
      } else {
        endings.Add(std::move(connections[i]).TakeSocket());
      }
      connections.erase(connections.begin() + i);
    }
    endings.Check([&](const absl::Status& how) { session.Note(how.message()); });
    if (fds.back().revents == 0) continue;
    absl::StatusOr<Socket> socket = (*listener)->Accept();
    if (!socket.ok()) {
      if (ErrnoOf(socket.status()) == EAGAIN) continue;
      return Annotate(socket.status(), "cannot accept");
    }
    session.Note(absl::StrCat("connection from ", Describe(socket->peer())));
    if (absl::Status s = SetNonBlocking(socket->fd()); !s.ok()) return s;
    connections.emplace_back(*std::move(socket));
  }
}

}  // namespace argosy::hatch
