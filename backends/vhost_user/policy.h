// SPDX-License-Identifier: Apache-2.0
// File: backends/vhost_user/policy.h
//
// Which connections of one machine may be made: rules in order, the first that fits decides; what
// none fits is allowed, unless the machine is outbound only.
//
//   out             all connections that the guest makes
//   out:2           ... to CID 2, the host
//   out:2:80        ... to its port 80
//   in:*:1-1023     from anybody to the guest's ports below 1024
//
// CID and port are those of `out`'s destination; for `in` the CID is who connects, the port the
// guest's.
//
// Only the making of a connection is judged, never its packets.  One thread.
#ifndef ARGOSY_BACKENDS_VHOST_USER_POLICY_H_
#define ARGOSY_BACKENDS_VHOST_USER_POLICY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace argosy::vhost_user {

enum class Direction { kIn, kOut };

struct Rule {
  bool allow = false;
  Direction direction = Direction::kIn;
  std::optional<uint32_t> cid;  // none: any
  uint32_t first_port = 0, last_port = UINT32_MAX;
  std::string text;  // as it was given, with "allow" or "deny" before it
};

// `text` is DIRECTION[:CID[:PORT[-PORT]]], with * for any CID or port.  EINVAL, with the reason.
absl::StatusOr<Rule> ParseRule(bool allow, absl::string_view text);

class Policy {
 public:
  Policy(uint32_t guest_cid, std::vector<Rule> rules, bool outbound_only);

  // `cid` and `port` as above.  A refusal is counted and logged with its rule: the 1st, 2nd, 4th, 8th
  // and so on of each, as a guest can cause any number of them.
  bool Allows(Direction direction, uint32_t cid, uint32_t port);

  // How often each rule decided, for the log: "'deny out:2:22': 3".  Rules that never did are left out.
  std::vector<std::string> Counts() const;

 private:
  struct Counted {
    Rule rule;
    uint64_t matches = 0;
  };

  const uint32_t guest_cid_;
  std::vector<Counted> rules_;
};

}  // namespace argosy::vhost_user

#endif  // ARGOSY_BACKENDS_VHOST_USER_POLICY_H_
