// SPDX-License-Identifier: Apache-2.0
// File: hatch/endings.h
//
// For servers of many connections: those that are over on this side, kept until it is known how
// they ended, without waiting for any one of them.
#ifndef ARGOSY_HATCH_ENDINGS_H_
#define ARGOSY_HATCH_ENDINGS_H_

#include <cstddef>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "hatch/session.h"
#include "transport/transport.h"

namespace argosy::hatch {

class Endings {
 public:
  explicit Endings(const Session& session) : session_(session) {}

  void Add(Socket socket);
  size_t size() const { return open_.size(); }

  // When to call Check() next.
  absl::Time NextCheck() const;
  // Closes the connections that have ended, and those whose peer stays for longer than news of a
  // failure may take.  `broken` hears of each one that did not end cleanly.
  void Check(absl::FunctionRef<void(const absl::Status&)> broken);

 private:
  struct Open {
    Socket socket;
    absl::Time deadline;
  };

  const Session& session_;
  std::vector<Open> open_;
};

}  // namespace argosy::hatch

#endif  // ARGOSY_HATCH_ENDINGS_H_
