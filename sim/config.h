// SPDX-License-Identifier: Apache-2.0
// File: sim/config.h
//
// What machine argosy-sim simulates: from a YAML file, from flags, or both (flags win).
//
//   socket: /run/argosy/sim.sock
//   mac_permissive: false
//   buffer_budget_mib: 4096
//   domains:
//     - {id: 0, name: dom0}
//     - {id: 1, name: web, ring_size: 262144, buffer: 262144}
#ifndef ARGOSY_SIM_CONFIG_H_
#define ARGOSY_SIM_CONFIG_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "sim/control.h"
#include "sim/machine.h"

namespace argosy::sim {

struct Config {
  std::string socket = control::DefaultSocket();
  Machine::Options machine;
  std::vector<DomainConfig> domains;
};

// Reads YAML text.  InvalidArgument (EINVAL) names the line and what is wrong: unknown keys, wrong
// types, numbers out of range, duplicate domains.  What is not named keeps its default.
absl::StatusOr<Config> ParseConfig(absl::string_view yaml);

// As above, from a file.  ENOENT, EACCES, ...
absl::StatusOr<Config> ReadConfig(const std::string& path);

// "ID=NAME" or "ID".
absl::StatusOr<DomainConfig> ParseDomain(absl::string_view text);

}  // namespace argosy::sim

#endif  // ARGOSY_SIM_CONFIG_H_
