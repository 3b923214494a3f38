// SPDX-License-Identifier: Apache-2.0
#include "hatch/pipe.h"

#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "hatch/command.h"
#include "hatch/endings.h"
#include "hatch/relay.h"
#include "hatch/wait.h"
#include "transport/error.h"

namespace argosy::hatch {
namespace {

// Commands of -k -e that run at once; more connections wait in the backlog.
constexpr size_t kMostCommands = 128;

SocketType TypeOf(const Options& options) {
  return options.seqpacket ? SocketType::kSeqpacket : SocketType::kStream;
}

// Runs -e for one connection and waits for it.
absl::Status RunCommand(const Session& session, Socket& socket) {
  absl::StatusOr<ChildCommand> child = ChildCommand::Start(session.options.execute, socket);
  if (!child.ok()) return child.status();
  pollfd ended = {child->fd(), POLLIN, 0};
  if (absl::Status s = PollOrStop({&ended, 1}, absl::InfiniteFuture()); !s.ok()) return s;
  if (absl::Status s = child->Collect(); !s.ok()) return s;
  // The command was the only user of the connection and has left it: a peer that is still there is
  // not waited for, only a connection that broke is an error.
  const absl::Status how = session.Finish(socket, absl::Now() + Session::kReasonWait);
  return ErrnoOf(how) == ETIMEDOUT ? absl::OkStatus() : how;
}

absl::Status Serve(const Session& session, Socket& socket) {
  return session.options.execute.empty() ? Relay(session, socket) : RunCommand(session, socket);
}

// -k -e: every connection at once, each with a child of its own.
absl::Status ServeCommands(const Session& session, Listener& listener) {
  struct Served {
    ChildCommand child;
    Socket socket;
  };
  std::vector<Served> served;
  Endings endings(session);
  std::vector<pollfd> fds;
  for (;;) {
    fds.clear();
    for (const Served& one : served) fds.push_back({one.child.fd(), POLLIN, 0});
    const bool room = served.size() + endings.size() < kMostCommands;
    fds.push_back({room ? listener.fd() : -1, POLLIN, 0});
    absl::Status ready = PollOrStop(absl::MakeSpan(fds), endings.NextCheck());
    if (!ready.ok() && ErrnoOf(ready) != ETIMEDOUT) return ready;
    for (size_t i = served.size(); i-- > 0;) {
      if (fds[i].revents == 0) continue;
      if (absl::Status s = served[i].child.Collect(); !s.ok()) session.Note(s.message());
      // As with one command: a peer that is still there is not waited for.
      endings.Add(std::move(served[i].socket));
      served.erase(served.begin() + i);
    }
    endings.Check([](const absl::Status& how) { Say(how.message()); });
    if (fds.back().revents == 0) continue;
    absl::StatusOr<Socket> socket = listener.Accept();
    if (!socket.ok()) {
      if (ErrnoOf(socket.status()) == EAGAIN) continue;
      return Annotate(socket.status(), "cannot accept");
    }
    session.Note(absl::StrCat("connection from ", Describe(socket->peer())));
    absl::StatusOr<ChildCommand> child = ChildCommand::Start(session.options.execute, *socket);
    if (!child.ok()) {
      Say(child.status().message());
      continue;
    }
    served.push_back({*std::move(child), *std::move(socket)});
  }
}

}  // namespace

absl::Status RunConnect(const Session& session) {
  if (session.options.datagram) {
    absl::StatusOr<Address> peer = session.Peer();
    if (!peer.ok()) return peer.status();
    absl::StatusOr<std::unique_ptr<DatagramSocket>> socket =
        session.Bind(session.options.local_port);
    if (!socket.ok()) return socket.status();
    return RelayDatagrams(session, **socket, &*peer);
  }
  absl::StatusOr<Socket> socket = session.Connect(TypeOf(session.options));
  return socket.ok() ? Serve(session, *socket) : socket.status();
}

absl::Status RunListen(const Session& session) {
  if (session.options.datagram) {
    absl::StatusOr<std::unique_ptr<DatagramSocket>> socket = session.Bind(session.options.port);
    if (!socket.ok()) return socket.status();
    session.Note(absl::StrCat("listening on ", (*socket)->local().port));
    return RelayDatagrams(session, **socket, nullptr);
  }
  absl::StatusOr<std::unique_ptr<Listener>> listener = session.Listen(TypeOf(session.options));
  if (!listener.ok()) return listener.status();
  if (session.options.keep_listening && !session.options.execute.empty()) {
    return ServeCommands(session, **listener);
  }
  for (;;) {
    absl::StatusOr<Socket> socket = session.Accept(**listener);
    if (!socket.ok()) return socket.status();
    // Like netcat: whoever comes second must not wait for an answer that never comes.
    if (!session.options.keep_listening) listener->reset();
    const absl::Status how = Serve(session, *socket);
    if (!session.options.keep_listening || Stopped()) return how;
    if (!how.ok()) Say(how.message());
  }
}

absl::Status RunProbe(const Session& session) {
  return session.Connect(TypeOf(session.options)).status();
}

}  // namespace argosy::hatch
