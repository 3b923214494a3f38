// SPDX-License-Identifier: Apache-2.0
// File: backends/open.h
//
// A transport from its URI:
//
//   loopback:[DIR]           processes of this machine
//   kernel:                  AF_VSOCK of the running kernel
//   sim:SOCKET?domain=NAME   a domain of a simulated machine
//   uds:PATH                 the guest whose vsock device serves a UNIX socket
#ifndef ARGOSY_BACKENDS_OPEN_H_
#define ARGOSY_BACKENDS_OPEN_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "transport/transport.h"

namespace argosy {

// EINVAL: no such scheme, or malformed; the message lists the schemes.  Otherwise the backend's
// errors.
absl::StatusOr<std::unique_ptr<Transport>> OpenTransport(absl::string_view uri);

// What to open when the user names nothing: $ARGOSY_TRANSPORT, else kernel: if AF_VSOCK answers on
// this machine, else ENODEV with a message that says how to get a carrier.
absl::StatusOr<std::string> DefaultTransportUri();

}  // namespace argosy

#endif  // ARGOSY_BACKENDS_OPEN_H_
