// SPDX-License-Identifier: Apache-2.0
// File: transport/transport.h
//
// The socket contract: VM sockets over whatever carries them.  A program sees ordinary file
// descriptors; what a descriptor cannot say (how a connection ended) a Socket adds.
//
//   // OpenTransport() is in //backends:open.
//   auto transport = OpenTransport("sim:/run/argosy/sim.sock?domain=1");
//   auto socket = ConnectBlocking(**transport, {kCidHost, 1234}, SocketType::kStream);
//   write(socket->fd(), "hello", 5);
//   // OK: the peer closed cleanly and lost nothing.
//   absl::Status how = socket->Finish(absl::Now() + absl::Seconds(10));
//
// Behaviour is that of Linux's AF_VSOCK; where a backend cannot follow, a capability says so.
// Errors: docs/errors.md.
//
// Threads: a Transport may be used by several threads at once.  Every other object belongs to one
// thread at a time; its descriptor may be used by any thread, as descriptors may.
#ifndef ARGOSY_TRANSPORT_TRANSPORT_H_
#define ARGOSY_TRANSPORT_TRANSPORT_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "transport/address.h"
#include "transport/unique_fd.h"

namespace argosy {

enum class SocketType {
  kStream,     // bytes in order
  kSeqpacket,  // messages in order, boundaries kept
};

// What a transport can do beyond the common ground.  Queried, never guessed.  (What no transport
// can do has no member: a zero-length SEQPACKET message, which reads like end-of-file over AF_UNIX
// and which Linux's AF_VSOCK does not send at all.)
struct Capabilities {
  bool seqpacket = false;
  bool datagram = false;
  // A reset connection shows as ECONNRESET on the descriptor; without it a reader sees end-of-file
  // and must ask Finish().
  bool reset_on_fd = false;
  // poll() honours SO_RCVLOWAT.
  bool rcvlowat = false;
  // recvmsg() reports MSG_EOR.
  bool record_marks = false;
  // The descriptor is an AF_VSOCK socket: getpeername(), SO_VM_SOCKETS_*, SIOCOUTQ, MSG_ZEROCOPY as
  // the kernel has them.
  bool af_vsock = false;
  // Finish() tells a peer that lost data from one that closed cleanly (the carrier reports what was
  // consumed).
  bool reports_lost_data = false;
  // Connecting to a CID that nobody has is ENODEV at once.  Without it the carrier reaches beyond
  // what it knows (other machines behind a hypervisor), and only an answer or a timeout tells.
  bool knows_cids = false;
  // There is one machine to talk to, and its CID is not known here: every CID of a guest (3 and up)
  // reaches it, and so does kCidAny.
  bool one_machine = false;
  // Connecting to the own CID, or to kCidLocal, reaches this machine.  Without it: ENODEV.
  bool reaches_itself = false;
  // Both ends of a connection know both addresses, and ConnectOptions::local_port may be chosen.
  // Without it the carrier keeps ports to itself: local().port of a socket that has connected is
  // kPortAny, peer() of one that was accepted {kCidAny, kPortAny}, and choosing is EADDRNOTAVAIL.
  bool knows_both_addresses = false;
  // Ports below 1024 are refused to a thread without CAP_NET_BIND_SERVICE.  Without it a daemon
  // decides, which sees the user of the process and not its threads' capabilities, or nobody does.
  bool port_privilege_by_thread = false;
  // A SEQPACKET message above max_message is EMSGSIZE; without it the carrier refuses it with
  // another errno.
  bool too_large_is_emsgsize = false;
  // When the peer has called shutdown(SHUT_RD), the next write here fails.  Without it some may
  // succeed, because the carrier finds out when it has something for the peer to read.
  bool tells_stopped_reading = false;
  // Writing to a STREAM that the peer, or this side, has shut raises SIGPIPE, unless MSG_NOSIGNAL.
  // Without it there is only EPIPE.
  bool raises_sigpipe = false;
  // close() with SO_LINGER waits only for what the carrier has not taken yet; without it, also for
  // what the peer has not read.
  bool lingers_for_unsent_only = false;
  // MSG_PEEK works on SEQPACKET sockets too.
  bool peeks_messages = false;
  // A buffer that is none is EFAULT when receiving; without it, another errno.
  bool bad_buffer_is_efault = false;
  // SO_RCVLOWAT may be as large as the receive buffer: reading a part of it asks the peer for more
  // at once.  Without it a sender may wait for room while the reader waits for bytes.
  bool full_rcvlowat = false;
  // A SEQPACKET message that send() refuses with EAGAIN was not sent at all.  Without it a part of it
  // may have gone, which the next message then continues: send messages with a blocking descriptor,
  // and with SO_SNDTIMEO, or SIGSTOP and SIGCONT make the kernel begin the message again.
  bool refuses_whole_messages = false;
  // SIOCINQ: the bytes that this side has not read yet.
  bool counts_unread = false;
  // SIOCOUTQ: 0 when the peer has read all that this side has sent.
  bool counts_unsent = false;
  // Largest SEQPACKET message and datagram, in bytes; larger ones are refused.
  size_t max_message = 0;
  size_t max_datagram = 0;
  // Set where the machines are Xen domains: the CID of domain N is N + *argo_cid_offset.
  std::optional<uint32_t> argo_cid_offset;
};

// A connected socket.  Movable; closes its descriptor when it goes.
class Socket {
 public:
  // How a backend learns the end of a connection; see Finish().
  class Ending {
   public:
    virtual ~Ending() = default;
    // Called after the write side was shut down.  Contract of Socket::Finish().
    virtual absl::Status Wait(int fd, absl::Time deadline) = 0;
  };

  Socket(UniqueFd fd, Address local, Address peer, SocketType type, std::unique_ptr<Ending> ending)
      : fd_(std::move(fd)), local_(local), peer_(peer), type_(type), ending_(std::move(ending)) {}
  Socket(Socket&&) noexcept = default;
  Socket& operator=(Socket&&) noexcept = default;

  // Blocking until the caller sets O_NONBLOCK.  read, write, send, recv, poll, shutdown and
  // SCM_RIGHTS work on it. Half-close: shutdown(SHUT_WR) gives the peer end-of-file behind all
  // data, and this side goes on reading.  Writing after the peer closed: EPIPE.
  int fd() const { return fd_.get(); }
  Address local() const { return local_; }
  Address peer() const { return peer_; }
  SocketType type() const { return type_; }

  // Says how the connection ended.  Shuts the write side down first (all that was written still
  // goes out), then waits until both directions have ended.  It does not read: what the peer sends
  // must be read by the caller, before or meanwhile.
  //   OK          the peer ended both directions (or closed) and, where reports_lost_data, took
  //               every byte.
  //   ECONNRESET  the peer reset the connection, closed with data unread, or its domain died.
  //   ENETRESET   this side's carrier went: the domain was killed, or the daemon died.
  //   ETIMEDOUT   the deadline passed first.
  //   EINVAL      the descriptor was given away: Release().
  // Other errors are those of system calls.  The descriptor stays open either way.  OK, ECONNRESET
  // and ENETRESET are final: calling again repeats them.  After anything else it asks again.
  absl::Status Finish(absl::Time deadline);

  // Gives the descriptor away, for a program that wants nothing else.  How the connection ended can
  // then no longer be known.
  UniqueFd Release() &&;

 private:
  UniqueFd fd_;
  Address local_;
  Address peer_;
  SocketType type_;
  std::unique_ptr<Ending> ending_;
  std::optional<absl::Status> finished_;  // the final answer of Finish()
};

// A connection on its way.
class Connecting {
 public:
  virtual ~Connecting() = default;
  // poll() for `events()`; then call Complete().  Becomes ready at the latest when the timeout has
  // passed.
  virtual int fd() const = 0;
  virtual short events() const = 0;
  // The socket, once.  Errors: EAGAIN (Unavailable: not yet, poll again); ECONNRESET (nobody
  // listens, the backlog is full, or the peer refuses the type); ETIMEDOUT (no answer within the
  // timeout); those of Transport::Connect() that only the carrier knows.  After an error other than
  // EAGAIN only destruction is left.  Destroying it early gives the attempt up.
  virtual absl::StatusOr<Socket> Complete() = 0;
};

class Listener {
 public:
  virtual ~Listener() = default;
  // poll() for POLLIN; then call Accept().
  virtual int fd() const = 0;
  virtual Address local() const = 0;
  // One connection.  Errors: EAGAIN (Unavailable: none waits); EMFILE (no descriptor left; over
  // sim: the connection is lost, elsewhere it waits on); ENETRESET (the carrier is gone: no more
  // will come).  Never blocks.  Destroying the listener resets connections that were not accepted.
  virtual absl::StatusOr<Socket> Accept() = 0;
};

class DatagramSocket {
 public:
  struct Datagram {
    size_t size = 0;  // of the datagram; more than the buffer means that the rest was cut off
    Address from;
  };

  virtual ~DatagramSocket() = default;
  // poll() for POLLIN (one can be received) and POLLOUT.
  virtual int fd() const = 0;
  virtual Address local() const = 0;
  // Sends one datagram, unreliable: OK says only that the carrier took it.  EMSGSIZE (above
  // max_datagram), EAGAIN, ENODEV, ENETRESET.  Nobody at the port: dropped.
  virtual absl::Status SendTo(absl::Span<const uint8_t> bytes, Address to) = 0;
  // Receives one.  EAGAIN (none waits), ENETRESET.  Never blocks.
  virtual absl::StatusOr<Datagram> ReceiveFrom(absl::Span<uint8_t> buffer) = 0;
};

struct ConnectOptions {
  absl::Duration timeout = absl::Seconds(2);
  uint32_t local_port = kPortAny;  // kPortAny: the carrier chooses
};

struct ListenOptions {
  int backlog = 128;  // clamped to 1..4096
};

// Nothing here waits for a peer.  Over sim: Connect(), Listen(), BindDatagram() and Resolve() wait
// for the daemon: if it is stopped, 10 s (ETIMEDOUT).  Destroying a Listener or a DatagramSocket
// waits 1 s at most until its port is free.
class Transport {
 public:
  virtual ~Transport() = default;

  // The URI it was opened with.
  virtual std::string uri() const = 0;
  virtual Capabilities capabilities() const = 0;

  // The own CID.  Over kernel: it asks /dev/vsock each time: ENODEV (it is not there), EACCES and
  // other errors of system calls.  The others knew it when they were opened: no error.
  virtual absl::StatusOr<uint32_t> LocalCid() = 0;

  // A name of this transport's world (a domain's name) as a CID; also everything ParseCid() takes.
  // ENODEV: no such name.
  virtual absl::StatusOr<uint32_t> Resolve(absl::string_view name) = 0;

  // Starts to connect.  Errors, from here or from Connecting::Complete(), wherever the carrier
  // finds them: EACCES (local_port below 1024 without privilege), EADDRINUSE (local_port is taken),
  // EADDRNOTAVAIL (no free port is left, or none can be chosen), ESOCKTNOSUPPORT (type not
  // supported), ENODEV (no such CID behind this carrier, or no carrier), ENETRESET (own carrier
  // gone), ENOBUFS (the carrier's budget is used up), EPROTO (it is no such carrier).
  // From here alone: EMFILE.
  virtual absl::StatusOr<std::unique_ptr<Connecting>> Connect(Address peer, SocketType type,
                                                              const ConnectOptions& options) = 0;

  // Listens on a port of this CID.  kPortAny: the carrier chooses, see Listener::local().  Errors:
  // EADDRINUSE, EACCES (port below 1024 without privilege), EADDRNOTAVAIL (no free port is left),
  // ESOCKTNOSUPPORT, ENETRESET, EMFILE, ENOBUFS; over kernel: those of LocalCid().
  virtual absl::StatusOr<std::unique_ptr<Listener>> Listen(uint32_t port, SocketType type,
                                                           const ListenOptions& options) = 0;

  // A datagram socket at a port (kPortAny: any).  Errors: as Listen(); ESOCKTNOSUPPORT without the
  // capability.
  virtual absl::StatusOr<std::unique_ptr<DatagramSocket>> BindDatagram(uint32_t port) = 0;
};

// Connects and waits.  Errors of Transport::Connect() and Connecting::Complete().
absl::StatusOr<Socket> ConnectBlocking(Transport& transport, Address peer, SocketType type,
                                       const ConnectOptions& options = {});

// Accepts and waits until `deadline` (ETIMEDOUT).
absl::StatusOr<Socket> AcceptBlocking(Listener& listener,
                                      absl::Time deadline = absl::InfiniteFuture());

}  // namespace argosy

#endif  // ARGOSY_TRANSPORT_TRANSPORT_H_
