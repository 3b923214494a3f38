// SPDX-License-Identifier: Apache-2.0
// The suite over sim:, between two domains of one daemon, and within one domain.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "backends/sim/sim_transport.h"
#include "sim/testing/daemon.h"
#include "transport/conformance/fixture.h"

namespace argosy::conformance {
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

absl::StatusOr<Ends> Open(const std::string& far_domain) {
  absl::StatusOr<std::unique_ptr<Transport>> near = OpenSim(TheDaemon().Uri("dom1"));
  if (!near.ok()) return near.status();
  absl::StatusOr<std::unique_ptr<Transport>> there = OpenSim(TheDaemon().Uri(far_domain));
  if (!there.ok()) return there.status();
  absl::StatusOr<std::unique_ptr<FarEnd>> far = FarEnd::OnThread(*std::move(there));
  if (!far.ok()) return far.status();
  return Ends{nullptr, *std::move(near), *std::move(far)};
}

INSTANTIATE_CONFORMANCE(Sim, (Tested{"sim:", [] { return Open("dom0"); }}));
INSTANTIATE_CONFORMANCE(SimOneDomain,
                        (Tested{"sim: within a domain", [] { return Open("dom1"); }}));

}  // namespace
}  // namespace argosy::conformance
