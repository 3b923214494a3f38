// SPDX-License-Identifier: Apache-2.0
// File: hatch/transfer.h
//
// `hatch send` and `hatch recv`.  A file that was cut or altered never looks whole: not on disk,
// and not to the sender.
#ifndef ARGOSY_HATCH_TRANSFER_H_
#define ARGOSY_HATCH_TRANSFER_H_

#include "absl/status/status.h"
#include "hatch/session.h"

namespace argosy::hatch {

// OK: the receiver has the file on disk.
absl::Status RunSend(const Session& session);

// OK: the file is whole, on disk and under its name (or was written to standard output).
absl::Status RunReceive(const Session& session);

}  // namespace argosy::hatch

#endif  // ARGOSY_HATCH_TRANSFER_H_
