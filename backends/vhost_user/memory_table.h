// SPDX-License-Identifier: Apache-2.0
// File: backends/vhost_user/memory_table.h
//
// The memory of one VM as its VMM shares it: which guest physical address, and which virtual
// address of the VMM, is where in this process.
//
//   MemoryTable table;
//   absl::Status status = table.Add(region, descriptor.get());
//   absl::Span<uint8_t> piece = table.Piece(address, length);   // empty: no memory there
//
// Whatever is found here the guest may change at any time: read it once, then judge what was read.
//
// One thread at a time.  Sources: virtio 1.3, 2.7; "Vhost-user Protocol", memory region
// description.
#ifndef ARGOSY_BACKENDS_VHOST_USER_MEMORY_TABLE_H_
#define ARGOSY_BACKENDS_VHOST_USER_MEMORY_TABLE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "backends/vhost_user/protocol.h"
#include "backends/vhost_user/shared_mapping.h"

namespace argosy::vhost_user {

class MemoryTable {
 public:
  MemoryTable() = default;
  MemoryTable(MemoryTable&&) = default;
  MemoryTable& operator=(MemoryTable&&) = default;

  // Maps a region of `file`, which stays the caller's and may be closed.  Pointers into other
  // regions stay valid.  Two regions may not share guest addresses; VMM addresses they may, as a
  // VMM can show the same memory to its guest twice.  After an error the table is as before:
  //   ENOBUFS  there are kMaxRegions already
  //   EINVAL   no bytes, addresses that overflow or overlap, not a part of the file
  //   others   of the system, as it maps
  absl::Status Add(const MemoryRegion& region, int file);

  // Unmaps the region with these guest and VMM addresses and this size; its file offset does not
  // count.  EINVAL if there is none.
  absl::Status Remove(const MemoryRegion& region);
  // Whether Remove() would find it.
  bool Contains(const MemoryRegion& region) const;

  size_t size() const { return regions_.size(); }

  // The memory at guest address `address`: `length` bytes, or as many as its region has.  Empty if
  // there is none.  A range over adjoining regions takes a call for each.
  absl::Span<uint8_t> Piece(uint64_t address, uint64_t length) const {
    if (last_ < regions_.size()) {
      // Overflows to a large number below the region.
      const uint64_t offset = address - regions_[last_].description.guest_address;
      if (offset < regions_[last_].description.size) return regions_[last_].From(offset, length);
    }
    return FindPiece(address, length);
  }

  // `length` bytes at virtual address `address` of the VMM; null unless all are in one region.
  uint8_t* AtVmmAddress(uint64_t address, uint64_t length) const;

  // EFAULT if a file was found too short for its region when memory was used; the device cannot go
  // on, as what it read or wrote there was not the guest's.
  absl::Status Check() const;

 private:
  struct Region {
    MemoryRegion description;
    std::unique_ptr<SharedMapping> mapping;
    uint8_t* data;

    absl::Span<uint8_t> From(uint64_t offset, uint64_t length) const {
      return absl::MakeSpan(data + offset, std::min(length, description.size - offset));
    }
  };

  absl::Span<uint8_t> FindPiece(uint64_t address, uint64_t length) const;
  std::vector<Region>::const_iterator Find(const MemoryRegion& region) const;

  std::vector<Region> regions_;  // by guest address
  // Where the last address was found: packets of one connection lie close to each other.
  mutable size_t last_ = 0;
};

}  // namespace argosy::vhost_user

#endif  // ARGOSY_BACKENDS_VHOST_USER_MEMORY_TABLE_H_
