// SPDX-License-Identifier: Apache-2.0
// Commands in a guest, ordered by dom0 through Xenstore.
//
// The guest's console would be the obvious way, but the kernel writes there too, in the middle of lines.  Below the
// guest's own node data/run, which it may write:
//   ready           the guest takes commands
//   ID/command      dom0: run this with sh; ID is dom0's choice
//   ID/output       guest: the next piece of what the command wrote; dom0 removes it when it has read it
//   ID/status       guest: the command has ended so, and all its output was taken
// dom0 removes ID in the end; if the command still runs then, it is killed.
#ifndef ARGOSY_NESTED_TEST_XEN_SERVE_H_
#define ARGOSY_NESTED_TEST_XEN_SERVE_H_

#include <string>

namespace argosy {

inline constexpr char kRunNode[] = "data/run";

// The guest's side: never returns.  It may be process 1: it reaps whatever it inherits.
[[noreturn]] void Serve();

// dom0's side: the command's exit status (128 + its signal if one has killed it), with its output on ours.
// 255 if the guest has gone meanwhile.
int Run(const std::string& domid, const std::string& command);

// Waits until the guest of this name takes commands, and prints its number.  1 if there is no such guest, or it goes.
// If `old` is not empty: waits for a guest of this name with another number (it was rebooted, or restored).
int Ready(const std::string& name, const std::string& old);

// Waits until there is no domain of this number.
int Gone(const std::string& domid);

}  // namespace argosy

#endif  // ARGOSY_NESTED_TEST_XEN_SERVE_H_
