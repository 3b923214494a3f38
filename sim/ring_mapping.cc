// SPDX-License-Identifier: Apache-2.0
#include "sim/ring_mapping.h"

#include <errno.h>
#include <sys/mman.h>

#include "transport/error.h"

namespace argosy::sim {
namespace {

// How many frames from `start` on follow one another.
size_t RunLength(absl::Span<const uint64_t> gfns, size_t start) {
  size_t end = start + 1;
  while (end < gfns.size() && gfns[end] == gfns[end - 1] + 1) ++end;
  return end - start;
}

}  // namespace

absl::StatusOr<RingMapping> RingMapping::Map(const GuestMemory& memory,
                                             absl::Span<const uint64_t> gfns) {
  constexpr size_t kPage = GuestMemory::kPageSize;
  // Reserves the whole range first: a part that fails then leaves no foreign mapping inside it.
  const size_t bytes = gfns.size() * kPage;
  void* address = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) return SystemError(errno, "mapping a ring");
  RingMapping mapping(address, bytes);
  for (size_t i = 0; i < gfns.size();) {
    const size_t run = RunLength(gfns, i);
    if (mmap(static_cast<uint8_t*>(address) + i * kPage, run * kPage, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_FIXED, memory.fd(),
             static_cast<off_t>(gfns[i] * kPage)) == MAP_FAILED) {
      return SystemError(errno, "mapping a ring");
    }
    i += run;
  }
  return mapping;
}

RingMapping::~RingMapping() {
  if (bytes_ != 0) munmap(address_, bytes_);
}

}  // namespace argosy::sim
