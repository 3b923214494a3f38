// SPDX-License-Identifier: Apache-2.0
//
// Whatever the bytes and however they are cut into pieces, the decoder says the same and stays
// within its limits.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/types/span.h"
#include "hatch/transfer_format.h"

namespace argosy::hatch {
namespace {

struct Outcome {
  std::string file;
  std::string error;
  bool complete;
};

Outcome Decode(absl::Span<const uint8_t> bytes, size_t piece) {
  TransferDecoder decoder;
  Outcome outcome;
  while (!bytes.empty() && outcome.error.empty()) {
    const size_t n = std::min(piece, bytes.size());
    const absl::Status s = decoder.Feed(bytes.first(n), [&](absl::Span<const uint8_t> data) {
      outcome.file.append(data.begin(), data.end());
      return absl::OkStatus();
    });
    outcome.error = std::string(s.message());
    bytes.remove_prefix(n);
  }
  outcome.complete = decoder.complete() && outcome.error.empty();
  if (decoder.total() != outcome.file.size()) abort();
  return outcome;
}

}  // namespace
}  // namespace argosy::hatch

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace argosy::hatch;
  if (size == 0) return 0;
  const absl::Span<const uint8_t> bytes(data + 1, size - 1);
  const Outcome whole = Decode(bytes, size);
  const Outcome pieces = Decode(bytes, 1 + data[0] % 64);
  if (whole.file != pieces.file || whole.error != pieces.error || whole.complete != pieces.complete)
    abort();
  const auto reply = ParseReply({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  if (reply.ok() && reply->has_value() && (*reply)->reason.size() > kMaxReason) abort();
  return 0;
}
