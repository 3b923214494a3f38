// SPDX-License-Identifier: Apache-2.0
// File: hatch/sha256.h
//
// SHA-256 (FIPS 180-4).  Our own, because hatch is one static binary that also runs in an
// initramfs: a cryptographic library would be many times its size for this one function, and abseil
// has none.  It guards against accidents and cut files; it is no defence against a peer that lies.
#ifndef ARGOSY_HATCH_SHA256_H_
#define ARGOSY_HATCH_SHA256_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/types/span.h"

namespace argosy::hatch {

class Sha256 {
 public:
  using Digest = std::array<uint8_t, 32>;

  enum class Implementation { kFastest, kPortable };
  explicit Sha256(Implementation implementation = Implementation::kFastest);

  void Update(absl::Span<const uint8_t> bytes);
  // Ends the message; the object is then used up.
  Digest Finish();

 private:
  using CompressFn = void (*)(uint32_t state[8], const uint8_t* blocks, size_t count);

  CompressFn compress_;
  uint32_t state_[8];
  uint64_t length_ = 0;  // bytes so far
  uint8_t block_[64];    // the first length_ % 64 bytes wait here
};

std::string ToHex(const Sha256::Digest& digest);

}  // namespace argosy::hatch

#endif  // ARGOSY_HATCH_SHA256_H_
