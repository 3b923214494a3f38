// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/policy.h"

#include <cerrno>

#include "absl/numeric/bits.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "spdlog/spdlog.h"
#include "transport/error.h"

namespace argosy::vhost_user {
namespace {

bool ParsePorts(absl::string_view text, Rule* rule) {
  const std::vector<absl::string_view> ends = absl::StrSplit(text, '-');
  if (ends.size() > 2 || !absl::SimpleAtoi(ends[0], &rule->first_port)) return false;
  rule->last_port = rule->first_port;
  if (ends.size() == 2 && !absl::SimpleAtoi(ends[1], &rule->last_port)) return false;
  return rule->first_port <= rule->last_port;
}

bool Fits(const Rule& rule, Direction direction, uint32_t cid, uint32_t port) {
  return rule.direction == direction && rule.cid.value_or(cid) == cid && rule.first_port <= port &&
         port <= rule.last_port;
}

}  // namespace

absl::StatusOr<Rule> ParseRule(bool allow, absl::string_view text) {
  Rule rule;
  rule.allow = allow;
  rule.text = absl::StrCat(allow ? "allow " : "deny ", text);
  const auto wrong = [&](absl::string_view what) {
    return ErrnoError(
        EINVAL, absl::StrCat("'", rule.text, "': ", what, "; use in or out[:CID[:PORT[-PORT]]]"));
  };
  const std::vector<absl::string_view> parts = absl::StrSplit(text, ':');
  if (parts[0] != "in" && parts[0] != "out") return wrong("no direction");
  rule.direction = parts[0] == "in" ? Direction::kIn : Direction::kOut;
  if (parts.size() > 3) return wrong("too many parts");
  if (parts.size() > 1 && parts[1] != "*") {
    uint32_t cid;
    if (!absl::SimpleAtoi(parts[1], &cid)) return wrong("no CID");
    rule.cid = cid;
  }
  if (parts.size() > 2 && parts[2] != "*" && !ParsePorts(parts[2], &rule)) return wrong("no port");
  return rule;
}

Policy::Policy(uint32_t guest_cid, std::vector<Rule> rules, bool outbound_only)
    : guest_cid_(guest_cid) {
  for (Rule& rule : rules) rules_.push_back({std::move(rule)});
  if (outbound_only) {
    Rule nobody;
    nobody.text = "outbound-only";
    rules_.push_back({std::move(nobody)});
  }
}

bool Policy::Allows(Direction direction, uint32_t cid, uint32_t port) {
  for (Counted& counted : rules_) {
    if (!Fits(counted.rule, direction, cid, port)) continue;
    ++counted.matches;
    if (!counted.rule.allow && absl::has_single_bit(counted.matches)) {
      spdlog::warn("CID {}: connection {} CID {} to port {} refused by '{}' ({} so far)",
                   guest_cid_, direction == Direction::kOut ? "to" : "from", cid, port,
                   counted.rule.text, counted.matches);
    }
    return counted.rule.allow;
  }
  return true;
}

std::vector<std::string> Policy::Counts() const {
  std::vector<std::string> counts;
  for (const Counted& counted : rules_) {
    if (counted.matches == 0) continue;
    counts.push_back(absl::StrCat("'", counted.rule.text, "': ", counted.matches));
  }
  return counts;
}

}  // namespace argosy::vhost_user
