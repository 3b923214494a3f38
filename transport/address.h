// SPDX-License-Identifier: Apache-2.0
// File: transport/address.h
//
// The address of a VM socket: a context id (which machine) and a port.
#ifndef ARGOSY_TRANSPORT_ADDRESS_H_
#define ARGOSY_TRANSPORT_ADDRESS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace argosy {

// Context ids with a meaning of their own (linux/vm_sockets.h).
inline constexpr uint32_t kCidHypervisor = 0;
inline constexpr uint32_t kCidLocal = 1;  // this machine
inline constexpr uint32_t kCidHost = 2;   // the host; over Argo, dom0
inline constexpr uint32_t kCidAny = 0xFFFFFFFF;
inline constexpr uint32_t kPortAny = 0xFFFFFFFF;

// Over Argo, CID = domid + kArgoCidOffset, so that dom0 is the host and no domain falls on the
// reserved CIDs.
inline constexpr uint32_t kArgoCidOffset = 2;

struct Address {
  uint32_t cid = kCidAny;
  uint32_t port = kPortAny;

  friend bool operator==(const Address& a, const Address& b) {
    return a.cid == b.cid && a.port == b.port;
  }
};

// "3:1234"; "host:1234" is not used, so that it can be parsed back by every tool.
std::string ToString(const Address& address);

// A CID as people write it: a number ("3"), "host", "local", "any", or "domN" (N + kArgoCidOffset).
// InvalidArgument (EINVAL) for anything else: names of domains are the transport's business
// (Transport::Resolve).
absl::StatusOr<uint32_t> ParseCid(absl::string_view text);

// A port, 0 to 2^32 - 2, decimal.  InvalidArgument (EINVAL) with the range in its message.
absl::StatusOr<uint32_t> ParsePort(absl::string_view text);

}  // namespace argosy

#endif  // ARGOSY_TRANSPORT_ADDRESS_H_
