// SPDX-License-Identifier: Apache-2.0
// File: hatch/session.h
//
// What every command of hatch does with a transport: find the peer, connect, listen, accept, and
// learn how it ended.
#ifndef ARGOSY_HATCH_SESSION_H_
#define ARGOSY_HATCH_SESSION_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "hatch/options.h"
#include "transport/transport.h"

namespace argosy::hatch {

// A line on standard error, "hatch: " before it.
void Say(absl::string_view line);

// A mistake of the caller, found before anything was sent: exit code 2.
absl::Status ConfigurationError(absl::string_view message);

// 0, 1 (network or peer) or 2 (usage or configuration).
int ExitCode(const absl::Status& status);

// "CID 3 port 1234", less what the transport does not know.
std::string Describe(const Address& address);

// `failure` of a connection with the peer's name before it, where the message does not say it.
absl::Status WithPeer(const absl::Status& failure, const Address& peer);

absl::Status SetNonBlocking(int fd);

struct Session {
  // How long news of a broken connection may lag behind its end-of-file.
  static constexpr absl::Duration kReasonWait = absl::Milliseconds(500);

  const Options& options;
  Transport& transport;

  // Say(), with -v only.
  void Note(absl::string_view line) const;

  // The peer that CID and PORT of the command line name.  Over Argo it also says which domain that
  // is.
  absl::StatusOr<Address> Peer() const;

  // The failures of all of these are ready for people.  A signal ends them: EINTR.
  absl::StatusOr<Socket> Connect(SocketType type) const;
  absl::StatusOr<std::unique_ptr<Listener>> Listen(SocketType type) const;
  absl::StatusOr<Socket> Accept(Listener& listener) const;
  absl::StatusOr<std::unique_ptr<DatagramSocket>> Bind(uint32_t port) const;

  // Socket::Finish() with words for people; ETIMEDOUT when `deadline` passes first.
  absl::Status Finish(Socket& socket, absl::Time deadline) const;
  // `failure` of a connection, or a better reason if its end says that a domain, device or daemon
  // of this side died.
  absl::Status WithReason(Socket& socket, absl::Status failure) const;
  // The same, and WithPeer().
  absl::Status Failed(Socket& socket, absl::Status failure) const;
};

}  // namespace argosy::hatch

#endif  // ARGOSY_HATCH_SESSION_H_
