// SPDX-License-Identifier: Apache-2.0
// The contract's behaviours over sim:, between two domains of one daemon, and within one domain.
#include "absl/status/statusor.h"
#include "backends/sim/sim_transport.h"
#include "sim/testing/daemon.h"
#include "transport/testing/contract_tests.h"

namespace argosy {
namespace {

sim::Daemon& TheDaemon() {
  static const auto* const daemon =
      new absl::StatusOr<std::unique_ptr<sim::Daemon>>(sim::Daemon::Start({"--domains", "2"}));
  if (!daemon->ok()) {
    fprintf(stderr, "%s\n", std::string(daemon->status().message()).c_str());
    abort();
  }
  return ***daemon;
}

// The daemon ends before the test does; static objects are never destroyed.
class StopDaemon : public testing::Environment {
 public:
  void TearDown() override { TheDaemon().Stop(); }
};
const auto* const stop_daemon = testing::AddGlobalTestEnvironment(new StopDaemon);

absl::StatusOr<ContractEnds> Open(const std::string& server_domain,
                                  const std::string& client_domain) {
  absl::StatusOr<std::unique_ptr<Transport>> server = OpenSim(TheDaemon().Uri(server_domain));
  if (!server.ok()) return server.status();
  absl::StatusOr<std::unique_ptr<Transport>> client = OpenSim(TheDaemon().Uri(client_domain));
  if (!client.ok()) return client.status();
  return ContractEnds{*std::move(server), *std::move(client)};
}

INSTANTIATE_TEST_SUITE_P(Sim, ContractTest,
                         testing::Values(ContractSetup{.open = [] { return Open("dom0", "dom1"); },
                                                       .low_ports_by_capability = false}));
INSTANTIATE_TEST_SUITE_P(SimOneDomain, ContractTest,
                         testing::Values(ContractSetup{.open = [] { return Open("dom1", "dom1"); },
                                                       .low_ports_by_capability = false}));

}  // namespace
}  // namespace argosy
