// SPDX-License-Identifier: Apache-2.0
// File: sim/ring_mapping.h
//
// The pages of one ring, contiguous whatever their frame numbers are.  Xen maps a ring's pages one
// by one into its own address space; here the memfd makes them one range, so that the ring
// arithmetic needs no pages.
#ifndef ARGOSY_SIM_RING_MAPPING_H_
#define ARGOSY_SIM_RING_MAPPING_H_

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "sim/guest_memory.h"

namespace argosy::sim {

class RingMapping {
 public:
  // `gfns` (at least one, each Frame::kMemory of `memory`, repeats allowed).  A run of consecutive
  // frames needs no mapping of its own and lives as long as `memory`.  Otherwise the error of mmap.
  static absl::StatusOr<RingMapping> Map(const GuestMemory& memory,
                                         absl::Span<const uint64_t> gfns);

  RingMapping() = default;
  RingMapping(RingMapping&& other) noexcept { *this = std::move(other); }
  RingMapping& operator=(RingMapping&& other) noexcept {
    std::swap(address_, other.address_);
    std::swap(owned_bytes_, other.owned_bytes_);
    return *this;
  }
  ~RingMapping();

  void* address() const { return address_; }

 private:
  RingMapping(void* address, size_t owned_bytes) : address_(address), owned_bytes_(owned_bytes) {}

  void* address_ = nullptr;
  size_t owned_bytes_ = 0;  // 0: somebody else's
};

}  // namespace argosy::sim

#endif  // ARGOSY_SIM_RING_MAPPING_H_
