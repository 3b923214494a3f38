// SPDX-License-Identifier: Apache-2.0
// File: hatch/partial_file.h
//
// A file that has its name only once it is whole: it grows as NAME.part, and goes if it is not
// committed.
#ifndef ARGOSY_HATCH_PARTIAL_FILE_H_
#define ARGOSY_HATCH_PARTIAL_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "transport/unique_fd.h"

namespace argosy::hatch {

class PartialFile {
 public:
  // Errors: EEXIST (NAME exists and may not be replaced, or is no ordinary file), EBUSY (somebody
  // else is writing it), and those of open().
  static absl::StatusOr<PartialFile> Create(const std::string& name, bool replace);

  PartialFile(PartialFile&&) noexcept = default;
  ~PartialFile();

  absl::Status Write(absl::Span<const uint8_t> bytes);
  // To disk, then under its name.
  absl::Status Commit();

 private:
  PartialFile(std::string name, bool replace, UniqueFd fd);

  std::string name_;
  std::string part_;
  bool replace_;
  UniqueFd fd_;  // invalid once committed
};

}  // namespace argosy::hatch

#endif  // ARGOSY_HATCH_PARTIAL_FILE_H_
