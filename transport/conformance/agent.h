// SPDX-License-Identifier: Apache-2.0
// File: transport/conformance/agent.h
//
// The far end of the suite: does with a transport what the script at the near end asks for, line by
// line, and knows nothing of the cases.
//
//   Agent agent(*transport);
//   agent.Serve(control);   // until the script hangs up
#ifndef ARGOSY_TRANSPORT_CONFORMANCE_AGENT_H_
#define ARGOSY_TRANSPORT_CONFORMANCE_AGENT_H_

#include <memory>
#include <thread>

#include "absl/status/status.h"
#include "transport/transport.h"
#include "transport/unique_fd.h"

namespace argosy::conformance {

class Agent {
 public:
  // `transport` outlives the agent.
  explicit Agent(Transport& transport) : transport_(transport) {}

  // Serves one script over a stream descriptor, which stays the caller's.  When it returns,
  // everything that the script opened is closed.  OK: the script hung up (or shut its direction
  // down), which ends what still waits.  EPROTO: it sent what is no command.  Others are those of
  // system calls.
  absl::Status Serve(int control);

 private:
  Transport& transport_;
};

// An agent on a thread of this process, for one script.
class AgentThread {
 public:
  // Errors of socketpair().
  static absl::StatusOr<std::unique_ptr<AgentThread>> Start(std::unique_ptr<Transport> transport);
  // Hangs up, and waits until the agent has closed everything.
  ~AgentThread();

  // The script's end of the control connection; it stays ours.
  int control() const { return control_.get(); }

 private:
  AgentThread(std::unique_ptr<Transport> transport, UniqueFd control, UniqueFd theirs);

  const std::unique_ptr<Transport> transport_;
  UniqueFd control_;
  std::thread thread_;
};

}  // namespace argosy::conformance

#endif  // ARGOSY_TRANSPORT_CONFORMANCE_AGENT_H_
