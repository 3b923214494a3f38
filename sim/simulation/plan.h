// SPDX-License-Identifier: Apache-2.0
// File: sim/simulation/plan.h
//
// What a seed decides before anything runs: the machine, how much traffic, and which faults.  Each
// seed has a few kinds of fault only, and some have none: faults of all kinds at once would hide
// each other.
#ifndef ARGOSY_SIM_SIMULATION_PLAN_H_
#define ARGOSY_SIM_SIMULATION_PLAN_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sim/domain.h"
#include "sim/simulation/random.h"
#include "sim/simulation/tally.h"

namespace argosy::sim {

struct Plan {
  std::vector<DomainConfig> domains;  // 2 to 8
  std::optional<uint16_t> hostile;    // one of them
  uint32_t connections = 0;           // at once, about
  uint32_t steps = 0;
  // Of 1000 steps, so many are faults, and so many are followed by the handling of everything that
  // is pending.
  uint32_t faults_per_mille = 0;
  uint32_t prompt_per_mille = 0;
  // Faults that happen at a step, and those of a hostile domain.
  std::vector<Fault> faults;
  std::vector<Fault> attacks;
  // Faults inside of hypercalls: of 1000 that could meet one.
  uint32_t no_place_per_mille = 0;
  uint32_t no_memory_per_mille = 0;
  uint32_t no_ring_per_mille = 0;
  // What all receive buffers may take together.
  size_t buffer_budget = 0;

  static Plan FromSeed(Random& random);
  std::string Describe() const;
};

}  // namespace argosy::sim

#endif  // ARGOSY_SIM_SIMULATION_PLAN_H_
