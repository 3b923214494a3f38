// SPDX-License-Identifier: Apache-2.0
#include "sim/config.h"

#include <cerrno>
#include <fstream>
#include <set>
#include <sstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "sim/control.h"
#include "transport/error.h"
#include "yaml-cpp/yaml.h"

namespace argosy::sim {
namespace {

absl::Status Wrong(const YAML::Node& node, absl::string_view what) {
  return ErrnoError(EINVAL, absl::StrCat("line ", node.Mark().line + 1, ": ", what));
}

absl::Status ReadNumber(const YAML::Node& node, absl::string_view key, uint64_t low, uint64_t high,
                        uint64_t* out) {
  uint64_t value;
  if (!node.IsScalar() || !absl::SimpleAtoi(node.Scalar(), &value) || value < low || value > high) {
    return Wrong(node, absl::StrCat(key, " must be a number from ", low, " to ", high));
  }
  *out = value;
  return absl::OkStatus();
}

absl::StatusOr<DomainConfig> ReadDomain(const YAML::Node& node) {
  if (!node.IsMap()) return Wrong(node, "a domain is a map such as {id: 1, name: web}");
  DomainConfig domain;
  bool has_id = false, has_name = false;
  for (const auto& entry : node) {
    const std::string key = entry.first.Scalar();
    const YAML::Node& value = entry.second;
    uint64_t number = 0;
    absl::Status status;
    if (key == "id") {
      status = ReadNumber(value, key, 0, ARGO_DOMID_SELF - 1, &number);
      domain.domid = static_cast<uint16_t>(number);
      has_id = true;
    } else if (key == "name") {
      domain.name = value.IsScalar() ? value.Scalar() : "";
      has_name = true;
    } else if (key == "ring_size") {
      status = ReadNumber(value, key, 4096, ARGO_MAX_USABLE_RING_SIZE, &number);
      domain.ring_size = argo_slots(static_cast<uint32_t>(number));
    } else if (key == "buffer") {
      status = ReadNumber(value, key, 4096, packet::kDefaultBufAlloc, &number);
      domain.buf_alloc = static_cast<uint32_t>(number);
    } else {
      status = Wrong(entry.first,
                     absl::StrCat("unknown key '", key, "' (known: id, name, ring_size, buffer)"));
    }
    if (!status.ok()) return status;
  }
  if (!has_id) return Wrong(node, "a domain needs an id");
  if (has_name) {
    if (absl::Status s = CheckDomainName(domain.name, domain.domid); !s.ok())
      return Wrong(node, s.message());
  }
  return domain;
}

absl::StatusOr<Config> ReadRoot(const YAML::Node& root) {
  Config config;
  if (root.IsNull()) return config;
  if (!root.IsMap()) return ErrnoError(EINVAL, "line 1: expected keys such as 'domains:'");
  std::set<uint16_t> ids;
  std::set<std::string> names;
  for (const auto& entry : root) {
    const std::string key = entry.first.Scalar();
    const YAML::Node& value = entry.second;
    uint64_t number = 0;
    if (key == "socket") {
      if (!value.IsScalar()) return Wrong(value, "socket must be a path");
      config.socket = value.Scalar();
    } else if (key == "mac_permissive") {
      if (!YAML::convert<bool>::decode(value, config.machine.mac_permissive)) {
        return Wrong(value, "mac_permissive must be true or false");
      }
    } else if (key == "buffer_budget_mib") {
      if (absl::Status s = ReadNumber(value, key, 1, uint64_t{1} << 30, &number); !s.ok()) return s;
      config.machine.buffer_budget = number << 20;
    } else if (key == "domains") {
      if (!value.IsSequence()) return Wrong(value, "domains must be a list");
      for (const YAML::Node& node : value) {
        absl::StatusOr<DomainConfig> domain = ReadDomain(node);
        if (!domain.ok()) return domain.status();
        if (!ids.insert(domain->domid).second)
          return Wrong(node, absl::StrCat("domain ", domain->domid, " twice"));
        if (!domain->name.empty() && !names.insert(domain->name).second) {
          return Wrong(node, absl::StrCat("the name '", domain->name, "' twice"));
        }
        config.domains.push_back(*std::move(domain));
      }
    } else {
      return Wrong(entry.first,
                   absl::StrCat("unknown key '", key,
                                "' (known: socket, mac_permissive, buffer_budget_mib, domains)"));
    }
  }
  return config;
}

}  // namespace

absl::StatusOr<Config> ParseConfig(absl::string_view yaml) {
  // The library throws; nothing of it passes this function.
  try {
    return ReadRoot(YAML::Load(std::string(yaml)));
  } catch (const YAML::Exception& e) {
    return ErrnoError(EINVAL, absl::StrCat("line ", e.mark.line + 1, ": ", e.msg));
  }
}

absl::StatusOr<Config> ReadConfig(const std::string& path) {
  std::ifstream file(path);
  if (!file) return SystemError(errno, absl::StrCat("cannot read ", path));
  std::stringstream text;
  text << file.rdbuf();
  absl::StatusOr<Config> config = ParseConfig(text.str());
  if (!config.ok()) return Annotate(config.status(), path);
  return config;
}

absl::StatusOr<DomainConfig> ParseDomain(absl::string_view text) {
  DomainConfig domain;
  const size_t equals = text.find('=');
  uint32_t id;
  if (!absl::SimpleAtoi(text.substr(0, equals), &id) || id >= ARGO_DOMID_SELF) {
    return ErrnoError(
        EINVAL, absl::StrCat("'", text, "' is no domain: expected ID=NAME with an id from 0 to ",
                             ARGO_DOMID_SELF - 1));
  }
  domain.domid = static_cast<uint16_t>(id);
  if (equals != absl::string_view::npos) {
    domain.name = std::string(text.substr(equals + 1));
    if (absl::Status s = CheckDomainName(domain.name, domain.domid); !s.ok()) return s;
  }
  return domain;
}

}  // namespace argosy::sim
