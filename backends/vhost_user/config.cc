// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/config.h"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <set>
#include <sstream>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "transport/error.h"
#include "yaml-cpp/yaml.h"

namespace argosy::vhost_user {
namespace {

// CIDs 0 to 2 have meanings of their own, the last is VMADDR_CID_ANY.
constexpr uint32_t kFirstGuestCid = 3;
constexpr uint32_t kLastCid = UINT32_MAX - 1;
// 0 is nobody's.
constexpr uint32_t kFirstForwardCid = 1;
// The last is VMADDR_PORT_ANY.
constexpr uint32_t kFirstPort = 1, kLastPort = UINT32_MAX - 1;
// A packet's overhead counts, too; and what a guest may make us keep for a connection.
constexpr uint32_t kMinBuffer = 4096;
constexpr uint32_t kMaxBuffer = 64 << 20;

absl::Status SetNumber(absl::string_view key, absl::string_view value, uint32_t low, uint32_t high,
                       uint32_t* out) {
  if (!absl::SimpleAtoi(value, out) || *out < low || *out > high) {
    return ErrnoError(EINVAL, absl::StrCat(key, " must be a number from ", low, " to ", high,
                                           ", not '", value, "'"));
  }
  return absl::OkStatus();
}

bool IsRule(absl::string_view key) { return key == "allow" || key == "deny"; }

// "allow in:4" as the key and its value.
absl::Status AddRule(absl::string_view text, VmOptions* vm) {
  const std::vector<absl::string_view> words = absl::StrSplit(text, absl::MaxSplits(' ', 1));
  if (words.size() != 2 || !IsRule(words[0])) {
    return ErrnoError(EINVAL, absl::StrCat("'", text, "' does not begin with allow or deny"));
  }
  return SetKey(words[0], words[1], vm);
}

// "PORT+PORT+...", each once.
absl::Status SetPorts(absl::string_view key, absl::string_view value, std::vector<uint32_t>* out) {
  std::vector<uint32_t> ports;
  for (const absl::string_view text : absl::StrSplit(value, '+')) {
    uint32_t port = 0;
    const absl::Status status =
        SetNumber(absl::StrCat("a port of ", key), text, kFirstPort, kLastPort, &port);
    if (!status.ok()) return status;
    if (std::find(ports.begin(), ports.end(), port) != ports.end()) {
      return ErrnoError(EINVAL, absl::StrCat("port ", port, " twice in ", key));
    }
    ports.push_back(port);
  }
  *out = std::move(ports);
  return absl::OkStatus();
}

// Whether `path` is one of those that belong to `uds_path`: UDS_PATH_PORT, UDS_PATH_seqpacket.
bool Belongs(absl::string_view path, absl::string_view uds_path) {
  if (uds_path.empty() || !absl::ConsumePrefix(&path, uds_path) ||
      !absl::ConsumePrefix(&path, "_") || path.empty()) {
    return false;
  }
  return path == "seqpacket" || path.find_first_not_of("0123456789") == absl::string_view::npos;
}

absl::StatusOr<VmOptions> ReadVm(const YAML::Node& node) {
  const auto wrong = [](const YAML::Node& at, absl::string_view what) {
    return ErrnoError(EINVAL, absl::StrCat("line ", at.Mark().line + 1, ": ", what));
  };
  if (!node.IsMap()) return wrong(node, "a machine is a map with guest_cid, socket and others");
  VmOptions vm;
  std::set<std::string> seen;
  for (const auto& entry : node) {
    const std::string key = absl::StrReplaceAll(entry.first.Scalar(), {{"_", "-"}});
    if (!seen.insert(key).second) return wrong(entry.first, absl::StrCat(key, " twice"));
    if (key == "rules") {
      if (!entry.second.IsSequence()) return wrong(entry.second, "rules must be a list");
      for (const YAML::Node& rule : entry.second) {
        if (!rule.IsScalar()) return wrong(rule, "a rule must be a text");
        if (absl::Status s = AddRule(rule.Scalar(), &vm); !s.ok()) return wrong(rule, s.message());
      }
      continue;
    }
    // Their order decides, and a map has none.
    if (IsRule(key)) return wrong(entry.first, "rules are a list, named 'rules'");
    if (!entry.second.IsScalar()) {
      return wrong(entry.first, absl::StrCat(key, ": a value must be a number or a text"));
    }
    if (absl::Status s = SetKey(key, entry.second.Scalar(), &vm); !s.ok()) {
      return wrong(entry.first, s.message());
    }
  }
  return vm;
}

absl::StatusOr<std::vector<VmOptions>> ReadRoot(const YAML::Node& root) {
  if (!root.IsMap() || !root["vms"] || !root["vms"].IsSequence()) {
    return ErrnoError(EINVAL, "line 1: expected 'vms:' and a list of machines");
  }
  for (const auto& entry : root) {
    if (entry.first.Scalar() == "vms") continue;
    return ErrnoError(EINVAL, absl::StrCat("line ", entry.first.Mark().line + 1, ": unknown key '",
                                           entry.first.Scalar(), "' beside 'vms'"));
  }
  if (root["vms"].size() == 0) return ErrnoError(EINVAL, "line 1: 'vms' has no machine");
  std::vector<VmOptions> vms;
  for (const YAML::Node& node : root["vms"]) {
    absl::StatusOr<VmOptions> vm = ReadVm(node);
    if (!vm.ok()) return vm.status();
    vms.push_back(*std::move(vm));
  }
  return vms;
}

}  // namespace

absl::Status SetKey(absl::string_view key, absl::string_view value, VmOptions* vm) {
  const std::string name = absl::StrReplaceAll(key, {{"_", "-"}});
  if (name == "guest-cid") {
    return SetNumber(name, value, kFirstGuestCid, kLastCid, &vm->guest_cid);
  }
  if (name == "forward-cid") {
    return SetNumber(name, value, kFirstForwardCid, kLastCid, &vm->forward_cid);
  }
  if (name == "forward-listen") return SetPorts(name, value, &vm->forward_listen);
  if (name == "tx-buffer-size") {
    return SetNumber(name, value, kMinBuffer, kMaxBuffer, &vm->tx_buffer_size);
  }
  if (name == "queue-size") {
    absl::Status status = SetNumber(name, value, 2, kMaxQueueSize, &vm->queue_size);
    if (status.ok() && (vm->queue_size & (vm->queue_size - 1)) != 0) {
      return ErrnoError(EINVAL, absl::StrCat("queue-size must be a power of two, not ", value));
    }
    return status;
  }
  if (name == "groups") {
    vm->groups = absl::StrSplit(value, '+');
    for (const std::string& group : vm->groups) {
      if (group.empty()) return ErrnoError(EINVAL, "groups must be names with + between them");
    }
    return absl::OkStatus();
  }
  if (name == "outbound-only") {
    if (!absl::SimpleAtob(value, &vm->outbound_only)) {
      return ErrnoError(EINVAL, absl::StrCat(name, " must be true or false, not '", value, "'"));
    }
    return absl::OkStatus();
  }
  if (IsRule(name)) {
    absl::StatusOr<Rule> rule = ParseRule(name == "allow", value);
    if (!rule.ok()) return rule.status();
    vm->rules.push_back(*std::move(rule));
    return absl::OkStatus();
  }
  std::string* path = name == "socket" ? &vm->socket : name == "uds-path" ? &vm->uds_path : nullptr;
  if (path == nullptr) {
    return ErrnoError(EINVAL, absl::StrCat("unknown key '", key,
                                           "' (known: guest-cid, socket, "
                                           "uds-path, forward-cid, forward-listen, "
                                           "tx-buffer-size, queue-size, groups, outbound-only, "
                                           "and allow and deny, in a file rules)"));
  }
  if (value.empty()) return ErrnoError(EINVAL, absl::StrCat(name, " must be a path"));
  *path = std::string(value);
  return absl::OkStatus();
}

absl::StatusOr<VmOptions> ParseVm(absl::string_view text) {
  VmOptions vm;
  std::set<std::string> seen;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    const std::vector<absl::string_view> pair = absl::StrSplit(part, absl::MaxSplits('=', 1));
    if (pair.size() != 2) {
      return ErrnoError(EINVAL, absl::StrCat("'", part, "' of --vm is not KEY=VALUE"));
    }
    if (!seen.insert(absl::StrReplaceAll(pair[0], {{"_", "-"}})).second && !IsRule(pair[0])) {
      return ErrnoError(EINVAL, absl::StrCat(pair[0], " twice in one --vm"));
    }
    if (absl::Status s = SetKey(pair[0], pair[1], &vm); !s.ok()) return s;
  }
  return vm;
}

absl::StatusOr<std::vector<VmOptions>> ParseConfig(absl::string_view yaml) {
  // The library throws; nothing of it passes this function.
  try {
    return ReadRoot(YAML::Load(std::string(yaml)));
  } catch (const YAML::Exception& e) {
    return ErrnoError(EINVAL, absl::StrCat("line ", e.mark.line + 1, ": ", e.msg));
  }
}

absl::StatusOr<std::vector<VmOptions>> ReadConfig(const std::string& path) {
  std::ifstream file(path);
  if (!file) return SystemError(errno, absl::StrCat("cannot read ", path));
  std::stringstream text;
  text << file.rdbuf();
  absl::StatusOr<std::vector<VmOptions>> vms = ParseConfig(text.str());
  if (!vms.ok()) {
    return ErrnoError(ErrnoOf(vms.status()), absl::StrCat(path, ": ", vms.status().message()));
  }
  return vms;
}

absl::Status CheckVms(const std::vector<VmOptions>& vms) {
  if (vms.empty()) return ErrnoError(EINVAL, "no machine: give --socket, --vm or --config");
  std::set<uint32_t> cids;
  std::set<std::string> paths;
  std::set<uint32_t> ports;
  for (const VmOptions& vm : vms) {
    if (vm.socket.empty()) {
      return ErrnoError(EINVAL,
                        absl::StrCat("the machine with CID ", vm.guest_cid, " has no socket"));
    }
    if (!cids.insert(vm.guest_cid).second) {
      return ErrnoError(EINVAL, absl::StrCat("two machines have CID ", vm.guest_cid));
    }
    if (vm.forward_cid != 0 && !vm.uds_path.empty()) {
      return ErrnoError(EINVAL, absl::StrCat("the machine with CID ", vm.guest_cid,
                                             " has both uds-path and forward-cid: give one"));
    }
    if (vm.forward_cid == 0 && !vm.forward_listen.empty()) {
      return ErrnoError(EINVAL, absl::StrCat("the machine with CID ", vm.guest_cid,
                                             " has forward-listen, but no forward-cid"));
    }
    for (const uint32_t port : vm.forward_listen) {
      if (!ports.insert(port).second) {
        return ErrnoError(EINVAL, absl::StrCat("two machines have port ", port,
                                               " in forward-listen: this host has it once"));
      }
    }
    for (const std::string& path : {vm.socket, vm.uds_path}) {
      if (!path.empty() && !paths.insert(path).second) {
        return ErrnoError(EINVAL, absl::StrCat("the path ", path, " is given twice"));
      }
    }
  }
  // A guest that connects to such a port of the host would come to the other machine as its host, or
  // as its VMM.
  for (const VmOptions& vm : vms) {
    for (const std::string& path : paths) {
      if (Belongs(path, vm.uds_path)) {
        return ErrnoError(EINVAL, absl::StrCat("the path ", path, " belongs to the uds-path ",
                                               vm.uds_path, ": choose another"));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace argosy::vhost_user
