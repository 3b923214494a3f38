// SPDX-License-Identifier: Apache-2.0
#include "hatch/echo.h"

#include <sys/socket.h>

#include <cerrno>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
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
  // Moves what can be moved; false once the connection is over.
  bool Move() {
    if (begin_ == end_) {
      const ssize_t n = recv(socket_.fd(), buffer_.data(), buffer_.size(), 0);
      if (n <= 0) return n < 0 && (errno == EAGAIN || errno == EINTR);
      begin_ = 0;
      end_ = n;
    }
    const ssize_t n = send(socket_.fd(), buffer_.data() + begin_, end_ - begin_, MSG_NOSIGNAL);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    begin_ += n;
    return true;
  }

 private:
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
  std::vector<pollfd> fds;
  for (;;) {
    fds.clear();
    for (const EchoConnection& connection : connections) fds.push_back(connection.Interest());
    fds.push_back({connections.size() < kMostConnections ? (*listener)->fd() : -1, POLLIN, 0});
    if (absl::Status s = PollOrStop(absl::MakeSpan(fds), absl::InfiniteFuture()); !s.ok()) return s;
    for (size_t i = connections.size(); i-- > 0;) {
      if (fds[i].revents != 0 && !connections[i].Move()) connections.erase(connections.begin() + i);
    }
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
