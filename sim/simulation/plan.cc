// SPDX-License-Identifier: Apache-2.0
#include "sim/simulation/plan.h"

#include <array>

#include "absl/strings/str_cat.h"

namespace argosy::sim {

Plan Plan::FromSeed(Random& random) {
  Plan plan;
  const uint32_t domains = random.OneIn(2) ? random.Between(2, 3) : random.Between(2, 8);
  for (uint32_t i = 0; i < domains; ++i) {
    DomainConfig config;
    config.domid = static_cast<uint16_t>(i);
    config.ring_size = random.Pick(std::array{4096u, 4096u, 8192u, 20'000u, 65536u, 262144u});
    config.buf_alloc = random.Pick(std::array{4096u, 16384u, 65536u, packet::kDefaultBufAlloc});
    plan.domains.push_back(config);
  }
  plan.connections = random.OneIn(4) ? random.Between(10, 40) : random.Between(2, 12);
  plan.steps = random.Between(200, 1500);
  plan.prompt_per_mille = random.Pick(std::array{0u, 100u, 400u, 1000u});
  plan.buffer_budget = random.OneIn(10) ? size_t{random.Between(1, 20)} << 18 : size_t{4} << 30;
  if (random.OneIn(8)) return plan;

  plan.faults_per_mille = random.Pick(std::array{5u, 20u, 60u});
  const std::array kinds = {Fault::kInterruptDelayed, Fault::kInterruptLost,
                            Fault::kKilled,           Fault::kKilledUnannounced,
                            Fault::kRestarted,        Fault::kPaused,
                            Fault::kReaderStalled,    Fault::kOwnPointersCorrupted,
                            Fault::kListenerClosed,   Fault::kClockAhead,
                            Fault::kClockBack};
  for (Fault fault : kinds) {
    if (random.OneIn(3)) plan.faults.push_back(fault);
  }
  if (random.OneIn(3)) plan.no_place_per_mille = random.Between(50, 900);
  if (random.OneIn(3)) plan.no_memory_per_mille = random.Between(5, 300);
  if (random.OneIn(3)) plan.no_ring_per_mille = random.Between(50, 800);
  if (domains >= 3 && random.OneIn(3)) {
    plan.hostile = static_cast<uint16_t>(random.Below(domains));
    const std::array attacks = {
        Fault::kBadLength,     Fault::kUnknownType,      Fault::kCreditLie,
        Fault::kForgedSource,  Fault::kForgedConnection, Fault::kBadGreeting,
        Fault::kGreetingFlood, Fault::kRequestFlood,     Fault::kJunk,
        Fault::kNeverDrains};
    do {
      for (Fault attack : attacks) {
        if (random.OneIn(3)) plan.attacks.push_back(attack);
      }
    } while (plan.attacks.empty());
  }
  return plan;
}

std::string Plan::Describe() const {
  std::string text = absl::StrCat(domains.size(), " domains, about ", connections, " connections, ",
                                  steps, " steps");
  for (const DomainConfig& domain : domains) {
    absl::StrAppend(&text, "; dom", domain.domid, " ring ", domain.ring_size, " buffer ",
                    domain.buf_alloc);
  }
  if (hostile) absl::StrAppend(&text, "; dom", *hostile, " is hostile");
  absl::StrAppend(&text, "; faults:");
  for (Fault fault : faults) absl::StrAppend(&text, " ", Name(fault), ",");
  for (Fault attack : attacks) absl::StrAppend(&text, " ", Name(attack), ",");
  absl::StrAppend(&text, " EBUSY ", no_place_per_mille, ", ENOMEM ", no_memory_per_mille,
                  ", no ring ", no_ring_per_mille, " of 1000");
  return text;
}

}  // namespace argosy::sim
