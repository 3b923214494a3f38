// SPDX-License-Identifier: Apache-2.0
#include "transport/address.h"

#include <cerrno>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "transport/error.h"

namespace argosy {
namespace {

// Digits only: SimpleAtoi would also take blanks and signs.
bool ParseDecimal(absl::string_view text, uint32_t* value) {
  for (char c : text) {
    if (!absl::ascii_isdigit(c)) return false;
  }
  return absl::SimpleAtoi(text, value);
}

}  // namespace

std::string ToString(const Address& address) {
  return absl::StrCat(address.cid, ":", address.port);
}

absl::StatusOr<uint32_t> ParseCid(absl::string_view text) {
  if (text == "host") return kCidHost;
  if (text == "local") return kCidLocal;
  if (text == "any") return kCidAny;
  uint32_t value;
  absl::string_view domain = text;
  if (absl::ConsumePrefix(&domain, "dom")) {
    // Xen's domain ids are 16 bits wide.
    if (ParseDecimal(domain, &value) && value <= std::numeric_limits<uint16_t>::max()) {
      return value + kArgoCidOffset;
    }
  } else if (ParseDecimal(text, &value)) {
    return value;
  }
  return ErrnoError(EINVAL, absl::StrCat("'", text,
                                         "' is no context id: a number, host, local, any, or domN "
                                         "(N from 0 to 65535) is expected"));
}

absl::StatusOr<uint32_t> ParsePort(absl::string_view text) {
  uint32_t value;
  if (ParseDecimal(text, &value) && value != kPortAny) return value;
  return ErrnoError(EINVAL, absl::StrCat("'", text, "' is no port: a number from 0 to ",
                                         kPortAny - 1, " is expected"));
}

}  // namespace argosy
