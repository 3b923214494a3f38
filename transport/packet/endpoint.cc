// SPDX-License-Identifier: Apache-2.0
#include "transport/packet/endpoint.h"

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "transport/error.h"
#include "transport/packet/endpoint_call.h"

namespace argosy::packet {
namespace {

bool KnownType(uint16_t type) { return type == VSOCK_TYPE_STREAM || type == VSOCK_TYPE_SEQPACKET; }

// The next automatic port that `taken` does not know.  There is one: ports are 2^32, connections
// and listeners are not.
template <typename Taken>
uint32_t AutomaticPort(uint32_t& next, const Taken& taken) {
  for (;;) {
    const uint32_t port = next;
    next = port >= kPortAny - 1 ? kFirstEphemeralPort : port + 1;
    if (!taken(port)) return port;
  }
}

}  // namespace

Endpoint::Endpoint(Link& link, const Options& options)
    : link_(link),
      options_(options),
      next_port_(options.first_port == kPortAny ? kFirstEphemeralPort : options.first_port) {}

Endpoint::~Endpoint() {
  if (budget_ != nullptr) {
    for (size_t i = 0; i < connections_; ++i) budget_->Release(options_.buf_alloc);
  }
}

// ---- tables ----

Endpoint::Key Endpoint::KeyOf(const Connection& connection) {
  return {connection.local_.port, connection.peer_.cid, connection.peer_.port};
}

PeerRecord& Endpoint::Record(uint32_t cid) { return peers_.try_emplace(cid, cid).first->second; }

Connection* Endpoint::Make(PeerRecord& record, Address local, Address peer, uint16_t type) {
  if (connections_ >= options_.max_connections ||
      (budget_ != nullptr && !budget_->Reserve(options_.buf_alloc))) {
    ++counters_.refused_limit;
    return nullptr;
  }
  ++connections_;
  Connection& connection = record.connections.emplace_back(*this, record, local, peer, type);
  connection.self_ = std::prev(record.connections.end());
  table_.emplace(KeyOf(connection), &connection);
  return &connection;
}

void Endpoint::Detach(Connection& connection) {
  table_.erase(KeyOf(connection));
  if (connection.in_owing_) connection.record_.owing.erase(connection.owing_place_);
  if (connection.in_waiting_) connection.record_.waiting.erase(connection.waiting_place_);
  connection.in_owing_ = connection.in_waiting_ = false;
}

void Endpoint::Finish(Connection& connection, End end) {
  if (connection.ended_) return;
  connection.ended_ = true;
  const bool draining = connection.state_ == Connection::State::kDraining;
  if (!draining) Detach(connection);
  SetDeadline(connection, absl::InfiniteFuture());
  Accepted(connection);
  connection.inbox_.reset();
  graveyard_.splice(graveyard_.end(), draining ? draining_ : connection.record_.connections,
                    connection.self_);
  --connections_;
  if (budget_ != nullptr) budget_->Release(options_.buf_alloc);
  connection.early_end_ = end;
  if (connection.user_ != nullptr) connection.user_->OnEnded(connection, end);
}

void Endpoint::SetDeadline(Connection& connection, absl::Time deadline) {
  if (connection.deadline_ == deadline) return;
  if (connection.deadline_ != absl::InfiniteFuture()) {
    timers_.erase({connection.deadline_, connection.id_});
  }
  connection.deadline_ = deadline;
  if (deadline != absl::InfiniteFuture()) {
    timers_.emplace(TimerKey(deadline, connection.id_), &connection);
  }
}

// ---- the program's side ----

absl::StatusOr<Connection*> Endpoint::Connect(uint32_t local_port, Address peer, uint16_t type,
                                              absl::Duration timeout, ConnectionUser* user) {
  Call call(*this);
  if (!KnownType(type)) {
    return ErrnoError(ESOCKTNOSUPPORT, "a connection is a stream or a sequence of packets");
  }
  if (peer.cid == kCidLocal) peer.cid = cid();
  if (link_.Reaches(peer.cid) == Link::Reach::kNobody) {
    return ErrnoError(ENODEV, absl::StrCat("no CID ", peer.cid, " behind this carrier"));
  }
  // A connection to itself from its own port would be both of its ends.
  const auto taken = [&](uint32_t port) {
    return listeners_.contains(port) || table_.contains(Key{port, peer.cid, peer.port}) ||
           (peer.cid == cid() &&
            (port == peer.port || table_.contains(Key{peer.port, peer.cid, port})));
  };
  if (local_port == kPortAny) {
    local_port = AutomaticPort(next_port_, taken);
  } else if (taken(local_port)) {
    return ErrnoError(EADDRINUSE, absl::StrCat("port ", local_port, " is taken"));
  }
  PeerRecord& record = Record(peer.cid);
  Connection* connection = Make(record, {cid(), local_port}, peer, type);
  if (connection == nullptr) {
    return ErrnoError(ENOBUFS, "too many connections: close some, or raise the limit");
  }
  connection->user_ = user;
  SetDeadline(*connection, now_ + timeout);
  connection->Owe(Connection::kOwedRequest);
  return connection;
}

absl::StatusOr<uint32_t> Endpoint::Listen(uint32_t port, uint16_t type, int backlog,
                                          ListenerUser* user) {
  if (!KnownType(type)) {
    return ErrnoError(ESOCKTNOSUPPORT, "a listener takes streams or sequences of packets");
  }
  const auto taken = [&](uint32_t p) { return listeners_.contains(p); };
  if (port == kPortAny) {
    port = AutomaticPort(next_port_, taken);
  } else if (taken(port)) {
    return ErrnoError(EADDRINUSE, absl::StrCat("port ", port, " is taken"));
  }
  listeners_[port] = Listener{type, std::clamp(backlog, 1, kMaxBacklog), 0, user};
  return port;
}

void Endpoint::StopListening(uint32_t port) {
  Call call(*this);
  if (listeners_.erase(port) == 0) return;
  std::vector<Connection*> unaccepted;
  for (auto& [cid, record] : peers_) {
    for (Connection& c : record.connections) {
      if (c.unaccepted_ && c.local_.port == port) unaccepted.push_back(&c);
    }
  }
  for (Connection& c : draining_) {
    if (c.unaccepted_ && c.local_.port == port) unaccepted.push_back(&c);
  }
  // They count against no backlog any more, whoever listens at this port by the time they end.
  for (Connection* c : unaccepted) c->unaccepted_ = false;
  for (Connection* c : unaccepted) c->Reset();
}

void Endpoint::Accepted(Connection& connection) {
  if (!connection.unaccepted_) return;
  connection.unaccepted_ = false;
  --listeners_.at(connection.local_.port).pending;
}

absl::StatusOr<uint32_t> Endpoint::BindDatagram(uint32_t port, DatagramUser* user) {
  const auto taken = [&](uint32_t p) { return datagrams_.contains(p); };
  if (port == kPortAny) {
    port = AutomaticPort(next_port_, taken);
  } else if (taken(port)) {
    return ErrnoError(EADDRINUSE, absl::StrCat("datagram port ", port, " is taken"));
  }
  datagrams_[port] = user;
  return port;
}

void Endpoint::CloseDatagram(uint32_t port) { datagrams_.erase(port); }

absl::Status Endpoint::SendDatagram(uint32_t from_port, Address to, const Payload& datagram) {
  absl::Status status = TrySendDatagram(from_port, to, datagram);
  if (!status.ok()) ++counters_.datagram_unsent;
  return status;
}

absl::Status Endpoint::TrySendDatagram(uint32_t from_port, Address to, const Payload& datagram) {
  Call call(*this);
  if (to.cid == kCidLocal) to.cid = cid();
  switch (link_.Reaches(to.cid)) {
    case Link::Reach::kNobody:
      return ErrnoError(ENODEV, absl::StrCat(ToString(to), ": no such CID behind this carrier"));
    case Link::Reach::kStarting:
      return ErrnoError(EAGAIN, absl::StrCat(ToString(to), ": not up yet, try again"));
    case Link::Reach::kUp:
      break;
  }
  const uint32_t max = link_.MaxPayload(to.cid);
  if (datagram.size() > max) {
    return ErrnoError(
        EMSGSIZE, absl::StrCat("datagram of ", datagram.size(), " bytes: the largest is ", max));
  }
  if (!link_.CanSend(to.cid)) {
    return ErrnoError(EAGAIN, absl::StrCat(ToString(to), ": no room on the way, try again"));
  }
  Header header;
  header.src_cid = cid();
  header.dst_cid = to.cid;
  header.src_port = from_port;
  header.dst_port = to.port;
  header.len = static_cast<uint32_t>(datagram.size());
  header.type = VSOCK_TYPE_DGRAM;
  header.op = VSOCK_OP_RW;
  ++counters_.packets_out;
  link_.Send(header, datagram);
  return absl::OkStatus();
}

// ---- the clock ----

void Endpoint::Advance(absl::Time now) {
  TellTime(now);
  CarrierCall call(*this);
  while (!timers_.empty() && timers_.begin()->first.first <= now_) {
    Connection& connection = *timers_.begin()->second;
    SetDeadline(connection, absl::InfiniteFuture());
    connection.OnDeadline();
  }
}

absl::Time Endpoint::NextDeadline() const {
  if (!lost_.empty()) return now_;
  return timers_.empty() ? absl::InfiniteFuture() : timers_.begin()->first.first;
}

// ---- the carrier's side ----

void Endpoint::OnPacket(uint64_t src_cid, const Header& header, const Payload& payload) {
  CarrierCall call(*this);
  ++counters_.packets_in;
  if (header.src_cid != src_cid || src_cid >= kCidAny) {
    ++counters_.drop_source;
    return;
  }
  if (header.dst_cid != cid()) {
    ++counters_.drop_destination;
    return;
  }
  if (header.type == VSOCK_TYPE_DGRAM) return ReceiveDatagram(header, payload);
  if (!KnownType(header.type)) {
    ++counters_.drop_type;
    return Refuse(header);
  }
  const auto found =
      table_.find(Key{header.dst_port, static_cast<uint32_t>(header.src_cid), header.src_port});
  if (found != table_.end()) {
    Connection& connection = *found->second;
    if (connection.type_ == header.type) return connection.Receive(header, payload);
    if (header.op != VSOCK_OP_RST) connection.Breach(counters_.breach_state);
    return;
  }
  if (header.op == VSOCK_OP_REQUEST) return ReceiveRequest(header);
  ++counters_.drop_no_connection;
  Refuse(header);
}

void Endpoint::ReceiveRequest(const Header& header) {
  const auto found = listeners_.find(header.dst_port);
  if (found == listeners_.end()) return AskForPort(header);
  if (found->second.type != header.type) {
    ++counters_.drop_no_connection;
    return Refuse(header);
  }
  Listener& listener = found->second;
  if (listener.pending >= listener.backlog) {
    ++counters_.refused_backlog;
    return Refuse(header);
  }
  Connection* connection = MakeIncoming(header);
  if (connection == nullptr) return Refuse(header);
  ++counters_.connected;
  ++listener.pending;
  connection->unaccepted_ = true;
  connection->Owe(Connection::kOwedResponse);
  ConnectionUser* user = listener.user->OnIncoming(*connection);
  connection->user_ = user;
  if (connection->ended_) user->OnEnded(*connection, connection->early_end_);
}

void Endpoint::AskForPort(const Header& header) {
  Connection* connection = request_user_ != nullptr ? MakeIncoming(header) : nullptr;
  if (request_user_ == nullptr) ++counters_.drop_no_connection;
  if (connection == nullptr) return Refuse(header);
  ConnectionUser* user = request_user_->OnRequest(*connection);
  if (user == nullptr) {
    Finish(*connection, End::kRefused);
    ++counters_.drop_no_connection;
    return Refuse(header);
  }
  connection->user_ = user;
  if (connection->state_ == Connection::State::kAnswering) return;
  ++counters_.connected;
  connection->Owe(Connection::kOwedResponse);
}

Connection* Endpoint::MakeIncoming(const Header& header) {
  const uint32_t peer_cid = static_cast<uint32_t>(header.src_cid);
  Connection* connection =
      Make(Record(peer_cid), {cid(), header.dst_port}, {peer_cid, header.src_port}, header.type);
  if (connection == nullptr) return nullptr;
  connection->state_ = Connection::State::kConnected;
  connection->peer_buf_alloc_ = header.buf_alloc;
  return connection;
}

void Endpoint::ReceiveDatagram(const Header& header, const Payload& payload) {
  if (header.op != VSOCK_OP_RW) {
    ++counters_.drop_op;
    return;
  }
  const auto found = datagrams_.find(header.dst_port);
  const Address from{static_cast<uint32_t>(header.src_cid), header.src_port};
  if (found != datagrams_.end() && found->second->OnDatagram(from, payload)) {
    ++counters_.datagram_delivered;
  } else {
    ++counters_.datagram_dropped;
  }
}

void Endpoint::Refuse(const Header& header) {
  if (header.op == VSOCK_OP_RST) return;
  Header reset;
  reset.src_cid = header.dst_cid;
  reset.dst_cid = header.src_cid;
  reset.src_port = header.dst_port;
  reset.dst_port = header.src_port;
  reset.type = header.type;
  reset.op = VSOCK_OP_RST;
  ++counters_.reset_sent;
  SendRefusal(Record(static_cast<uint32_t>(header.src_cid)), reset);
}

void Endpoint::SendRefusal(PeerRecord& record, const Header& reset) {
  if (MaySendLast(record)) {
    ++counters_.packets_out;
    link_.Send(reset, {});
    return;
  }
  // A peer that goes on sending to a connection that is gone is told once.
  for (const Header& owed : record.owed_refusals) {
    if (owed.src_port == reset.src_port && owed.dst_port == reset.dst_port &&
        owed.type == reset.type) {
      return;
    }
  }
  if (record.owed_refusals.size() < kMaxOwedResets) {
    record.owed_refusals.push_back(reset);
  } else {
    ++counters_.lost_resets;
  }
}

bool Endpoint::MaySendLast(const PeerRecord& record) const {
  return record.owed_last.empty() && record.owed_refusals.empty() && link_.CanSend(record.cid);
}

void Endpoint::SendLast(PeerRecord& record, const Header& header) {
  if (!MaySendLast(record)) {
    record.owed_last.push_back(header);
    return;
  }
  ++counters_.packets_out;
  link_.Send(header, {});
}

// Sends from the front of what is owed while the carrier takes it; false if the session ended, and the list with it.
bool Endpoint::SendOwed(PeerRecord& record, std::vector<Header>& owed) {
  const uint32_t generation = record.generation;
  size_t sent = 0;
  while (sent < owed.size() && link_.CanSend(record.cid)) {
    const Header header = owed[sent++];
    ++counters_.packets_out;
    link_.Send(header, {});
    if (record.generation != generation) return false;
  }
  owed.erase(owed.begin(), owed.begin() + sent);
  return true;
}

void Endpoint::OnCanSend(uint64_t cid) {
  CarrierCall call(*this);
  const auto found = cid < kCidAny ? peers_.find(static_cast<uint32_t>(cid)) : peers_.end();
  if (found == peers_.end()) return;
  PeerRecord& record = found->second;
  if (!SendOwed(record, record.owed_last) || !SendOwed(record, record.owed_refusals)) return;
  while (!record.owing.empty() && MaySendLast(record)) {
    Connection& connection = *record.owing.front();
    record.owing.pop_front();
    connection.in_owing_ = false;
    connection.Flush();
  }
  // Each that waits now has one turn; who comes back waits behind the others.
  for (size_t turns = record.waiting.size();
       turns > 0 && !record.waiting.empty() && link_.CanSend(cid); --turns) {
    Connection& connection = *record.waiting.front();
    record.waiting.pop_front();
    connection.in_waiting_ = false;
    if (connection.MaySend()) connection.user_->OnCanSend(connection);
  }
}

void Endpoint::OnPeerReset(uint64_t cid) {
  Call call(*this);
  const auto found = cid < kCidAny ? peers_.find(static_cast<uint32_t>(cid)) : peers_.end();
  if (found == peers_.end()) return;
  ++found->second.generation;
  found->second.owed_last.clear();
  found->second.owed_refusals.clear();
  lost_.push_back(&found->second);
  if (depth_ == 1) EndLost();
}

void Endpoint::EndLost() {
  while (!lost_.empty()) {
    PeerRecord& record = *lost_.back();
    lost_.pop_back();
    // What users start from inside OnEnded() belongs to the new session and stands behind.
    while (!record.connections.empty() &&
           record.connections.front().generation_ != record.generation) {
      Connection& connection = record.connections.front();
      if (connection.peer_shutdown_ == (VSOCK_SHUTDOWN_SEND | VSOCK_SHUTDOWN_RCV)) {
        // The peer had closed it: all that it sent is here, and is delivered.
        connection.clean_ = connection.all_taken();
        connection.StartDraining();
      } else {
        Finish(connection, End::kCarrierLost);
      }
    }
  }
}

}  // namespace argosy::packet
