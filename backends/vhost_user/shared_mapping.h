// SPDX-License-Identifier: Apache-2.0
// File: backends/vhost_user/shared_mapping.h
//
// A piece of a file that another process gave us, mapped for as long as the object lives, and
// watched: the other process may shorten the file at any time (bus_error.h).
//
// One thread at a time.
#ifndef ARGOSY_BACKENDS_VHOST_USER_SHARED_MAPPING_H_
#define ARGOSY_BACKENDS_VHOST_USER_SHARED_MAPPING_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "backends/vhost_user/bus_error.h"

namespace argosy::vhost_user {

class SharedMapping {
 public:
  // Maps bytes [offset, offset + size) of `file`, readable and writable; `size` is not 0.  The
  // descriptor stays the caller's and may be closed.  EINVAL if that is no part of the file (a
  // hugetlbfs file grows by being mapped, so there the offset is free), or it is no regular file:
  // mapping a device may do anything.  Else the system's error.
  static absl::StatusOr<std::unique_ptr<SharedMapping>> Create(int file, uint64_t offset,
                                                               uint64_t size);
  ~SharedMapping();
  SharedMapping(const SharedMapping&) = delete;
  SharedMapping& operator=(const SharedMapping&) = delete;

  uint8_t* data() const { return data_; }
  // Whether the file lacked a page when it was used: its contents are no longer the guest's.
  bool damaged() const { return watch_->hit(); }

 private:
  SharedMapping(void* base, size_t mapped, uint8_t* data)
      : base_(base), mapped_(mapped), data_(data) {}

  void* const base_;
  const size_t mapped_;
  uint8_t* const data_;
  std::unique_ptr<BusErrorWatch> watch_;
};

}  // namespace argosy::vhost_user

#endif  // ARGOSY_BACKENDS_VHOST_USER_SHARED_MAPPING_H_
