// SPDX-License-Identifier: Apache-2.0
// The suite over sim:, with the machine on a thread of this process.
#include <memory>
#include <utility>

#include "backends/sim/sim_transport.h"
#include "sim/testing/machine_thread.h"
#include "transport/conformance/fixture.h"

namespace argosy::conformance {
namespace {

absl::StatusOr<Ends> OpenTwoEnds() {
  absl::StatusOr<std::shared_ptr<sim::MachineThread>> machine = sim::MachineThread::Start(2);
  if (!machine.ok()) return machine.status();
  absl::StatusOr<std::unique_ptr<Transport>> near = OpenSim((*machine)->Uri("dom1"));
  if (!near.ok()) return near.status();
  absl::StatusOr<std::unique_ptr<Transport>> there = OpenSim((*machine)->Uri("dom0"));
  if (!there.ok()) return there.status();
  absl::StatusOr<std::unique_ptr<FarEnd>> far = FarEnd::OnThread(*std::move(there));
  if (!far.ok()) return far.status();
  return Ends{*std::move(machine), *std::move(near), *std::move(far)};
}

INSTANTIATE_CONFORMANCE(Machine, (Tested{"sim: in process", &OpenTwoEnds}));

}  // namespace
}  // namespace argosy::conformance
