// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/memory_table.h"

#include <cerrno>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "transport/error.h"

namespace argosy::vhost_user {
namespace {

bool Overflows(uint64_t begin, uint64_t size) {
  return size > std::numeric_limits<uint64_t>::max() - begin;
}

std::string Describe(const MemoryRegion& region) {
  return absl::StrFormat("memory region of 0x%x bytes at guest address 0x%x", region.size,
                         region.guest_address);
}

}  // namespace

absl::Status MemoryTable::Add(const MemoryRegion& region, int file) {
  if (regions_.size() >= kMaxRegions) {
    return ErrnoError(ENOBUFS, absl::StrCat("more than ", kMaxRegions, " memory regions"));
  }
  if (region.size == 0 || Overflows(region.guest_address, region.size) ||
      Overflows(region.vmm_address, region.size)) {
    return ErrnoError(EINVAL, absl::StrCat(Describe(region), ": no such addresses"));
  }
  auto behind = regions_.begin();
  for (; behind != regions_.end(); ++behind) {
    const MemoryRegion& other = behind->description;
    if (other.guest_address >= region.guest_address + region.size) break;
    if (region.guest_address < other.guest_address + other.size) {
      return ErrnoError(EINVAL, absl::StrCat(Describe(region), ": overlaps a ", Describe(other)));
    }
  }
  absl::StatusOr<std::unique_ptr<SharedMapping>> mapping =
      SharedMapping::Create(file, region.file_offset, region.size);
  if (!mapping.ok()) return Annotate(mapping.status(), Describe(region));
  uint8_t* const data = (*mapping)->data();
  regions_.insert(behind, Region{region, *std::move(mapping), data});
  return absl::OkStatus();
}

std::vector<MemoryTable::Region>::const_iterator MemoryTable::Find(
    const MemoryRegion& region) const {
  return std::find_if(regions_.begin(), regions_.end(), [&region](const Region& one) {
    return one.description.guest_address == region.guest_address &&
           one.description.vmm_address == region.vmm_address && one.description.size == region.size;
  });
}

bool MemoryTable::Contains(const MemoryRegion& region) const {
  return Find(region) != regions_.end();
}

absl::Status MemoryTable::Remove(const MemoryRegion& region) {
  const auto found = Find(region);
  if (found == regions_.end()) {
    return ErrnoError(EINVAL, absl::StrCat("there is no ", Describe(region)));
  }
  regions_.erase(found);
  return absl::OkStatus();
}

absl::Span<uint8_t> MemoryTable::FindPiece(uint64_t address, uint64_t length) const {
  const auto above = std::upper_bound(regions_.begin(), regions_.end(), address,
                                      [](uint64_t value, const Region& region) {
                                        return value < region.description.guest_address;
                                      });
  if (above == regions_.begin()) return {};
  const Region& region = *std::prev(above);
  const uint64_t offset = address - region.description.guest_address;
  if (offset >= region.description.size) return {};
  last_ = static_cast<size_t>(above - regions_.begin()) - 1;
  return region.From(offset, length);
}

uint8_t* MemoryTable::AtVmmAddress(uint64_t address, uint64_t length) const {
  for (const Region& region : regions_) {
    const uint64_t offset = address - region.description.vmm_address;
    if (offset < region.description.size && length <= region.description.size - offset) {
      return region.data + offset;
    }
  }
  return nullptr;
}

absl::Status MemoryTable::Check() const {
  for (const Region& region : regions_) {
    if (!region.mapping->damaged()) continue;
    return ErrnoError(EFAULT, absl::StrCat(Describe(region.description),
                                           ": a page is missing: the VMM has shortened the file, "
                                           "or there are no huge pages left"));
  }
  return absl::OkStatus();
}

}  // namespace argosy::vhost_user
