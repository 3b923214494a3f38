// SPDX-License-Identifier: Apache-2.0
// File: backends/vhost_user/config.h
//
// What the command line and the configuration file of vhost-user-vsock say: one machine or several,
// in the words of vhost-device-vsock.
//
//   --vm guest-cid=3,socket=/run/vm3.socket,uds-path=/run/vm3.vsock,groups=a+b,allow=in:4,deny=in
//
//   vms:
//     - guest_cid: 3
//       socket: /run/vm3.socket
//       uds_path: /run/vm3.vsock
//       groups: a+b
//       rules: ["allow in:4", "deny in"]
//
// Any thread.
#ifndef ARGOSY_BACKENDS_VHOST_USER_CONFIG_H_
#define ARGOSY_BACKENDS_VHOST_USER_CONFIG_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "backends/vhost_user/host_vm.h"

namespace argosy::vhost_user {

// Sets one key of a machine, with dashes or underscores: guest-cid, socket, uds-path, forward-cid,
// forward-listen, tx-buffer-size, queue-size, groups, outbound-only; allow and deny add a rule
// (policy.h).  EINVAL: an unknown key, or a value that it cannot have.
absl::Status SetKey(absl::string_view key, absl::string_view value, VmOptions* vm);

// "KEY=VALUE,...".  Errors of SetKey(), and EINVAL for a key without a value or, but for rules,
// given twice.
absl::StatusOr<VmOptions> ParseVm(absl::string_view text);

// The machines of a YAML document.  EINVAL, with the line.
absl::StatusOr<std::vector<VmOptions>> ParseConfig(absl::string_view yaml);

// Of the file at `path`; also the system's errors.
absl::StatusOr<std::vector<VmOptions>> ReadConfig(const std::string& path);

// What no key can tell alone: EINVAL for no machine at all, a CID, a path or a port of the host twice, a
// path that belongs to a uds-path, a machine without a socket, with both kinds of a
// host's side, or with forward-listen but no forward-cid.
absl::Status CheckVms(const std::vector<VmOptions>& vms);

}  // namespace argosy::vhost_user

#endif  // ARGOSY_BACKENDS_VHOST_USER_CONFIG_H_
