// SPDX-License-Identifier: Apache-2.0
// File: transport/conformance/pattern.h
//
// Bytes that show what was lost, doubled or swapped on the way, and the calls that carry many of them.
#ifndef ARGOSY_TRANSPORT_CONFORMANCE_PATTERN_H_
#define ARGOSY_TRANSPORT_CONFORMANCE_PATTERN_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace argosy::conformance {

// `size` bytes of an endless pattern, from its byte `first` on.
struct Pattern {
  uint64_t size = 0;
  uint64_t first = 0;

  std::vector<uint8_t> Bytes() const;
};

// Bytes for one send() or recv() of a long pattern: fits no page, ring or packet.
inline constexpr uint64_t kChunk = 100'003;

// Sends the pattern in pieces of `chunk`.  Returns how many bytes went out; less than all with errno
// in *error.
uint64_t SendPattern(int fd, Pattern pattern, uint64_t chunk, int* error);

struct Received {
  uint64_t bytes = 0;
  int error = 0;             // of the recv() that ended it
  bool matches = true;       // all were those of the pattern
  uint64_t first_wrong = 0;  // unless it matches: where the pattern was left
};

// Receives until `pattern.size` bytes have come, or end-of-file, with pieces of `chunk` at most.
Received ReceivePattern(int fd, Pattern pattern, uint64_t chunk);

}  // namespace argosy::conformance

#endif  // ARGOSY_TRANSPORT_CONFORMANCE_PATTERN_H_
