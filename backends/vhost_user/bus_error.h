// SPDX-License-Identifier: Apache-2.0
// File: backends/vhost_user/bus_error.h
//
// Guest memory is a file of the VMM's, mapped here.  If the VMM makes the file shorter, the next
// touch of what is gone raises SIGBUS, whose default action would end the daemon and with it the
// devices of all other VMs.  A watched range gets zeroed memory in place of the missing page
// instead, and says so afterwards:
//
//   auto watch = BusErrorWatch::Begin(mapping, size, page_size);
//   ... work in the mapping ...
//   if ((*watch)->hit()) end this device
//
// System calls do not raise it: recv() or send() over a missing page fails with EFAULT.
//
// Begin(), hit() and the destructor may be used by several threads, on different watches.
#ifndef ARGOSY_BACKENDS_VHOST_USER_BUS_ERROR_H_
#define ARGOSY_BACKENDS_VHOST_USER_BUS_ERROR_H_

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"

namespace argosy::vhost_user {

class BusErrorWatch {
 public:
  // Ranges of a process; 32 regions for each of 128 VMs.
  static constexpr size_t kMaxWatches = 4096;

  // Watches [begin, begin + size), a mapping of its own with pages of `page_size` bytes (a power of
  // two), until the watch is destroyed; destroy it before the mapping goes.  The first call
  // installs the handler of the process.  A SIGBUS elsewhere does what it did before.  ENOBUFS when
  // there are too many; sigaction's error.
  static absl::StatusOr<std::unique_ptr<BusErrorWatch>> Begin(void* begin, size_t size,
                                                              size_t page_size);
  ~BusErrorWatch();
  BusErrorWatch(const BusErrorWatch&) = delete;
  BusErrorWatch& operator=(const BusErrorWatch&) = delete;

  // Whether a page of the range was missing when it was touched.
  bool hit() const;

 private:
  explicit BusErrorWatch(size_t slot) : slot_(slot) {}

  const size_t slot_;
};

}  // namespace argosy::vhost_user

#endif  // ARGOSY_BACKENDS_VHOST_USER_BUS_ERROR_H_
