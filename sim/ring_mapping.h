// SPDX-License-Identifier: Apache-2.0
// File: sim/ring_mapping.h
//
// The pages of one ring, contiguous whatever their frame numbers are.  Xen maps a ring's pages one
// by one into its own address space; here the memfd makes them one range, so that the ring
// arithmetic needs no pages.  Never the guest's own mapping: a domain may send to itself out of the
// very pages of its ring, and the copy must not overlap itself.
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
  // `gfns`: at least one, each Frame::kMemory of `memory`, repeats allowed.  Otherwise the error of
  // mmap.
  static absl::StatusOr<RingMapping> Map(const GuestMemory& memory,
                                         absl::Span<const uint64_t> gfns);

  RingMapping() = default;
  RingMapping(RingMapping&& other) noexcept { *this = std::move(other); }
  RingMapping& operator=(RingMapping&& other) noexcept {
    std::swap(address_, other.address_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~RingMapping();

  void* address() const { return address_; }

 private:
  RingMapping(void* address, size_t bytes) : address_(address), bytes_(bytes) {}

  void* address_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace argosy::sim

#endif  // ARGOSY_SIM_RING_MAPPING_H_
