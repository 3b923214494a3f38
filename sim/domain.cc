// SPDX-License-Identifier: Apache-2.0
#include "sim/domain.h"

#include <algorithm>
#include <cerrno>

#include "absl/memory/memory.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "transport/address.h"
#include "transport/error.h"

namespace argosy::sim {
namespace {

// Address space, not memory: pages cost nothing until they are touched.  128 rings of 256 KiB and
// the buffers fit.
constexpr size_t kMinMemory = 64 << 20;

}  // namespace

absl::Status CheckDomainName(absl::string_view name, uint16_t domid) {
  const auto fits = [](char c) {
    return absl::ascii_isalnum(c) || c == '-' || c == '_' || c == '.';
  };
  if (name.empty() || name.size() > 63 || !std::all_of(name.begin(), name.end(), fits)) {
    return ErrnoError(EINVAL, absl::StrCat("the domain's name '", absl::CHexEscape(name),
                                           "' must be 1 to 63 letters, digits, '-', '_' and '.'"));
  }
  if (name != absl::StrCat("dom", domid) && ParseCid(name).ok()) {
    return ErrnoError(EINVAL, absl::StrCat("domain ", domid, " cannot be named '", name,
                                           "': that is an address"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Domain>> Domain::Create(Hypervisor& hypervisor,
                                                       const Options& options,
                                                       packet::Endpoint::Budget* budget) {
  auto domain = absl::WrapUnique(new Domain(hypervisor, options));
  const size_t rings =
      size_t{ARGO_MAX_RINGS_PER_DOMAIN} * (argo_ring_pages(options.config.ring_size) + 9) * 4096;
  auto memory = GuestMemory::Create(rings + kMinMemory);
  if (!memory.ok()) return memory.status();
  domain->memory_ = *std::move(memory);
  domain->staging_ = static_cast<uint8_t*>(domain->memory_->Allocate(kStagingSize));
  if (domain->staging_ == nullptr) return ErrnoError(ENOMEM, "no room for the staging buffer");
  bool* pending = &domain->virq_pending_;
  absl::Status status = hypervisor.CreateDomain(options.config.domid, domain->memory_.get(),
                                                [pending] { *pending = true; });
  if (!status.ok()) return status;
  auto link = DomainLink::Create(hypervisor, *domain->memory_,
                                 {.domid = options.config.domid,
                                  .cid_offset = options.cid_offset,
                                  .ring_size = options.config.ring_size,
                                  .seed = options.seed});
  if (!link.ok()) return link.status();
  domain->link_ = *std::move(link);
  domain->endpoint_ = std::make_unique<packet::Endpoint>(
      *domain->link_,
      packet::Endpoint::Options{.cid = domain->cid(), .buf_alloc = options.config.buf_alloc});
  domain->endpoint_->set_budget(budget);
  domain->link_->set_user(domain->endpoint_.get());
  return domain;
}

Domain::~Domain() {
  // Xen first: a dying domain neither sends nor unregisters in order.
  if (memory_ != nullptr) hypervisor_.DestroyDomain(domid());
  endpoint_.reset();
  link_.reset();
}

void Domain::HandleInterrupt() {
  virq_pending_ = false;
  if (link_->Interrupt()) virq_pending_ = true;
}

}  // namespace argosy::sim
