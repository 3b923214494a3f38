// SPDX-License-Identifier: Apache-2.0
// File: backends/vhost_user/testing/guest_memory.h
//
// The memory of a made-up VM: one memfd, mapped here as the VMM would map it, in one or more
// regions of guest addresses.
//
//   auto memory = *GuestMemory::Create({{0x1000, 1 << 20}, {0x100000000, 1 << 20}});
//   uint64_t address = memory->Allocate(4096, 16);
//   uint8_t* here = memory->At(address);
//
// One thread at a time.
#ifndef ARGOSY_BACKENDS_VHOST_USER_TESTING_GUEST_MEMORY_H_
#define ARGOSY_BACKENDS_VHOST_USER_TESTING_GUEST_MEMORY_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "backends/vhost_user/protocol.h"
#include "transport/unique_fd.h"

namespace argosy::vhost_user {

class GuestMemory {
 public:
  struct Range {
    uint64_t address;
    uint64_t size;  // rounded up to pages
  };

  // Ranges that do not overlap.  The system's error.
  static absl::StatusOr<std::unique_ptr<GuestMemory>> Create(std::vector<Range> ranges);
  ~GuestMemory();
  GuestMemory(const GuestMemory&) = delete;
  GuestMemory& operator=(const GuestMemory&) = delete;

  // What SET_MEM_TABLE says of it.  All regions lie in one file.
  const std::vector<MemoryRegion>& regions() const { return regions_; }
  int descriptor() const { return file_.get(); }

  // Guest address of `size` bytes that nobody else has, zeroed, within one region.  Ends the
  // process if there is no room: a test that asks too much.
  uint64_t Allocate(uint64_t size, uint64_t alignment);
  // Where the guest's address is here.  Ends the process if there is no memory.
  uint8_t* At(uint64_t address) const;
  // The VMM's virtual address of it.
  uint64_t VmmAddress(uint64_t address) const { return reinterpret_cast<uintptr_t>(At(address)); }

  void Write(uint64_t address, absl::string_view bytes);
  std::string Read(uint64_t address, size_t size) const;

 private:
  GuestMemory(UniqueFd file, uint8_t* base, uint64_t size, std::vector<MemoryRegion> regions);

  UniqueFd file_;
  uint8_t* const base_;
  const uint64_t size_;
  const std::vector<MemoryRegion> regions_;
  std::vector<uint64_t> allocated_;  // bytes, of each region
};

}  // namespace argosy::vhost_user

#endif  // ARGOSY_BACKENDS_VHOST_USER_TESTING_GUEST_MEMORY_H_
