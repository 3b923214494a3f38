// SPDX-License-Identifier: Apache-2.0
// File: transport/packet/endpoint.h
//
// One CID: its ports, listeners, connections and datagram sockets, over one Link.
//
// The way of a byte:  program -> Connection::Send() -> Link::Send() -> carrier ->
// Endpoint::OnPacket() of the peer -> ConnectionUser::OnData() -> program.  Nothing is copied on
// that way while the receiver keeps up; what it does not take is kept in its Connection, bounded by
// buf_alloc.
//
// While the carrier is blocked no packet is queued here: data stays with the program, and what a
// connection owes its peer (RESPONSE, credit, SHUTDOWN, RST) is kept as flags and sent when the
// carrier has room.
//
// Errors of a packet touch its own connection only.  What was dropped, refused or reset, and why,
// is counted.
//
// Threads: one.  Time: told by Advance(), first before any Connect(); every other call uses the
// time told last.
//
// Users may call anything of the endpoint and its connections from inside their calls; a connection
// that ended is destroyed when the outermost call returns.
#ifndef ARGOSY_TRANSPORT_PACKET_ENDPOINT_H_
#define ARGOSY_TRANSPORT_PACKET_ENDPOINT_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "transport/address.h"
#include "transport/packet/connection.h"
#include "transport/packet/limits.h"
#include "transport/packet/link.h"

namespace argosy::packet {

class ListenerUser {
 public:
  virtual ~ListenerUser() = default;
  // A connection was established.  Returns its user (not null), who gets OnData() from now on.  It
  // counts against the backlog until Endpoint::Accepted().
  virtual ConnectionUser* OnIncoming(Connection& connection) = 0;
};

// Who answers for the ports at which nobody listens: of a device, they are files or ports of the host.
class RequestUser {
 public:
  virtual ~RequestUser() = default;
  // A peer wants to connect to connection.local().  Its user, who gets OnData() from now on and may
  // not call the connection before this returns, but for AnswerLater(); or null: it is refused, and
  // gone.
  virtual ConnectionUser* OnRequest(Connection& connection) = 0;
};

class DatagramUser {
 public:
  virtual ~DatagramUser() = default;
  // Takes the datagram (true), or has no room (false: it is dropped and counted).
  virtual bool OnDatagram(Address from, const Payload& datagram) = 0;
};

// What the endpoint keeps for one peer CID.  One for each CID that the link ever vouched for.
struct PeerRecord {
  explicit PeerRecord(uint32_t peer_cid) : cid(peer_cid) {}

  const uint32_t cid;
  uint32_t generation = 0;  // sessions that ended
  std::list<Connection>
      connections;                 // in order of creation, so the ones of ended sessions come first
  std::list<Connection*> owing;    // control packets to send when the carrier has room
  std::list<Connection*> waiting;  // programs to call when the carrier has room, in turn
  // What connections that are gone still owe: an RST, and perhaps a SHUTDOWN before it.  Only
  // connections that both sides know of: none becomes one while the carrier is blocked, so there are
  // no more of them than there were connections.
  std::vector<Header> owed_last;
  std::vector<Header> owed_refusals;  // other RSTs: at most kMaxOwedResets
};

class Endpoint : public LinkUser {
 public:
  struct Options {
    uint32_t cid = kCidAny;
    uint32_t buf_alloc = kDefaultBufAlloc;
    size_t max_connections = kMaxConnections;
    // First automatic port to try; a seed, so that ports differ between runs if the caller wants
    // that.
    uint32_t first_port = kFirstEphemeralPort;
  };

  // One line of meaning each.
  struct Counters {
    uint64_t connected = 0;    // connections established, both directions
    uint64_t reset_sent = 0;   // RST for packets of no connection, refused requests and breaches
    uint64_t drop_source = 0;  // the header's source CID was not the carrier's
    uint64_t drop_destination = 0;    // not for this CID
    uint64_t drop_type = 0;           // unknown socket type (answered by RST)
    uint64_t drop_op = 0;             // unknown operation
    uint64_t drop_no_connection = 0;  // neither connection nor listener (answered by RST)
    uint64_t refused_backlog = 0;     // the listener's backlog was full
    uint64_t refused_limit = 0;       // max_connections, or the budget
    uint64_t breach_credit = 0;       // more data than credit, or fwd_cnt ahead of what was sent
    uint64_t breach_state = 0;      // data after SHUTDOWN, REQUEST on a live connection, wrong type
    uint64_t breach_messages = 0;   // more messages than kMaxQueuedMessages
    uint64_t lost_resets = 0;       // over kMaxOwedResets
    uint64_t datagram_dropped = 0;  // nobody at the port, or no room
    uint64_t datagram_delivered = 0;
    uint64_t datagram_unsent = 0;  // SendDatagram() failed
    uint64_t packets_in = 0;
    uint64_t packets_out = 0;
  };

  // `link` outlives the endpoint.  The caller routes the link's calls to this object.
  Endpoint(Link& link, const Options& options);
  // Ends nothing: users get no calls.  The carrier's end resets the peers.
  ~Endpoint() override;

  Endpoint(const Endpoint&) = delete;
  Endpoint& operator=(const Endpoint&) = delete;

  uint32_t cid() const { return options_.cid; }
  size_t connections() const { return connections_; }
  // Packets that wait for the carrier to a peer although no connection stands behind them.
  size_t owed(uint32_t peer_cid) const {
    const auto found = peers_.find(peer_cid);
    if (found == peers_.end()) return 0;
    return found->second.owed_last.size() + found->second.owed_refusals.size();
  }
  const Counters& counters() const { return counters_; }

  // Asked before a connection is made or accepted (true: there is room for its receive buffer), and
  // told when it is gone. Without it only max_connections bounds.  Outlives the endpoint.
  class Budget {
   public:
    virtual ~Budget() = default;
    virtual bool Reserve(size_t bytes) = 0;
    virtual void Release(size_t bytes) = 0;
  };
  void set_budget(Budget* budget) { budget_ = budget; }

  // Starts to connect; local_port kPortAny: automatic.  kCidLocal means the own CID.  The result is
  // alive until OnEnded(), which may come at any later call, but not before Connect() returns.
  // Errors: ENODEV (the link reaches nobody there), EADDRINUSE, ENOBUFS (max_connections or
  // budget), ESOCKTNOSUPPORT (type).
  absl::StatusOr<Connection*> Connect(uint32_t local_port, Address peer, uint16_t type,
                                      absl::Duration timeout, ConnectionUser* user);

  // Listens at a port (kPortAny: automatic) for connections of one type; returns the port.  Errors:
  // EADDRINUSE, ESOCKTNOSUPPORT.
  absl::StatusOr<uint32_t> Listen(uint32_t port, uint16_t type, int backlog, ListenerUser* user);
  // Ends it.  Connections that were not accepted are reset (their users get OnEnded(kLocal)).
  void StopListening(uint32_t port);
  // Asks `user` about requests for ports without a listener; null (the default) refuses them.
  void set_request_user(RequestUser* user) { request_user_ = user; }
  // The program took this connection: it leaves the backlog.  Once for each.
  void Accepted(Connection& connection);

  // Datagram ports are a space of their own.
  absl::StatusOr<uint32_t> BindDatagram(uint32_t port, DatagramUser* user);
  void CloseDatagram(uint32_t port);
  // One packet, unreliable.  Errors: EMSGSIZE (above the link's largest payload), ENODEV, EAGAIN
  // (the carrier is blocked).
  absl::Status SendDatagram(uint32_t from_port, Address to, const Payload& datagram);

  // Tells the time only: for packets that come before Advance(), after a long sleep.
  void TellTime(absl::Time now) { now_ = std::max(now_, now); }
  // Tells the time and fires what is due.
  void Advance(absl::Time now);
  // When Advance() is wanted next; InfiniteFuture() if never.
  absl::Time NextDeadline() const;

  // LinkUser
  void OnPacket(uint64_t src_cid, const Header& header, const Payload& payload) override;
  void OnCanSend(uint64_t cid) override;
  void OnPeerReset(uint64_t cid) override;

 private:
  friend class Connection;

  struct Listener {
    uint16_t type;
    int backlog;
    int pending;
    ListenerUser* user;
  };
  // Local port, peer's CID, peer's port.
  using Key = std::tuple<uint32_t, uint32_t, uint32_t>;
  using TimerKey = std::pair<absl::Time, uint64_t>;
  // One call into the endpoint or a connection; the outermost one buries what ended.
  class Call;
  // As above, from the carrier or the clock: also ends the connections of lost peers.
  class CarrierCall;

  static Key KeyOf(const Connection& connection);
  PeerRecord& Record(uint32_t cid);
  // A new connection in the tables; null if there is no room (counted).
  Connection* Make(PeerRecord& record, Address local, Address peer, uint16_t type);
  // Takes it out of all tables and tells its user.
  void Finish(Connection& connection, End end);
  // The peer is through with it: its address is free again.
  void Detach(Connection& connection);
  void SetDeadline(Connection& connection, absl::Time deadline);
  // Sends or owes the last packet of a connection that ends, or that never was: an RST.
  bool MaySendLast(const PeerRecord& record) const;
  void SendLast(PeerRecord& record, const Header& header);
  // Sends or owes the RST for a connection that the peer does not know of: a bounded number.
  void SendRefusal(PeerRecord& record, const Header& reset);
  bool SendOwed(PeerRecord& record, std::vector<Header>& owed);
  absl::Status TrySendDatagram(uint32_t from_port, Address to, const Payload& datagram);
  // Answers a packet of no connection with RST, unless it is one.
  void Refuse(const Header& header);
  void ReceiveRequest(const Header& header);
  void AskForPort(const Header& header);
  // The connection that a request asks for, in the tables; null if there is no room.
  Connection* MakeIncoming(const Header& header);
  void ReceiveDatagram(const Header& header, const Payload& payload);
  void EndLost();

  Link& link_;
  const Options options_;
  Counters counters_;
  Budget* budget_ = nullptr;
  RequestUser* request_user_ = nullptr;
  absl::Time now_ = absl::UnixEpoch();
  uint32_t next_port_;
  uint64_t next_id_ = 0;
  size_t connections_ = 0;
  int depth_ = 0;
  std::map<uint32_t, PeerRecord> peers_;
  absl::flat_hash_map<Key, Connection*> table_;
  absl::flat_hash_map<uint32_t, Listener> listeners_;
  absl::flat_hash_map<uint32_t, DatagramUser*> datagrams_;
  absl::btree_map<TimerKey, Connection*> timers_;
  std::vector<PeerRecord*> lost_;
  std::list<Connection> draining_;
  std::list<Connection> graveyard_;
};

}  // namespace argosy::packet

#endif  // ARGOSY_TRANSPORT_PACKET_ENDPOINT_H_
