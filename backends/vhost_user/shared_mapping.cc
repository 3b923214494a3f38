// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/shared_mapping.h"

#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <limits>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "transport/error.h"

namespace argosy::vhost_user {
namespace {

constexpr uint64_t kMaxOffset = std::numeric_limits<int64_t>::max();

}  // namespace

absl::StatusOr<std::unique_ptr<SharedMapping>> SharedMapping::Create(int file, uint64_t offset,
                                                                     uint64_t size) {
  struct stat about;
  struct statfs system;
  if (fstat(file, &about) != 0 || fstatfs(file, &system) != 0) {
    return SystemError(errno, "looking at a memory file");
  }
  if (!S_ISREG(about.st_mode)) return ErrnoError(EINVAL, "guest memory that is no regular file");
  const bool huge = system.f_type == HUGETLBFS_MAGIC;
  const uint64_t page =
      huge ? static_cast<uint64_t>(system.f_bsize) : static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  // Rounding up to pages must not overflow either.
  if (size == 0 || offset > kMaxOffset - page || size > kMaxOffset - page - offset) {
    return ErrnoError(EINVAL, absl::StrCat("guest memory of ", size, " bytes at ", offset,
                                           " of a file: beyond any file"));
  }
  if (!huge && offset + size > static_cast<uint64_t>(about.st_size)) {
    return ErrnoError(EINVAL, absl::StrCat("guest memory of ", size, " bytes at ", offset,
                                           " of a file of ", about.st_size, " bytes"));
  }
  // A region may begin within a page, a mapping may not.
  const uint64_t lead = offset % page;
  const uint64_t mapped = (lead + size + page - 1) / page * page;
  void* const base = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file,
                          static_cast<off_t>(offset - lead));
  if (base == MAP_FAILED) {
    return SystemError(errno, absl::StrCat("mapping ", size, " bytes of guest memory"));
  }
  auto mapping =
      absl::WrapUnique(new SharedMapping(base, mapped, static_cast<uint8_t*>(base) + lead));
  // A guest's secrets have no place in a core dump of ours.
  madvise(base, mapped, MADV_DONTDUMP);
  absl::StatusOr<std::unique_ptr<BusErrorWatch>> watch = BusErrorWatch::Begin(base, mapped, page);
  if (!watch.ok()) return watch.status();
  mapping->watch_ = *std::move(watch);
  return mapping;
}

SharedMapping::~SharedMapping() {
  watch_.reset();
  munmap(base_, mapped_);
}

}  // namespace argosy::vhost_user
