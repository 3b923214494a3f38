// SPDX-License-Identifier: Apache-2.0
// File: sim/guest_memory.h
//
// The memory of one domain: a memfd, mapped once.  A guest frame number (gfn) is a page number in
// it; gfn 0 is never memory, so that a null pointer is a bad one.  A "guest address", as hypercalls
// take it, is a pointer into the mapping.
//
//   auto memory = GuestMemory::Create(64 << 20);             // sparse: costs nothing until touched
//   Pages ring = *(*memory)->AllocatePages(33);
//
// Not thread-safe.
#ifndef ARGOSY_SIM_GUEST_MEMORY_H_
#define ARGOSY_SIM_GUEST_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>

#include "absl/status/statusor.h"
#include "sim/hypercalls.h"
#include "transport/unique_fd.h"

namespace argosy::sim {

class GuestMemory {
 public:
  static constexpr size_t kPageSize = 4096;
  // More than any simulated domain needs; keeps the device frame out of reach.
  static constexpr size_t kMaxBytes = size_t{1} << 36;

  enum class Frame { kMemory, kDevice, kNothing };

  // `bytes` is rounded up to pages and counts the page that is never given out.  EINVAL outside
  // (one page, kMaxBytes], else the error of the system.
  static absl::StatusOr<std::unique_ptr<GuestMemory>> Create(size_t bytes);
  ~GuestMemory();
  GuestMemory(const GuestMemory&) = delete;
  GuestMemory& operator=(const GuestMemory&) = delete;

  // `count` zeroed pages with consecutive frame numbers.  ENOMEM if there is no such run; EINVAL
  // for 0.
  absl::StatusOr<Pages> AllocatePages(size_t count);
  // Gives pages of AllocatePages() back; what stood in them is gone.  A ring that Xen still has
  // there goes on to work in them, as under Xen, to the surprise of the next user: unregister
  // first.
  void FreePages(const Pages& pages);
  // Zeroed memory for arguments, 16-byte aligned, for as long as the domain lives.  Null when full.
  void* Allocate(size_t size);

  // Whether all `len` bytes at `p` are memory of this domain.  Nothing (len 0) is, wherever it
  // points.
  bool Contains(const void* p, size_t len) const {
    const uintptr_t offset = reinterpret_cast<uintptr_t>(p) - reinterpret_cast<uintptr_t>(base_);
    return len == 0 || (offset >= kPageSize && offset < size_ && len <= size_ - offset);
  }
  Frame FrameAt(uint64_t gfn) const;
  // `gfn` must be Frame::kMemory.
  uint8_t* At(uint64_t gfn) const { return base_ + gfn * kPageSize; }
  size_t size() const { return size_; }
  // The memfd, still owned by this object.
  int fd() const { return fd_.get(); }

  // For the fault tests; see Hypercalls.
  uint64_t InvalidGfn() const { return size_ / kPageSize; }
  uint64_t MmioGfn() const { return kDeviceGfn; }
  const void* BadPointer() const { return base_ + size_; }

 private:
  static constexpr uint64_t kDeviceGfn = kMaxBytes / kPageSize + 1;

  GuestMemory(UniqueFd fd, uint8_t* base, size_t size);

  UniqueFd fd_;
  uint8_t* const base_;
  const size_t size_;
  std::map<uint64_t, uint64_t> free_;  // first gfn -> count; neighbours are merged
  uint8_t* small_ = nullptr;           // where Allocate() goes on, and what is left there
  size_t small_left_ = 0;
};

}  // namespace argosy::sim

#endif  // ARGOSY_SIM_GUEST_MEMORY_H_
