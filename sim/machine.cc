// SPDX-License-Identifier: Apache-2.0
#include "sim/machine.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "transport/error.h"

namespace argosy::sim {

bool Machine::Budget::Reserve(size_t bytes) {
  if (bytes > limit - reserved) return false;
  reserved += bytes;
  return true;
}

void Machine::Budget::Release(size_t bytes) { reserved -= bytes; }

Machine::Machine(const Options& options)
    : options_(options),
      hypervisor_(Hypervisor::Options{.mac_permissive = options.mac_permissive}) {
  budget_.limit = options.buffer_budget;
}

Machine::~Machine() = default;

absl::StatusOr<Domain*> Machine::Create(const DomainConfig& config) {
  if (config.domid >= ARGO_DOMID_SELF) {
    return ErrnoError(EINVAL, absl::StrCat("domid ", config.domid, " is out of range (0 to ",
                                           ARGO_DOMID_SELF - 1, ")"));
  }
  // The smallest ring that carries a packet of some use, the largest that Xen registers.
  if (config.ring_size < 4096 || config.ring_size > ARGO_MAX_USABLE_RING_SIZE ||
      config.ring_size % ARGO_SLOT_SIZE != 0) {
    return ErrnoError(
        EINVAL, absl::StrCat("ring size ", config.ring_size,
                             " is no multiple of 16 between 4096 and ", ARGO_MAX_USABLE_RING_SIZE));
  }
  if (Find(config.domid) != nullptr) {
    return ErrnoError(EEXIST, absl::StrCat("domain ", config.domid, " exists already"));
  }
  DomainConfig named = config;
  if (named.name.empty()) named.name = absl::StrCat("dom", config.domid);
  if (absl::Status s = CheckDomainName(named.name, config.domid); !s.ok()) return s;
  if (Find(named.name) != nullptr) {
    return ErrnoError(EEXIST, absl::StrCat("a domain named '", named.name, "' exists already"));
  }
  if (domains_.size() >= ARGO_MAX_RINGS_PER_DOMAIN) {
    return ErrnoError(ENOSPC,
                      absl::StrCat("there are ", domains_.size(), " domains: a domain has ",
                                   ARGO_MAX_RINGS_PER_DOMAIN, " rings, one for each partner"));
  }
  auto domain = Domain::Create(hypervisor_,
                               {.config = named,
                                .cid_offset = options_.cid_offset,
                                .seed = options_.seed + 0x9E3779B97F4A7C15u * ++boots_},
                               &budget_);
  if (!domain.ok()) return domain.status();
  Domain* created = domain->get();
  domains_[config.domid] = *std::move(domain);
  if (now_ != absl::InfinitePast()) {
    created->link().TellTime(absl::ToInt64Milliseconds(now_ - start_));
    created->endpoint().TellTime(now_);
  }
  for (auto& [domid, other] : domains_) {
    if (absl::Status s = created->link().AddPartner(domid); !s.ok()) return s;
    if (absl::Status s = other->link().AddPartner(config.domid); !s.ok()) return s;
  }
  return created;
}

absl::Status Machine::KillUnannounced(uint16_t domid) {
  if (domains_.erase(domid) == 0)
    return ErrnoError(ENODEV, absl::StrCat("there is no domain ", domid));
  return absl::OkStatus();
}

absl::Status Machine::Kill(uint16_t domid) {
  if (absl::Status s = KillUnannounced(domid); !s.ok()) return s;
  // As dom0's toolstack sees @releaseDomain; a guest would find out by its next probe.
  for (auto& [other, domain] : domains_) domain->link().RemovePartner(domid);
  return absl::OkStatus();
}

Domain* Machine::Find(uint16_t domid) {
  auto it = domains_.find(domid);
  return it == domains_.end() ? nullptr : it->second.get();
}

Domain* Machine::Find(absl::string_view name) {
  for (auto& [domid, domain] : domains_) {
    if (domain->name() == name) return domain.get();
  }
  absl::ConsumePrefix(&name, "dom");
  uint32_t domid;
  if (name.empty() ||
      !std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; }) ||
      !absl::SimpleAtoi(name, &domid) || domid > UINT16_MAX) {
    return nullptr;
  }
  return Find(static_cast<uint16_t>(domid));
}

bool Machine::Run() {
  bool more = false;
  for (auto& [domid, domain] : domains_) {
    if (domain->interrupt_pending()) domain->HandleInterrupt();
  }
  for (auto& [domid, domain] : domains_) more |= domain->interrupt_pending();
  return more;
}

void Machine::Advance(absl::Time now) {
  if (start_ == absl::InfinitePast()) start_ = now;
  now_ = std::max(now_, now);  // a clock that jumps back stands still here
  const uint64_t now_ms = absl::ToInt64Milliseconds(now_ - start_);
  // Everybody knows the time before anything is sent or read: a time-out that began with the time of
  // the last call could be over at once.
  for (auto& [domid, domain] : domains_) {
    domain->link().TellTime(now_ms);
    domain->endpoint().TellTime(now_);
  }
  for (auto& [domid, domain] : domains_) {
    if (!domain->paused()) domain->link().RunTimers();
    // Programs are not paused, and their time-outs are these.
    domain->endpoint().Advance(now_);
  }
}

absl::Time Machine::NextDeadline() const {
  absl::Time next = absl::InfiniteFuture();
  for (const auto& [domid, domain] : domains_) {
    const uint64_t due_ms = domain->paused() ? UINT64_MAX : domain->link().DueMs();
    if (due_ms != UINT64_MAX) next = std::min(next, start_ + absl::Milliseconds(due_ms));
    next = std::min(next, domain->endpoint().NextDeadline());
  }
  return next;
}

}  // namespace argosy::sim
