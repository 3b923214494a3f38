// SPDX-License-Identifier: Apache-2.0
// File: hatch/echo.h
//
// `hatch echo`: sends back what comes, to many peers at once.
#ifndef ARGOSY_HATCH_ECHO_H_
#define ARGOSY_HATCH_ECHO_H_

#include "absl/status/status.h"
#include "hatch/session.h"

namespace argosy::hatch {

// Ends only by a signal (EINTR) or with its carrier.
absl::Status RunEcho(const Session& session);

}  // namespace argosy::hatch

#endif  // ARGOSY_HATCH_ECHO_H_
