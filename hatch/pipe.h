// SPDX-License-Identifier: Apache-2.0
// File: hatch/pipe.h
//
// The netcat-like forms of hatch: connect, listen, probe.
#ifndef ARGOSY_HATCH_PIPE_H_
#define ARGOSY_HATCH_PIPE_H_

#include "absl/status/status.h"
#include "hatch/session.h"

namespace argosy::hatch {

absl::Status RunConnect(const Session& session);
absl::Status RunListen(const Session& session);
absl::Status RunProbe(const Session& session);

}  // namespace argosy::hatch

#endif  // ARGOSY_HATCH_PIPE_H_
