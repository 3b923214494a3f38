// SPDX-License-Identifier: Apache-2.0
// File: sim/simulation/attacker.h
//
// A domain that does what it likes: it has sessions like any other (its own driver keeps them), and
// sends forged messages into the same rings.  Xen stamps them with its domid; everything else is
// its own choice.
#ifndef ARGOSY_SIM_SIMULATION_ATTACKER_H_
#define ARGOSY_SIM_SIMULATION_ATTACKER_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "sim/hypervisor.h"
#include "sim/machine.h"
#include "sim/simulation/journal.h"
#include "sim/simulation/random.h"
#include "transport/packet/link.h"

namespace argosy::sim {

class Attacker {
 public:
  // What it knows of its victim, or guesses well.
  struct Target {
    uint16_t domid;
    // The victim's connections, its own end first: with the attacker, and with others.
    std::vector<std::pair<Address, Address>> own;
    std::vector<std::pair<Address, Address>> others;
    std::vector<uint32_t> ports;  // where it listens
    uint32_t datagram_port;
  };

  // The domain lives as long as the attacker.
  Attacker(Random& random, Journal& journal, Machine& machine, Domain& domain);

  // One attack of this kind; counted if Xen took at least one message of it.
  void Attack(Fault kind, const Target& target);

 private:
  struct Scratch;
  static constexpr uint32_t kMaxBytes = 70'000;

  void SendPacket(const Target& target, packet::Header header, uint32_t payload);
  packet::Header HeaderFor(const Target& target);
  // A message of the link's port; the bytes are in the scratch.
  bool Send(uint16_t domid, uint32_t type, uint32_t size);
  void SendGreeting(const Target& target, bool bad);

  Random& random_;
  Journal& journal_;
  Machine& machine_;
  Domain& domain_;
  Scratch* scratch_;
  uint8_t* bytes_;
  bool sent_ = false;  // since Attack() began
};

}  // namespace argosy::sim

#endif  // ARGOSY_SIM_SIMULATION_ATTACKER_H_
