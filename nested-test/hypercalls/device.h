// SPDX-License-Identifier: Apache-2.0
// File: nested-test/hypercalls/device.h
//
// /dev/argo_raw of the domain that this program runs in.
#ifndef ARGOSY_NESTED_TEST_HYPERCALLS_DEVICE_H_
#define ARGOSY_NESTED_TEST_HYPERCALLS_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "transport/unique_fd.h"

namespace argosy::nested {

struct ArgoOpCall {
  uint32_t command;
  uint64_t arg1, arg2, arg3, arg4;
};

class ArgoDevice {
 public:
  // Only one can be open in a domain.  Its end unregisters its rings and unmaps its pages.
  static absl::StatusOr<std::unique_ptr<ArgoDevice>> Open();
  ~ArgoDevice();
  ArgoDevice(const ArgoDevice&) = delete;
  ArgoDevice& operator=(const ArgoDevice&) = delete;

  uint16_t domid() const { return domid_; }
  // `count` zeroed pages at `address`, where nothing may be mapped.  Returns their frame numbers.
  absl::StatusOr<std::vector<uint64_t>> Allocate(uint64_t address, size_t count);
  // What Xen answered.
  absl::StatusOr<int> ArgoOp(const ArgoOpCall& call);
  // VIRQ_ARGO since the last call.
  absl::StatusOr<uint64_t> TakeInterrupts();

 private:
  struct Mapping {
    void* address;
    size_t size;
  };

  ArgoDevice(UniqueFd fd, uint16_t domid);

  UniqueFd fd_;
  const uint16_t domid_;
  std::vector<Mapping> mappings_;
};

}  // namespace argosy::nested

#endif  // ARGOSY_NESTED_TEST_HYPERCALLS_DEVICE_H_
