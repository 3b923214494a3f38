// SPDX-License-Identifier: Apache-2.0
// File: sim/domain.h
//
// One domain of the simulated machine: memory, an Argo driver, and the packet endpoint of its CID.
#ifndef ARGOSY_SIM_DOMAIN_H_
#define ARGOSY_SIM_DOMAIN_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "sim/domain_link.h"
#include "sim/guest_memory.h"
#include "sim/hypervisor.h"
#include "transport/packet/endpoint.h"

namespace argosy::sim {

// What a person decides about a domain.
struct DomainConfig {
  uint16_t domid = 0;
  std::string name;                               // empty: domN
  uint32_t ring_size = 256 * 1024;                // bytes of each of its rings
  uint32_t buf_alloc = packet::kDefaultBufAlloc;  // receive buffer of each of its connections
};

// Whether this domain may have this name: 1 to 63 letters, digits, '-', '_' and '.', and nothing that is an address of
// another domain ("3", "dom5", "host").  EINVAL.
absl::Status CheckDomainName(absl::string_view name, uint16_t domid);

class Domain {
 public:
  struct Options {
    DomainConfig config;
    uint32_t cid_offset = 2;
    uint64_t seed = 1;
  };

  // Where a program's data is read to, so that it goes to Xen without a copy.  Holds one largest
  // message.
  static constexpr size_t kStagingSize = packet::kDefaultBufAlloc;

  // Makes the domain in `hypervisor`, which outlives it.
  static absl::StatusOr<std::unique_ptr<Domain>> Create(Hypervisor& hypervisor,
                                                        const Options& options,
                                                        packet::Endpoint::Budget* budget);
  // The domain is killed: Xen forgets its rings, its peers find out.  No user of its endpoint is
  // called.
  ~Domain();

  const DomainConfig& config() const { return options_.config; }
  uint16_t domid() const { return config().domid; }
  const std::string& name() const { return config().name; }
  uint32_t cid() const { return domid() + options_.cid_offset; }
  packet::Endpoint& endpoint() { return *endpoint_; }
  DomainLink& link() { return *link_; }
  uint8_t* staging() { return staging_; }
  GuestMemory& memory() { return *memory_; }

  // A paused domain's interrupts stay pending, and its driver's timers wait.
  void set_paused(bool paused) { paused_ = paused; }
  bool paused() const { return paused_; }
  bool interrupt_pending() const { return virq_pending_ && !paused_; }
  // Handles one interrupt.
  void HandleInterrupt();
  // The pending interrupt never comes.
  void LoseInterrupt() { virq_pending_ = false; }

 private:
  Domain(Hypervisor& hypervisor, const Options& options)
      : hypervisor_(hypervisor), options_(options) {}

  Hypervisor& hypervisor_;
  const Options options_;
  bool virq_pending_ = false;
  bool paused_ = false;
  std::unique_ptr<GuestMemory> memory_;
  uint8_t* staging_ = nullptr;
  std::unique_ptr<DomainLink> link_;
  std::unique_ptr<packet::Endpoint> endpoint_;
};

}  // namespace argosy::sim

#endif  // ARGOSY_SIM_DOMAIN_H_
