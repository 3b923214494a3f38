// SPDX-License-Identifier: Apache-2.0
#include "sim/guest_memory.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/error.h"

namespace argosy::sim {

absl::StatusOr<std::unique_ptr<GuestMemory>> GuestMemory::Create(size_t bytes) {
  if (bytes <= kPageSize || bytes > kMaxBytes) {
    return ErrnoError(EINVAL, absl::StrCat("a domain cannot have ", bytes, " bytes of memory"));
  }
  const size_t size = (bytes + kPageSize - 1) / kPageSize * kPageSize;
  UniqueFd fd(memfd_create("argosy-guest", MFD_CLOEXEC));
  if (!fd.valid()) return SystemError(errno, "memory of a domain");
  if (ftruncate(fd.get(), static_cast<off_t>(size)) != 0) {
    return SystemError(errno, "memory of a domain");
  }
  void* base = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd.get(), 0);
  if (base == MAP_FAILED) return SystemError(errno, "mapping the memory of a domain");
  return std::unique_ptr<GuestMemory>(
      new GuestMemory(std::move(fd), static_cast<uint8_t*>(base), size));
}

GuestMemory::GuestMemory(UniqueFd fd, uint8_t* base, size_t size)
    : fd_(std::move(fd)), base_(base), size_(size) {
  free_.emplace(1, size / kPageSize - 1);
}

GuestMemory::~GuestMemory() { munmap(base_, size_); }

absl::StatusOr<Pages> GuestMemory::AllocatePages(size_t count) {
  if (count == 0) return ErrnoError(EINVAL, "no pages asked for");
  for (auto run = free_.begin(); run != free_.end(); ++run) {
    const auto [first, length] = *run;
    if (length < count) continue;
    free_.erase(run);
    if (length > count) free_.emplace(first + count, length - count);
    Pages pages;
    pages.memory = At(first);
    pages.gfns.resize(count);
    for (size_t i = 0; i < count; ++i) pages.gfns[i] = first + i;
    return pages;
  }
  return ErrnoError(ENOMEM, absl::StrCat("the domain has no ", count, " free pages in a row"));
}

void GuestMemory::FreePages(const Pages& pages) {
  if (pages.gfns.empty()) return;
  uint64_t first = pages.gfns.front();
  uint64_t length = pages.gfns.size();
  // The hole gives the memory back to the system and reads as zeroes; where it cannot be made,
  // zeroes will do.
  if (madvise(pages.memory, length * kPageSize, MADV_REMOVE) != 0) {
    memset(pages.memory, 0, length * kPageSize);
  }
  auto next = free_.lower_bound(first);
  if (next != free_.end() && next->first == first + length) {
    length += next->second;
    next = free_.erase(next);
  }
  if (next != free_.begin()) {
    auto before = std::prev(next);
    if (before->first + before->second == first) {
      before->second += length;
      return;
    }
  }
  free_.emplace(first, length);
}

void* GuestMemory::Allocate(size_t size) {
  if (size > size_) return nullptr;
  size = (size + 15) / 16 * 16;
  if (size > small_left_) {
    absl::StatusOr<Pages> pages = AllocatePages(size / kPageSize + 1);
    if (!pages.ok()) return nullptr;
    small_ = pages->memory;
    small_left_ = pages->gfns.size() * kPageSize;
  }
  void* result = small_;
  small_ += size;
  small_left_ -= size;
  return result;
}

GuestMemory::Frame GuestMemory::FrameAt(uint64_t gfn) const {
  if (gfn == kDeviceGfn) return Frame::kDevice;
  return gfn > 0 && gfn < size_ / kPageSize ? Frame::kMemory : Frame::kNothing;
}

}  // namespace argosy::sim
