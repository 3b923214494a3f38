// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/testing/guest_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/memory/memory.h"
#include "transport/error.h"

namespace argosy::vhost_user {
namespace {

[[noreturn]] void Die(const char* what) {
  std::fprintf(stderr, "GuestMemory: %s\n", what);
  std::abort();
}

}  // namespace

absl::StatusOr<std::unique_ptr<GuestMemory>> GuestMemory::Create(std::vector<Range> ranges) {
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  uint64_t size = 0;
  for (Range& range : ranges) {
    range.size = (range.size + page - 1) / page * page;
    size += range.size;
  }
  UniqueFd file(memfd_create("argosy-vm", MFD_CLOEXEC));
  if (!file.valid() || ftruncate(file.get(), static_cast<off_t>(size)) != 0) {
    return SystemError(errno, "memory of a VM");
  }
  void* const base = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (base == MAP_FAILED) return SystemError(errno, "mapping the memory of a VM");
  std::vector<MemoryRegion> regions;
  uint64_t offset = 0;
  for (const Range& range : ranges) {
    regions.push_back(
        {range.address, range.size, reinterpret_cast<uintptr_t>(base) + offset, offset});
    offset += range.size;
  }
  return absl::WrapUnique(
      new GuestMemory(std::move(file), static_cast<uint8_t*>(base), size, std::move(regions)));
}

GuestMemory::GuestMemory(UniqueFd file, uint8_t* base, uint64_t size,
                         std::vector<MemoryRegion> regions)
    : file_(std::move(file)),
      base_(base),
      size_(size),
      regions_(std::move(regions)),
      allocated_(regions_.size()) {}

GuestMemory::~GuestMemory() { munmap(base_, size_); }

uint64_t GuestMemory::Allocate(uint64_t size, uint64_t alignment) {
  for (size_t i = 0; i < regions_.size(); ++i) {
    const uint64_t begin =
        (regions_[i].guest_address + allocated_[i] + alignment - 1) / alignment * alignment;
    const uint64_t used = begin - regions_[i].guest_address;
    if (used > regions_[i].size || size > regions_[i].size - used) continue;
    allocated_[i] = used + size;
    return begin;
  }
  Die("no room left");
}

uint8_t* GuestMemory::At(uint64_t address) const {
  for (const MemoryRegion& region : regions_) {
    const uint64_t offset = address - region.guest_address;
    if (offset < region.size) return base_ + region.file_offset + offset;
  }
  Die("no memory at that address");
}

void GuestMemory::Write(uint64_t address, absl::string_view bytes) {
  std::memcpy(At(address), bytes.data(), bytes.size());
}

std::string GuestMemory::Read(uint64_t address, size_t size) const {
  return std::string(reinterpret_cast<const char*>(At(address)), size);
}

}  // namespace argosy::vhost_user
