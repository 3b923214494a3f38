// SPDX-License-Identifier: Apache-2.0
#include "sim/simulation/simulation.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "backends/argo/core/link.h"

namespace argosy::sim {

using packet::Connection;
using packet::Header;
using packet::Payload;

namespace {

constexpr uint32_t kStreamPort = 1024;
constexpr uint32_t kMessagePort = 1025;
constexpr uint32_t kDatagramPort = 99;
// What a program of the encore sends at most.
constexpr uint32_t kEncoreBytes = 30'000;
constexpr uint32_t kEncoreMessages = 300;
constexpr size_t kAmpleBudget = size_t{1} << 30;
// A number, then noise.
constexpr size_t kDatagramHead = sizeof(uint64_t);

absl::string_view NameOfOp(uint16_t op) {
  constexpr absl::string_view kNames[] = {"op 0",     "REQUEST", "RESPONSE",      "RST",
                                          "SHUTDOWN", "RW",      "CREDIT_UPDATE", "CREDIT_REQUEST"};
  return op < std::size(kNames) ? kNames[op] : "unknown op";
}

uint64_t Refusals(const packet::Endpoint& endpoint) {
  const packet::Endpoint::Counters& c = endpoint.counters();
  return c.refused_backlog + c.refused_limit + c.drop_no_connection;
}

bool HasSession(const argo_peer* peer) {
  return peer != nullptr && (peer->state == ARGO_PEER_READY || peer->state == ARGO_PEER_BLOCKED);
}

}  // namespace

// Makes a program for each connection that comes in.
class Simulation::Listener : public packet::ListenerUser {
 public:
  Listener(Simulation& simulation, Host& host) : simulation_(simulation), host_(host) {}
  packet::ConnectionUser* OnIncoming(Connection& connection) override {
    return simulation_.Accept(host_, connection);
  }

 private:
  Simulation& simulation_;
  Host& host_;
};

class Simulation::DatagramPort : public packet::DatagramUser {
 public:
  DatagramPort(Simulation& simulation, Host& host) : simulation_(simulation), host_(host) {}
  bool OnDatagram(Address from, const Payload& datagram) override {
    return simulation_.ReceiveDatagram(host_, from, datagram);
  }

 private:
  Simulation& simulation_;
  Host& host_;
};

// One domain, through all its lives; and what stands between its driver and its endpoint, to see
// the packets.
class Simulation::Host : public packet::LinkUser {
 public:
  Host(Simulation& simulation, DomainConfig config, bool is_hostile)
      : config(std::move(config)),
        hostile(is_hostile),
        listener(simulation, *this),
        datagrams(simulation, *this),
        simulation_(simulation) {}

  bool alive() const { return domain != nullptr; }
  // Whether it runs at this step.
  bool runs(uint32_t step) const { return alive() && step >= held_until; }
  uint16_t domid() const { return config.domid; }

  // packet::LinkUser
  void OnPacket(uint64_t src_cid, const Header& header, const Payload& payload) override {
    const uint64_t refusals = Refusals(domain->endpoint());
    simulation_.Observe(*this, src_cid, header);
    domain->endpoint().OnPacket(src_cid, header, payload);
    if (header.op != VSOCK_OP_REQUEST || Refusals(domain->endpoint()) == refusals) return;
    auto client = simulation_.clients_.find(header.src_port);
    if (client != simulation_.clients_.end()) client->second->MayBeRefused();
  }
  void OnCanSend(uint64_t cid) override { domain->endpoint().OnCanSend(cid); }
  void OnPeerReset(uint64_t cid) override {
    simulation_.SessionLost(domid(), cid);
    domain->endpoint().OnPeerReset(cid);
  }

  const DomainConfig config;
  const bool hostile;
  Listener listener;
  DatagramPort datagrams;
  Domain* domain = nullptr;
  std::unique_ptr<Attacker> attacker;
  uint32_t held_until = 0;    // step: its interrupts wait
  uint32_t paused_until = 0;  // step
  bool listens = false;
  bool overwrote_tx = false;  // of one of its rings, in this life

 private:
  Simulation& simulation_;
};

Simulation::Simulation(uint64_t seed, Journal::Reader reader)
    : random_(seed), journal_(std::move(reader)), plan_(Plan::FromSeed(random_)) {
  journal_.Note([&] { return absl::StrCat("seed ", seed, ": ", plan_.Describe()); });
  machine_ = std::make_unique<Machine>(
      Machine::Options{.seed = random_.Next(), .buffer_budget = plan_.buffer_budget});
  machine_->hypervisor().set_faults(this);
  machine_->Advance(now_);
  for (const DomainConfig& config : plan_.domains) {
    const bool hostile = plan_.hostile == config.domid;
    for (const DomainConfig& other : plan_.domains) {
      if (hostile) PairOf(config.domid, other.domid).hostile = true;
    }
    hosts_.push_back(std::make_unique<Host>(*this, config, hostile));
  }
  for (const auto& host : hosts_) Boot(host->domid());
}

Simulation::~Simulation() { machine_->hypervisor().set_faults(nullptr); }

void Simulation::Run() {
  Chaos();
  if (!journal_.found() && plan_.hostile) UnderAttack();
  if (!journal_.found()) Heal();
  if (!journal_.found()) CheckMeeting();
  if (!journal_.found()) Encore();
  if (!journal_.found()) CheckLeaks();
  const Hypervisor::Counters& counters = machine_->hypervisor().counters();
  journal_.Count(Fault::kRingFull, counters.eagain);
  journal_.Count(Fault::kInterruptCoalesced,
                 counters.virqs - std::min(counters.virqs, interrupts_));
  journal_.tally().virtual_ms += absl::ToInt64Milliseconds(now_ - absl::UnixEpoch());
}

// ---- faults inside of hypercalls ----

bool Simulation::OutOfMemory(uint16_t caller, uint32_t command) {
  if (!faults_on_) return false;
  if (command == ARGO_OP_SENDV && random_.PerMille(plan_.no_memory_per_mille)) {
    journal_.Note(Fault::kOutOfMemory, [&] { return absl::StrCat("dom", caller); });
    return true;
  }
  if (command == ARGO_OP_REGISTER_RING && random_.PerMille(plan_.no_ring_per_mille)) {
    journal_.Note(Fault::kRegistrationRefused, [&] { return absl::StrCat("dom", caller); });
    return true;
  }
  return false;
}

bool Simulation::NoPlaceToWait(uint16_t owner, uint16_t waiter) {
  if (!faults_on_ || !random_.PerMille(plan_.no_place_per_mille)) return false;
  journal_.Note(Fault::kNoPlaceToWait,
                [&] { return absl::StrCat("dom", waiter, " for dom", owner); });
  return true;
}

// ---- the machine ----

Pair& Simulation::PairOf(uint16_t a, uint16_t b) { return pairs_[std::min(a, b)][std::max(a, b)]; }

bool& Simulation::SpoiledBy(Pair& pair, uint16_t owner, uint16_t partner) {
  return owner < partner ? pair.low_spoiled : pair.high_spoiled;
}

bool Simulation::InSession(uint16_t a, uint16_t b) {
  Domain* one = machine_->Find(a);
  Domain* two = machine_->Find(b);
  if (one == nullptr || two == nullptr) return false;
  const argo_peer* there = one->link().peer(b);
  const argo_peer* back = two->link().peer(a);
  return HasSession(there) && HasSession(back) && there->incarnation == back->heard &&
         back->incarnation == there->heard;
}

void Simulation::Boot(uint16_t domid) {
  Host& host = *hosts_[domid];
  absl::StatusOr<Domain*> domain = machine_->Create(host.config);
  host.domain = domain.value();  // only the system's own limits can fail it
  host.domain->link().set_user(&host);
  packet::Endpoint& endpoint = host.domain->endpoint();
  (void)endpoint.BindDatagram(kDatagramPort, &host.datagrams);
  host.listens = host.overwrote_tx = false;
  host.held_until = host.paused_until = 0;
  if (host.hostile) {
    host.attacker = std::make_unique<Attacker>(random_, journal_, *machine_, *host.domain);
  }
}

void Simulation::Kill(uint16_t domid, bool announced) {
  Host& host = *hosts_[domid];
  for (Program* program : active_) {
    if (&program->endpoint() == &host.domain->endpoint()) program->Die();
  }
  Sweep();
  for (const auto& other : hosts_) {
    Pair& pair = PairOf(domid, other->domid());
    ++pair.disturbances;
    bool& spoiled = SpoiledBy(pair, domid, other->domid());
    if (spoiled) ++pair.spoilings;
    spoiled = false;
  }
  host.attacker.reset();
  host.domain = nullptr;
  (void)(announced ? machine_->Kill(domid) : machine_->KillUnannounced(domid));
}

Simulation::Host* Simulation::AnyHost() {
  Host* host = hosts_[random_.Below(static_cast<uint32_t>(hosts_.size()))].get();
  return host->alive() ? host : nullptr;
}

void Simulation::PassTime(absl::Duration d) {
  now_ += d;
  journal_.set_now(now_ - absl::UnixEpoch());
  machine_->Advance(now_);
}

void Simulation::Handle(Host& host) {
  ++interrupts_;
  host.domain->HandleInterrupt();
  CheckBounds(host);
}

void Simulation::Settle() {
  // Two domains that answer each other for ever would be a finding of its own: nothing would end.
  for (int i = 0; i < 1000; ++i) {
    bool any = false;
    for (const auto& host : hosts_) {
      if (!host->runs(step_) || !host->domain->interrupt_pending()) continue;
      Handle(*host);
      any = true;
    }
    if (!any) return;
  }
}

// ---- programs ----

Program* Simulation::AddProgram(Host& host, Pair& pair, bool unsettled, uint16_t type,
                                std::string name) {
  programs_.emplace_back(random_, journal_, host.domain->endpoint(), pair, unsettled, type,
                         std::move(name));
  active_.push_back(&programs_.back());
  return active_.back();
}

uint64_t Simulation::EncoreGoal(uint16_t type) {
  return random_.Below(type == VSOCK_TYPE_STREAM ? kEncoreBytes : kEncoreMessages);
}

void Simulation::Listen(Host& host, int backlog) {
  packet::Endpoint& endpoint = host.domain->endpoint();
  (void)endpoint.Listen(kStreamPort, VSOCK_TYPE_STREAM, backlog, &host.listener);
  (void)endpoint.Listen(kMessagePort, VSOCK_TYPE_SEQPACKET, backlog, &host.listener);
  host.listens = true;
}

void Simulation::StopListening(Host& host) {
  for (Program* program : active_) {
    if (&program->endpoint() == &host.domain->endpoint()) program->ListenerCloses();
  }
  host.domain->endpoint().StopListening(kStreamPort);
  host.domain->endpoint().StopListening(kMessagePort);
  host.listens = false;
}

void Simulation::Connect() {
  Host* from = AnyHost();
  if (from == nullptr) return;
  ConnectTo(*from, *hosts_[random_.Below(static_cast<uint32_t>(hosts_.size()))]);
}

void Simulation::ConnectTo(Host& from, Host& to) {
  const uint16_t type = random_.OneIn(3) ? VSOCK_TYPE_SEQPACKET : VSOCK_TYPE_STREAM;
  const uint32_t port = type == VSOCK_TYPE_STREAM ? kStreamPort : kMessagePort;
  const uint32_t local_port = next_port_++;
  const Address peer = {to.domid() + kArgoCidOffset, port};
  Program* client =
      AddProgram(from, PairOf(from.domid(), to.domid()), !InSession(from.domid(), to.domid()), type,
                 absl::StrCat("dom", from.domid(), ":", local_port, ">dom", to.domid()));
  // Known before REQUEST goes out: it may be answered within the call to a domain's own listener.
  clients_[local_port] = client;
  absl::StatusOr<Connection*> connection =
      from.domain->endpoint().Connect(local_port, peer, type, packet::kConnectTimeout, client);
  journal_.Note(
      [&] { return absl::StrCat(client->name(), " connects: ", connection.status().ToString()); });
  if (encore_) client->BePlain(EncoreGoal(type));
  if (connection.ok()) {
    client->Begin(*connection, true);
  } else {
    client->Die();  // no such domain, or no budget left
    Sweep();
  }
}

packet::ConnectionUser* Simulation::Accept(Host& host, Connection& connection) {
  const uint16_t from = DomidOf(connection.peer().cid);
  Program* server = AddProgram(
      host, PairOf(from, host.domid()), !InSession(from, host.domid()), connection.type(),
      absl::StrCat("dom", host.domid(), "<dom", from, ":", connection.peer().port));
  auto client = clients_.find(connection.peer().port);
  if (client != clients_.end() && !hosts_[from]->hostile) {
    server->Meet(client->second);
    client->second->Meet(server);
  }
  if (encore_) server->BePlain(EncoreGoal(connection.type()));
  server->Begin(&connection, false);
  return server;
}

void Simulation::Sweep() {
  active_.erase(std::remove_if(active_.begin(), active_.end(),
                               [](const Program* program) { return program->over(); }),
                active_.end());
}

void Simulation::ActSome() {
  if (active_.size() < 2 * plan_.connections && random_.OneIn(active_.size() < 4 ? 2 : 12)) {
    Connect();
    return;
  }
  if (random_.OneIn(16)) {
    Host* from = AnyHost();
    Host* to = AnyHost();
    if (from != nullptr && to != nullptr && !from->hostile) SendDatagram(*from, *to);
    return;
  }
  if (active_.empty()) return;
  Program* program = active_[random_.Below(static_cast<uint32_t>(active_.size()))];
  for (const auto& host : hosts_) {
    if (host->alive() && &host->domain->endpoint() == &program->endpoint()) {
      if (host->domain->paused()) return;
      program->Act();
      CheckBounds(*host);
      break;
    }
  }
  Sweep();
}

void Simulation::SendDatagram(Host& from, Host& to) {
  // Small enough for every ring.
  const uint32_t size = random_.Skewed(encore_ ? 11 : 13);
  std::vector<uint8_t> bytes(kDatagramHead + size);
  const uint64_t number = datagrams_.size();
  std::memcpy(bytes.data(), &number, kDatagramHead);
  const absl::Span<const uint8_t> noise = Noise(number, 0, size);
  std::copy(noise.begin(), noise.end(), bytes.begin() + kDatagramHead);
  const absl::Status status = from.domain->endpoint().SendDatagram(
      kDatagramPort, {to.domid() + kArgoCidOffset, kDatagramPort}, Payload(bytes));
  if (!status.ok()) return;
  datagrams_.push_back({from.domid(), to.domid(), size});
}

bool Simulation::ReceiveDatagram(Host& host, Address from, const Payload& payload) {
  const uint16_t domid = DomidOf(from.cid);
  const Pair& pair = PairOf(domid, host.domid());
  if (!pair.sane()) return random_.OneIn(2);
  uint64_t number = datagrams_.size();
  if (payload.size() >= kDatagramHead) {
    payload.Prefix(kDatagramHead).CopyTo(reinterpret_cast<uint8_t*>(&number));
  }
  const bool known = number < datagrams_.size();
  journal_.Check(Oracle::kDatagrams,
                 known && datagrams_[number].from == domid &&
                     datagrams_[number].to == host.domid() && from.port == kDatagramPort &&
                     !datagrams_[number].taken &&
                     payload.size() == kDatagramHead + datagrams_[number].size &&
                     IsNoise(number, 0, payload.Skip(kDatagramHead)),
                 [&] {
                   return absl::StrCat("number ", number, " of ", payload.size(), " bytes from ",
                                       ToString(from), " at dom", host.domid());
                 });
  if (!known || (!encore_ && random_.OneIn(4))) return false;
  datagrams_[number].taken = true;
  return true;
}

void Simulation::CheckBounds(Host& host) {
  if (!host.alive()) return;
  Domain& domain = *host.domain;
  const auto check = [&](bool within, absl::string_view what, uint64_t value) {
    journal_.Check(Oracle::kBounds, within,
                   [&] { return absl::StrCat(what, " ", value, " at dom", host.domid()); });
  };
  for (const auto& other : hosts_) {
    const argo_peer* peer = domain.link().peer(other->domid());
    if (peer == nullptr) continue;
    check(peer->queue_count <= ARGO_LINK_QUEUE, "packets queued", peer->queue_count);
    check((peer->state == ARGO_PEER_BLOCKED) == (peer->queue_count > 0),
          "not blocked, but packets queued", peer->queue_count);
  }
  for (const Program* program : active_) {
    if (&program->endpoint() != &domain.endpoint() || program->connection() == nullptr) continue;
    const size_t buffered = program->connection()->buffered();
    check(buffered <= host.config.buf_alloc, "bytes kept", buffered);
  }
  for (const auto& other : hosts_) {
    const size_t owed = domain.endpoint().owed(other->domid() + kArgoCidOffset);
    check(owed <= packet::kMaxOwedResets + most_connections_, "packets owed", owed);
  }
  most_connections_ = std::max(most_connections_, 2 * domain.endpoint().connections());
  check(machine_->reserved() <= machine_->budget(), "bytes reserved", machine_->reserved());
  // A packet that the link could not take ends a session; only who never drains can bring it there.
  check(plan_.hostile.has_value() || domain.link().drop_unsent() == 0, "packets dropped",
        domain.link().drop_unsent());
}

// ---- what is seen ----

void Simulation::Observe(Host& host, uint64_t src_cid, const Header& header) {
  ++journal_.tally().packets;
  journal_.Note([&] {
    return absl::StrCat("dom", host.domid(), " <- dom", src_cid - kArgoCidOffset, " ",
                        NameOfOp(header.op), " ", header.src_port, ">", header.dst_port, " len ",
                        header.len, " flags ", header.flags, " fwd ", header.fwd_cnt, " alloc ",
                        header.buf_alloc);
  });
  if (header.src_cid != src_cid || header.type == VSOCK_TYPE_DGRAM) return;
  const Pair& pair = PairOf(DomidOf(static_cast<uint32_t>(src_cid)), host.domid());
  if (!pair.sane()) return;
  const std::pair<uint32_t, uint32_t> source = {static_cast<uint32_t>(src_cid), header.src_port};
  const std::pair<uint32_t, uint32_t> here = {host.domid() + kArgoCidOffset, header.dst_port};
  if (header.op == VSOCK_OP_RST) return;  // its fields may be blank
  if (header.op == VSOCK_OP_REQUEST) {
    flows_[{here, source}] = {.disturbances = pair.disturbances};
    flows_[{source, here}] = {.disturbances = pair.disturbances};
    return;
  }
  Flow& back = flows_[{here, source}];
  if (const Program* teller = Teller(header); teller != nullptr) {
    journal_.Check(Oracle::kCredit, header.fwd_cnt <= teller->received(), [&] {
      return absl::StrCat("told ", header.fwd_cnt, " bytes as taken: ", teller->Describe());
    });
  }
  if (static_cast<int32_t>(header.fwd_cnt - back.acknowledged) > 0) {
    back.acknowledged = header.fwd_cnt;
  }
  if (header.op != VSOCK_OP_RW) return;
  Flow& flow = flows_[{source, here}];
  flow.sent += header.len;
  if (flow.disturbances != pair.disturbances) return;
  // What the sender had been told by now is at least what it knew when it sent.
  journal_.Check(Oracle::kCredit, flow.sent - flow.acknowledged <= host.config.buf_alloc, [&] {
    return absl::StrCat(flow.sent, " bytes sent, ", flow.acknowledged, " acknowledged, room for ",
                        host.config.buf_alloc, " at dom", host.domid(), ":", header.dst_port);
  });
}

const Program* Simulation::Teller(const Header& header) const {
  const auto sender = clients_.find(header.src_port);
  if (sender != clients_.end()) return sender->second;
  const auto client = clients_.find(header.dst_port);
  return client == clients_.end() ? nullptr : client->second->peer();
}

void Simulation::SessionLost(uint16_t domid, uint64_t cid) {
  const auto partner = static_cast<uint16_t>(cid - kArgoCidOffset);
  journal_.Note([&] { return absl::StrCat("dom", domid, " lost its session with dom", partner); });
  if (partner >= hosts_.size()) return;
  Pair& pair = PairOf(domid, partner);
  bool& spoiled = SpoiledBy(pair, domid, partner);
  if (!spoiled) return;
  spoiled = false;  // the next session has a new ring
  ++pair.disturbances;
  ++pair.spoilings;
}

// ---- chaos ----

void Simulation::Chaos() {
  for (uint32_t i = 0; i < 1 + plan_.connections / 2; ++i) Connect();
  for (step_ = 0; step_ < plan_.steps && !journal_.found(); ++step_) Step();
}

void Simulation::Step() {
  for (const auto& host : hosts_) {
    if (!host->alive()) continue;
    if (host->domain->paused() && step_ >= host->paused_until) host->domain->set_paused(false);
    if (!host->listens && (step_ == 0 || random_.OneIn(50))) {
      Listen(*host, static_cast<int>(random_.Between(1, 20)));
    }
  }
  if (random_.PerMille(plan_.faults_per_mille) && !plan_.faults.empty()) {
    Inject(plan_.faults[random_.Below(static_cast<uint32_t>(plan_.faults.size()))]);
  } else if (!plan_.attacks.empty() && random_.OneIn(10)) {
    Host* victim = AnyHost();
    if (victim != nullptr) {
      Attack(plan_.attacks[random_.Below(static_cast<uint32_t>(plan_.attacks.size()))], *victim);
    }
  } else {
    const uint32_t what = random_.Below(20);
    if (what < 11) {
      ActSome();
    } else if (what < 18) {
      Host* host = AnyHost();
      if (host != nullptr && host->runs(step_) && host->domain->interrupt_pending()) Handle(*host);
    } else if (random_.OneIn(2)) {
      PassTime(absl::Microseconds(random_.Skewed(22)));  // up to 4 s, mostly little
    } else {
      // To the next timer, which the driver may be late for.
      const absl::Time next = machine_->NextDeadline();
      if (next > now_ && next < absl::InfiniteFuture()) PassTime(next - now_);
    }
  }
  Sweep();
  if (random_.PerMille(plan_.prompt_per_mille)) Settle();
  Sweep();
}

void Simulation::Inject(Fault fault) {
  Host* host = AnyHost();
  switch (fault) {
    case Fault::kInterruptDelayed:
      if (host == nullptr || !host->domain->interrupt_pending()) return;
      host->held_until = step_ + random_.Between(2, 200);
      journal_.Note(fault, [&] { return absl::StrCat("dom", host->domid()); });
      break;
    case Fault::kInterruptLost:
      if (host == nullptr || !host->domain->interrupt_pending()) return;
      ++interrupts_;
      host->domain->LoseInterrupt();
      journal_.Note(fault, [&] { return absl::StrCat("dom", host->domid()); });
      break;
    case Fault::kKilled:
    case Fault::kKilledUnannounced:
      // The others have to have somebody left; who is dead comes back now and then.
      if (host == nullptr) return;
      journal_.Note(fault, [&] { return absl::StrCat("dom", host->domid()); });
      Kill(host->domid(), fault == Fault::kKilled);
      break;
    case Fault::kRestarted: {
      Host& any = *hosts_[random_.Below(static_cast<uint32_t>(hosts_.size()))];
      journal_.Note(fault, [&] { return absl::StrCat("dom", any.domid()); });
      if (any.alive()) Kill(any.domid(), random_.OneIn(2));
      Boot(any.domid());
      break;
    }
    case Fault::kPaused:
      if (host == nullptr) return;
      host->domain->set_paused(true);
      host->paused_until = step_ + random_.Between(2, 300);
      journal_.Note(fault, [&] { return absl::StrCat("dom", host->domid()); });
      break;
    case Fault::kOwnPointersCorrupted:
      if (host != nullptr) Corrupt(*host);
      break;
    case Fault::kReaderStalled:
      if (active_.empty()) return;
      active_[random_.Below(static_cast<uint32_t>(active_.size()))]->Stall();
      journal_.Count(fault);
      break;
    case Fault::kListenerClosed:
      if (host == nullptr || !host->listens) return;
      journal_.Note(fault, [&] { return absl::StrCat("dom", host->domid()); });
      StopListening(*host);
      break;
    case Fault::kClockAhead:
      journal_.Count(fault);
      PassTime(absl::Seconds(random_.Between(3, 600)));
      break;
    case Fault::kClockBack:
      journal_.Count(fault);
      machine_->Advance(now_ - absl::Seconds(random_.Between(1, 600)));
      break;
    default:
      break;
  }
}

// The owner of a ring writes nonsense over the words that it shares with Xen.
void Simulation::Corrupt(Host& host) {
  Host* partner = AnyHost();
  if (partner == nullptr || partner == &host) return;
  const argo_peer* peer = host.domain->link().peer(partner->domid());
  if (peer == nullptr || peer->state < ARGO_PEER_GREETING) return;
  Pair& pair = PairOf(host.domid(), partner->domid());
  SpoiledBy(pair, host.domid(), partner->domid()) = true;
  ++pair.spoilings;
  ++pair.disturbances;
  const uint32_t value = random_.OneIn(2) ? static_cast<uint32_t>(random_.Next())
                                          : random_.Below(peer->ring.len / 16) * 16;
  const bool rx = random_.OneIn(2);
  host.overwrote_tx |= !rx;
  (rx ? peer->ring.header->rx_ptr : peer->ring.header->tx_ptr) = value;
  journal_.Note(Fault::kOwnPointersCorrupted, [&] {
    return absl::StrCat("dom", host.domid(), " writes ", value, " into ", rx ? "rx_ptr" : "tx_ptr",
                        " of its ring for dom", partner->domid());
  });
}

void Simulation::Attack(Fault kind, Host& victim) {
  Host& attacker = *hosts_[*plan_.hostile];
  if (!attacker.alive() || &attacker == &victim) return;
  if (kind == Fault::kNeverDrains) {
    if (attacker.domain->paused()) return;
    attacker.domain->set_paused(true);
    attacker.paused_until = step_ + random_.Between(50, 500);
    journal_.Note(kind, [&] { return absl::StrCat("dom", attacker.domid()); });
    return;
  }
  Attacker::Target target;
  target.domid = victim.domid();
  target.ports = {kStreamPort, kMessagePort};
  target.datagram_port = kDatagramPort;
  for (Program* program : active_) {
    const Connection* connection = program->connection();
    if (connection == nullptr || &program->endpoint() != &victim.domain->endpoint()) continue;
    const bool own = connection->peer().cid == attacker.domain->cid();
    // Who sends more than the buffer is found out only if nobody empties it.
    if (own && kind == Fault::kCreditLie) program->Stall();
    (own ? target.own : target.others).push_back({connection->local(), connection->peer()});
  }
  attacker.attacker->Attack(kind, target);
}

// ---- under attack ----

void Simulation::UnderAttack() {
  Host* victim = AnyHost();
  if (victim == nullptr || victim->hostile || !hosts_[*plan_.hostile]->alive()) return;
  journal_.Note([&] { return absl::StrCat("-- dom", victim->domid(), " under attack"); });
  faults_on_ = false;
  for (const auto& host : hosts_) {
    host->held_until = 0;
    if (host->alive() && !host->hostile) host->domain->set_paused(false);
  }
  struct Watched {
    Program* from;
    Program* to;
    uint64_t received;
  };
  std::vector<Watched> watched;
  for (Program* program : active_) {
    Program* peer = program->peer();
    if (peer == nullptr || program->over() || peer->over() || !program->pair().sane()) {
      continue;
    }
    const bool at_victim = &program->endpoint() == &victim->domain->endpoint() ||
                           &peer->endpoint() == &victim->domain->endpoint();
    if (!at_victim) continue;
    program->BeGreedy();
    peer->BeGreedy();
    program->Extend(20'000);
    if (program->wants_to_send() && peer->reads()) {
      watched.push_back({program, peer, peer->received()});
    }
  }
  const auto moved = [](const Watched& w) {
    return w.to->received() > w.received || w.from->over() || w.to->over() || w.from->finished();
  };
  // Three seconds: who was left waiting without a wake-up before is found by its next probe.
  for (int round = 0; round < 300 && !journal_.found(); ++round) {
    for (int i = 0; i < 3; ++i) {
      Attack(plan_.attacks[random_.Below(static_cast<uint32_t>(plan_.attacks.size()))], *victim);
    }
    const std::vector<Program*> all = active_;
    for (Program* program : all) program->Act();
    for (int i = 0; i < 3; ++i) {
      for (const auto& host : hosts_) {
        if (host->alive() && host->domain->interrupt_pending()) Handle(*host);
      }
    }
    Sweep();
    PassTime(absl::Milliseconds(10));
    if (round % 10 == 9 && std::all_of(watched.begin(), watched.end(), moved)) break;
  }
  for (const Watched& w : watched) {
    journal_.Check(Oracle::kProgress, moved(w), [&] {
      return absl::StrCat(w.from->Describe(), " to ", w.to->Describe(), " while dom",
                          victim->domid(), " is attacked");
    });
  }
}

// ---- the end ----

// Who has something to do does it in no time.
void Simulation::ActUntilQuiet() {
  uint64_t packets = ~uint64_t{0};
  while (packets != journal_.tally().packets && !journal_.found()) {
    packets = journal_.tally().packets;
    const std::vector<Program*> all = active_;
    for (Program* program : all) {
      program->BeGreedy();
      program->Act();
    }
    Settle();
    Sweep();
  }
}

void Simulation::Heal() {
  journal_.Note([&] { return absl::StrCat("-- the faults stop"); });
  faults_on_ = false;
  if (plan_.hostile && hosts_[*plan_.hostile]->alive()) Kill(*plan_.hostile, true);
  // A domain that overwrote a tx_ptr with one that could be true has read messages twice, or not at
  // all, and cannot know.  What helps is what a person would do.
  for (const auto& host : hosts_) {
    if (!host->alive() || !host->overwrote_tx) continue;
    Kill(host->domid(), true);
    Boot(host->domid());
  }
  for (const auto& host : hosts_) {
    host->held_until = 0;
    if (host->alive()) host->domain->set_paused(false);
  }
  const absl::Time until = now_ + absl::Minutes(1);
  const absl::Time settled = now_ + absl::Seconds(5);
  while (!journal_.found() && now_ < until && (!active_.empty() || now_ < settled)) {
    ActUntilQuiet();
    const absl::Time next = machine_->NextDeadline();
    PassTime(std::clamp(next - now_, absl::Milliseconds(1), absl::Seconds(1)));
  }
  for (const Program& program : programs_) {
    journal_.Check(Oracle::kSendersWake, program.over(), [&] { return program.Describe(); });
  }
}

void Simulation::CheckMeeting() {
  for (const auto& one : hosts_) {
    for (const auto& two : hosts_) {
      if (!one->alive() || !two->alive()) continue;
      journal_.Check(Oracle::kPartnersMeet, InSession(one->domid(), two->domid()), [&] {
        return absl::StrCat("dom", one->domid(), " and dom", two->domid(), " have no session");
      });
    }
  }
}

// A wake-up that was lost before is made good by a probe within a second, and would not be noticed:
// here none comes.
void Simulation::Encore() {
  journal_.Note([&] { return absl::StrCat("-- encore: the clock stands still"); });
  encore_ = true;
  std::vector<Host*> alive;
  for (const auto& host : hosts_) {
    if (!host->alive()) continue;
    alive.push_back(host.get());
    if (!host->listens) Listen(*host, 1);
  }
  if (alive.empty() || plan_.buffer_budget < kAmpleBudget) return;
  const auto any = [&]() -> Host& {
    return *alive[random_.Below(static_cast<uint32_t>(alive.size()))];
  };
  const size_t before = programs_.size();
  // One by one, for which the backlog of every listener must be empty; then together.
  for (int i = 0; i < 3; ++i) {
    ConnectTo(any(), any());
    ActUntilQuiet();
  }
  for (Host* host : alive) {
    StopListening(*host);
    Listen(*host, 64);
  }
  for (int i = 0; i < 6; ++i) ConnectTo(any(), any());
  ActUntilQuiet();
  for (int i = 0; i < 3; ++i) {
    Host& from = any();
    Host& to = any();
    if (!PairOf(from.domid(), to.domid()).sane()) continue;
    const size_t number = datagrams_.size();
    SendDatagram(from, to);
    ActUntilQuiet();
    journal_.Check(Oracle::kDatagrams, number < datagrams_.size() && datagrams_[number].taken,
                   [&] { return absl::StrCat("number ", number, " never came"); });
  }
  for (size_t i = before; i < programs_.size(); ++i) {
    journal_.Check(Oracle::kNobodyNeedsTimers, programs_[i].ended_clean(),
                   [&] { return programs_[i].Describe(); });
  }
}

void Simulation::CheckLeaks() {
  for (const auto& host : hosts_) {
    if (!host->alive()) continue;
    packet::Endpoint& endpoint = host->domain->endpoint();
    journal_.Check(Oracle::kNoLeak,
                   endpoint.connections() == 0 && endpoint.NextDeadline() == absl::InfiniteFuture(),
                   [&] {
                     return absl::StrCat("dom", host->domid(), " has ", endpoint.connections(),
                                         " connections, or a timer");
                   });
    for (const auto& other : hosts_) {
      const argo_peer* peer = host->domain->link().peer(other->domid());
      const uint32_t queued = peer == nullptr ? 0 : peer->queue_count;
      journal_.Check(Oracle::kNoLeak, queued == 0, [&] {
        return absl::StrCat("dom", host->domid(), " still queues ", queued, " packets for dom",
                            other->domid());
      });
    }
  }
  journal_.Check(Oracle::kNoLeak, machine_->reserved() == 0,
                 [&] { return absl::StrCat(machine_->reserved(), " bytes stay reserved"); });
}

}  // namespace argosy::sim
