// SPDX-License-Identifier: Apache-2.0
// File: sim/simulation/simulation.h
//
// One run of a whole machine, decided by one number: domains, programs and faults under a seeded
// scheduler and a virtual clock.  No thread, no real time, no descriptor but the domains' memory.
//
//   Simulation simulation(4711, print);      // print gets the timeline; may be null
//   simulation.Run();
//   if (!simulation.finding().empty()) ...   // what did not hold
//
// A run has three parts.  In the first, programs and faults take turns as the seed wants.  Then, if
// there is a hostile domain, it attacks one victim with everything it has, and the victim's other
// connections must move meanwhile.  At last the faults stop, hostile domains are killed, and
// everything must come to its end within a minute of virtual time.  An encore follows: plain
// connections whose data must go to and fro while the clock stands still.
//
// Threads: one; several simulations may run in several threads.
#ifndef ARGOSY_SIM_SIMULATION_SIMULATION_H_
#define ARGOSY_SIM_SIMULATION_SIMULATION_H_

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "sim/machine.h"
#include "sim/simulation/attacker.h"
#include "sim/simulation/journal.h"
#include "sim/simulation/plan.h"
#include "sim/simulation/program.h"
#include "sim/simulation/random.h"

namespace argosy::sim {

class Simulation : private Hypervisor::Faults {
 public:
  Simulation(uint64_t seed, Journal::Reader reader);
  ~Simulation() override;

  // Once.  To the end, or to the first finding.
  void Run();

  // Empty: everything held.
  const std::string& finding() const { return journal_.finding(); }
  const Tally& tally() { return journal_.tally(); }

 private:
  class Host;
  class Listener;
  class DatagramPort;

  struct Datagram {
    uint16_t from;
    uint16_t to;
    uint32_t size;
    bool taken = false;
  };
  // What one end of a connection sends to the other, as the packets tell it.
  struct Flow {
    uint64_t sent = 0;
    uint32_t acknowledged = 0;
    uint64_t disturbances = 0;  // of the pair, when the connection began
  };
  // Source, then destination.
  using FlowKey = std::pair<std::pair<uint32_t, uint32_t>, std::pair<uint32_t, uint32_t>>;

  // Hypervisor::Faults
  bool OutOfMemory(uint16_t caller, uint32_t command) override;
  bool NoPlaceToWait(uint16_t owner, uint16_t waiter) override;

  // ---- the machine ----
  void Boot(uint16_t domid);
  void Kill(uint16_t domid, bool announced);
  Host* AnyHost();
  Pair& PairOf(uint16_t a, uint16_t b);
  bool& SpoiledBy(Pair& pair, uint16_t owner, uint16_t partner);
  // Whether both have a session with each other, and the same one.
  bool InSession(uint16_t a, uint16_t b);
  uint16_t DomidOf(uint32_t cid) const { return static_cast<uint16_t>(cid - kArgoCidOffset); }
  void PassTime(absl::Duration d);
  void Handle(Host& host);
  // Handles what is pending until nothing is.
  void Settle();

  // ---- programs ----
  void Listen(Host& host, int backlog);
  void StopListening(Host& host);
  uint64_t EncoreGoal(uint16_t type);
  void Connect();
  void ConnectTo(Host& from, Host& to);
  Program* AddProgram(Host& host, Pair& pair, bool unsettled, uint16_t type, std::string name);
  packet::ConnectionUser* Accept(Host& host, packet::Connection& connection);
  void SendDatagram(Host& from, Host& to);
  bool ReceiveDatagram(Host& host, Address from, const packet::Payload& payload);
  void ActSome();
  void CheckBounds(Host& host);
  // Programs that are not over yet, and forgets the others.
  void Sweep();

  // What was delivered, before the endpoint sees it.
  void Observe(Host& host, uint64_t src_cid, const packet::Header& header);
  // The program whose end of a connection sent a packet with this header; null if there is none.
  const Program* Teller(const packet::Header& header) const;
  void SessionLost(uint16_t domid, uint64_t cid);

  // ---- the three parts ----
  void Chaos();
  void Step();
  void Inject(Fault fault);
  void Attack(Fault kind, Host& victim);
  void Corrupt(Host& host);
  void UnderAttack();
  void ActUntilQuiet();
  void Heal();
  void CheckMeeting();
  void Encore();
  void CheckLeaks();

  Random random_;
  Journal journal_;
  const Plan plan_;
  bool faults_on_ = true;
  bool encore_ = false;
  // Twice the most connections that a domain had: each may owe a SHUTDOWN and an RST when it is gone.
  size_t most_connections_ = 0;
  uint32_t step_ = 0;
  absl::Time now_ = absl::UnixEpoch();
  std::array<std::array<Pair, 8>, 8> pairs_;
  std::deque<Program> programs_;  // all there were: connections may know them to the end
  std::vector<Program*> active_;  // not over yet
  // By local port, which no two connections of one run share.
  absl::flat_hash_map<uint32_t, Program*> clients_;
  absl::flat_hash_map<FlowKey, Flow> flows_;
  std::vector<Datagram> datagrams_;
  uint32_t next_port_ = 50'000;
  uint64_t interrupts_ = 0;                   // handled or lost
  std::vector<std::unique_ptr<Host>> hosts_;  // by domid
  std::unique_ptr<Machine> machine_;
};

}  // namespace argosy::sim

#endif  // ARGOSY_SIM_SIMULATION_SIMULATION_H_
