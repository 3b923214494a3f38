// SPDX-License-Identifier: Apache-2.0
// File: hatch/wait.h
//
// Waiting that SIGINT and SIGTERM end, so that hatch always leaves through its destructors: partial
// files are removed and addresses given back.
#ifndef ARGOSY_HATCH_WAIT_H_
#define ARGOSY_HATCH_WAIT_H_

#include <poll.h>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace argosy::hatch {

// Once, at the start.  SIGINT and SIGTERM are caught; SIGPIPE and SIGXFSZ are ignored, so that
// writing says EPIPE or EFBIG.
void CatchSignals();

// A signal has come.
bool Stopped();

// What to return then: EINTR.
absl::Status StoppedError();

// poll().  OK: something is ready.  ETIMEDOUT: the deadline passed.  EINTR: a signal came.
absl::Status PollOrStop(absl::Span<pollfd> fds, absl::Time deadline);

// The time `wait` from now; a wait of zero means for ever.
absl::Time DeadlineIn(absl::Duration wait);

}  // namespace argosy::hatch

#endif  // ARGOSY_HATCH_WAIT_H_
