// SPDX-License-Identifier: Apache-2.0
// File: sim/machine.h
//
// A simulated Xen machine: one hypervisor and its domains, each with a small simulated kernel.  No
// thread, no clock, no descriptor: the caller tells the time and runs it, so that a run is a
// function of its inputs.
//
//   Machine machine({.mac_permissive = false});
//   Domain* dom0 = *machine.Create({.domid = 0, .name = "dom0"});
//   Domain* dom1 = *machine.Create({.domid = 1, .name = "web"});
//   machine.Advance(now);                      // greetings go out
//   while (machine.Run()) {}                   // until nothing is pending
//
// Every domain is a partner of every other and of itself (a real guest is told its partners, dom0
// learns them).
#ifndef ARGOSY_SIM_MACHINE_H_
#define ARGOSY_SIM_MACHINE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "sim/domain.h"
#include "sim/hypervisor.h"

namespace argosy::sim {

class Machine {
 public:
  struct Options {
    bool mac_permissive = false;
    uint32_t cid_offset = 2;
    uint64_t seed = 1;
    // Bytes that the receive buffers of all connections may take together; each connection end
    // reserves its whole buffer, so that what was promised can always be kept.  Over it new
    // connections are refused with ENOBUFS.
    size_t buffer_budget = size_t{4} << 30;
  };

  explicit Machine(const Options& options);
  ~Machine();

  // Boots a domain.  EEXIST (domid or name), EINVAL (domid above 0x7FEF, bad ring size, bad name), ENOSPC
  // (128 domains), ENOMEM.
  absl::StatusOr<Domain*> Create(const DomainConfig& config);
  // Kills a domain at once.  Its users are not called: the owner of programs ends them.  ENODEV.
  absl::Status Kill(uint16_t domid);
  // The same, but nobody is told: its partners find out by their next probe, as guests do that see
  // no xenstore.
  absl::Status KillUnannounced(uint16_t domid);

  Domain* Find(uint16_t domid);
  // By name, "domN" or "N" (a domid).  Null if there is none.
  Domain* Find(absl::string_view name);
  const std::map<uint16_t, std::unique_ptr<Domain>>& domains() const { return domains_; }

  // Handles pending interrupts, one for each domain.  True if some are pending still.
  bool Run();

  // Tells the time; runs timers that are due.
  void Advance(absl::Time now);
  // When Advance() is wanted next.
  absl::Time NextDeadline() const;

  const Hypervisor& hypervisor() const { return hypervisor_; }
  Hypervisor& hypervisor() { return hypervisor_; }
  size_t reserved() const { return budget_.reserved; }
  size_t budget() const { return budget_.limit; }

 private:
  struct Budget : packet::Endpoint::Budget {
    bool Reserve(size_t bytes) override;
    void Release(size_t bytes) override;
    size_t limit = 0;
    size_t reserved = 0;
  };

  const Options options_;
  Hypervisor hypervisor_;
  Budget budget_;
  absl::Time start_ = absl::InfinitePast();  // the first time told
  absl::Time now_ = absl::InfinitePast();
  uint64_t boots_ = 0;
  std::map<uint16_t, std::unique_ptr<Domain>> domains_;
};

}  // namespace argosy::sim

#endif  // ARGOSY_SIM_MACHINE_H_
