// SPDX-License-Identifier: Apache-2.0
// File: sim/control_client.h
//
// A program's side of the control protocol (control.h).
//
// Threads: any.  Whoever waits for an answer reads for all who wait.
#ifndef ARGOSY_SIM_CONTROL_CLIENT_H_
#define ARGOSY_SIM_CONTROL_CLIENT_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "sim/control.h"
#include "transport/unique_fd.h"

namespace argosy::sim {

class ControlClient {
 public:
  // Connects to the daemon at `path` and joins `domain` ("": none, for commands).  ECONNREFUSED: no
  // daemon serves that path; ENODEV: no such domain; EPROTO: another version; EINVAL: a path or
  // name that is too long.
  static absl::StatusOr<std::unique_ptr<ControlClient>> Open(const std::string& path,
                                                             absl::string_view domain);

  // The CID of the joined domain.
  uint32_t cid() const { return cid_; }
  // A fresh id for a socket or a request.
  uint32_t NewId() { return next_id_.fetch_add(1) % control::kDaemonIds; }

  // Sends a request, with a descriptor if fd >= 0.  ENETRESET: the daemon or the domain is gone;
  // ETIMEDOUT: the daemon is stopped.
  absl::Status Send(const control::Request& request, int fd);

  // Sends a request that is answered by its id, and waits.  An answer with an error becomes that
  // error.  ENETRESET, ETIMEDOUT (the deadline; asking again with the same id goes on waiting).
  absl::Status Ask(const control::Request& request, absl::Time deadline, control::Answer* answer,
                   std::string* text = nullptr) ABSL_LOCKS_EXCLUDED(mutex_);

  // The socket is gone: its end will not be asked for.
  void Forget(uint32_t id) ABSL_LOCKS_EXCLUDED(mutex_);

  // An operator's command; its text.
  absl::StatusOr<std::string> Command(control::Verb verb, absl::string_view name);

 private:
  struct Received {
    bool here = false;
    control::Answer answer;
    std::string text;
  };

  explicit ControlClient(UniqueFd fd) : fd_(std::move(fd)) {}
  // Waits for one record and files it.
  void ReadOne(absl::Time deadline) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const UniqueFd fd_;
  uint32_t cid_ = 0;
  std::atomic<uint32_t> next_id_{1};

  absl::Mutex mutex_;
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;
  absl::CondVar changed_;
  absl::Status gone_ ABSL_GUARDED_BY(mutex_);
  // By id: asked for, and perhaps here.
  absl::flat_hash_map<uint32_t, Received> asked_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace argosy::sim

#endif  // ARGOSY_SIM_CONTROL_CLIENT_H_
