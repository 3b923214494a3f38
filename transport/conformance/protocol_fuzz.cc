// SPDX-License-Identifier: Apache-2.0
// Whatever line comes: it is refused, or it means what its own text means when it is written again.
#include <cstdint>
#include <cstdlib>

#include "transport/conformance/protocol.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace conformance = argosy::conformance;
  const auto message =
      conformance::ParseMessage(absl::string_view(reinterpret_cast<const char*>(data), size));
  if (!message.ok()) return 0;
  std::string line = conformance::FormatMessage(*message);
  line.pop_back();  // its end
  const auto again = conformance::ParseMessage(line);
  if (!again.ok() || !(*again == *message)) abort();
  return 0;
}
