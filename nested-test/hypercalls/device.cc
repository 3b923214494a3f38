// SPDX-License-Identifier: Apache-2.0
#include "nested-test/hypercalls/device.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "backends/argo/linux/raw/argo_raw.h"
#include "transport/error.h"

namespace argosy::nested {

absl::StatusOr<std::unique_ptr<ArgoDevice>> ArgoDevice::Open() {
  UniqueFd fd(open(ARGO_RAW_DEVICE, O_RDWR | O_CLOEXEC));
  if (!fd.valid()) {
    return SystemError(errno, "cannot open " ARGO_RAW_DEVICE " (is argo_raw.ko loaded?)");
  }
  uint16_t domid = 0;
  if (ioctl(fd.get(), ARGO_RAW_DOMID, &domid) != 0) return SystemError(errno, "ARGO_RAW_DOMID");
  return absl::WrapUnique(new ArgoDevice(std::move(fd), domid));
}

ArgoDevice::ArgoDevice(UniqueFd fd, uint16_t domid) : fd_(std::move(fd)), domid_(domid) {}

ArgoDevice::~ArgoDevice() {
  // A mapping would keep the device open.
  for (const Mapping& mapping : mappings_) munmap(mapping.address, mapping.size);
}

absl::StatusOr<std::vector<uint64_t>> ArgoDevice::Allocate(uint64_t address, size_t count) {
  std::vector<uint64_t> gfns(count);
  argo_raw_alloc alloc = {};
  alloc.count = static_cast<uint32_t>(count);
  alloc.gfns = reinterpret_cast<uintptr_t>(gfns.data());
  if (ioctl(fd_.get(), ARGO_RAW_ALLOC, &alloc) != 0) {
    return SystemError(errno, absl::StrCat("cannot allocate ", count, " pages"));
  }
  void* const wanted = reinterpret_cast<void*>(static_cast<uintptr_t>(address));
  const Mapping mapping = {wanted, count * 4096};
  void* const mapped = mmap(wanted, mapping.size, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_FIXED_NOREPLACE, fd_.get(), alloc.offset);
  if (mapped == MAP_FAILED) return SystemError(errno, absl::StrCat("cannot map at ", address));
  mappings_.push_back(mapping);
  return gfns;
}

absl::StatusOr<int> ArgoDevice::ArgoOp(const ArgoOpCall& call) {
  argo_raw_op op = {};
  op.command = call.command;
  op.arg1 = call.arg1;
  op.arg2 = call.arg2;
  op.arg3 = call.arg3;
  op.arg4 = call.arg4;
  if (ioctl(fd_.get(), ARGO_RAW_OP, &op) != 0) return SystemError(errno, "ARGO_RAW_OP");
  return op.result;
}

absl::StatusOr<uint64_t> ArgoDevice::TakeInterrupts() {
  uint64_t count = 0;
  if (ioctl(fd_.get(), ARGO_RAW_INTERRUPTS, &count) != 0) {
    return SystemError(errno, "ARGO_RAW_INTERRUPTS");
  }
  return count;
}

}  // namespace argosy::nested
