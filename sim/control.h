// SPDX-License-Identifier: Apache-2.0
// File: sim/control.h
//
// The control protocol between a program and argosy-sim: records over a UNIX SOCK_SEQPACKET socket, host byte order (both
// ends are on one machine).
//
//   program                                          argosy-sim
//     Hello{domain} -------------------------------->  joins a domain, or none for the operator's commands
//     <-------------------------------- Welcome{cid} or Failure
//     Connect{id, cid, port} + descriptor ---------->  the program keeps the other end of that AF_UNIX pair
//                    <== ConnectResult on the pair, in front of the data
//     Listen{id, port} + descriptor ---------------->
//                    <== ListenResult, then Incoming + descriptor, on the pair; AcceptAck ==> for each
//     BindDatagram{id, port} + descriptor ---------->
//                    <== ListenResult on the pair; then records with a DatagramHeader, both ways
//     Finish{id} ----------------------------------->
//     <---------------------------------- Ended{id}    when the connection has ended; says how
//     Forget{id} ----------------------------------->  nobody will ask how this one ended
//     Resolve{id, name} ---------------------------->
//     <------------------------------- Resolved{cid} or an error
//     Command{id, verb, name} ---------------------->
//     <---------------------------------- Text{text} or an error
//     <------------------------------------- Goodbye   before the daemon leaves, or the domain was killed
//
// Connections do not end with the control socket: their descriptors may live in other processes.
#ifndef ARGOSY_SIM_CONTROL_H_
#define ARGOSY_SIM_CONTROL_H_

#include <sys/socket.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "transport/unique_fd.h"

namespace argosy::sim::control {

inline constexpr uint32_t kVersion = 1;
inline constexpr size_t kNameSize = 64;      // with the terminating 0
inline constexpr size_t kMessageSize = 200;  // of an error text, with the terminating 0
// SO_SNDBUF of a SEQPACKET pair.  The kernel doubles it, and refuses messages above the double less
// 32 bytes with EMSGSIZE: so the largest message is 256 KiB, as Linux's AF_VSOCK has it.
inline constexpr int kMessageSendBuffer = (256 * 1024 + 32) / 2;
inline constexpr size_t kTextSize = 60 * 1024;

enum class Kind : uint32_t {
  // requests
  kHello = 1,
  kConnect,
  kListen,
  kBindDatagram,
  kFinish,
  kForget,
  kResolve,
  kCommand,
  // answers
  kWelcome = 101,
  kFailure,
  kEnded,
  kResolved,
  kText,
  kGoodbye,
};

enum class Verb : uint32_t {
  kList = 1,  // the domains, as text
  kCreate,
  kKill,
  kRestart,
  kPause,
  kResume,
  kStats,  // the counters, as text
};

// A request.  One layout for all: every record is small and rare.
struct Request {
  Kind kind = Kind::kHello;
  uint32_t id = 0;       // chosen by the program; for sockets also their name.  Below kDaemonIds.
  uint32_t version = 0;  // Hello
  uint32_t cid = 0;      // Connect
  uint32_t port = 0;     // Connect, Listen, BindDatagram
  uint32_t local_port = 0;  // Connect
  uint32_t timeout_ms = 0;  // Connect
  int32_t backlog = 0;      // Listen
  uint16_t type = 0;        // Connect, Listen: VSOCK_TYPE_STREAM or _SEQPACKET
  uint16_t reserved = 0;
  Verb verb = Verb::kList;    // Command
  char name[kNameSize] = {};  // Hello and Command (domain), Resolve
};

// Ids of accepted sockets are the daemon's choice, from here upward.
inline constexpr uint32_t kDaemonIds = 0x80000000;

struct Answer {
  Kind kind = Kind::kFailure;
  uint32_t id = 0;
  int32_t error = 0;  // errno, or 0
  uint32_t cid = 0;   // Welcome, Resolved
  char message[kMessageSize] = {};
};

// First bytes on a connecting pair.
struct ConnectResult {
  int32_t error = 0;
  uint32_t local_port = 0;
  char message[kMessageSize] = {};
};

// First record on a listener's or a datagram socket's pair.
struct ListenResult {
  int32_t error = 0;
  uint32_t port = 0;
  char message[kMessageSize] = {};
};

// One connection for a listener, with its descriptor.
struct Incoming {
  uint32_t id = 0;
  uint32_t peer_cid = 0;
  uint32_t peer_port = 0;
};

// The program has taken the last Incoming: the next may come.
struct AcceptAck {
  uint32_t id = 0;
};

// In front of every datagram: whom it goes to, or comes from.
struct DatagramHeader {
  uint32_t cid = 0;
  uint32_t port = 0;
};

// Checks a received record and copies it.  False (with a reason in *why) for a wrong size, an
// unknown kind, a string without end, or a value out of range.  Nothing else may be assumed of a
// Request that passes.
bool ParseRequest(absl::Span<const uint8_t> record, Request* request, absl::string_view* why);

// Sends one record with a descriptor (none if `passed` < 0); `flags` as for sendmsg(), MSG_NOSIGNAL is added.  As sendmsg().
ssize_t SendRecord(int socket, absl::Span<const uint8_t> record, int passed, int flags);

// Receives one record without waiting, and the descriptor that came along; more than one are closed.  *truncated: a
// descriptor came that this process has no room for.  As recvmsg().
ssize_t ReceiveRecord(int socket, absl::Span<uint8_t> record, UniqueFd* passed, bool* truncated);

// Goes through what came beside a message: keeps its first descriptor in *passed (null: none), closes all others.  Whether
// the sender's credentials were there (SO_PASSCRED).
bool TakeAncillary(msghdr& message, UniqueFd* passed);

// The bytes of a record.
template <typename Record>
absl::Span<const uint8_t> Bytes(const Record& record) {
  return absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(&record), sizeof(record));
}

// Where argosy-sim listens if nothing else is said: $XDG_RUNTIME_DIR/argosy/sim.sock; without it /run/argosy/sim.sock for
// root, /tmp/argosy-UID/sim.sock for others.
std::string DefaultSocket();

// Copies text into a fixed array, cut to fit and terminated.
template <size_t N>
void SetText(char (&to)[N], absl::string_view text) {
  const size_t n = text.size() < N ? text.size() : N - 1;
  text.copy(to, n);
  to[n] = '\0';
}

// The text in a fixed array; an unterminated one is read to its end.
template <size_t N>
std::string GetText(const char (&from)[N]) {
  size_t n = 0;
  while (n < N && from[n] != '\0') ++n;
  return std::string(from, n);
}

}  // namespace argosy::sim::control

#endif  // ARGOSY_SIM_CONTROL_H_
