// SPDX-License-Identifier: Apache-2.0
// File: hatch/ping.h
//
// `hatch ping`: round trips to `hatch echo`, over a stream or by datagrams.
#ifndef ARGOSY_HATCH_PING_H_
#define ARGOSY_HATCH_PING_H_

#include "absl/status/status.h"
#include "hatch/session.h"

namespace argosy::hatch {

// OK if at least one came back.
absl::Status RunPing(const Session& session);

}  // namespace argosy::hatch

#endif  // ARGOSY_HATCH_PING_H_
