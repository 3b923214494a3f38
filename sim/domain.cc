// SPDX-License-Identifier: Apache-2.0
#include "sim/domain.h"

#include <cerrno>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "transport/error.h"

namespace argosy::sim {
namespace {

// Address space, not memory: pages cost nothing until they are touched.  128 rings of 256 KiB and
// the buffers fit.
constexpr size_t kMinMemory = 64 << 20;

}  // namespace

absl::StatusOr<std::unique_ptr<Domain>> Domain::Create(Hypervisor& hypervisor,
                                                       const Options& options,
                                                       packet::Endpoint::Budget* budget) {
  auto domain = absl::WrapUnique(new Domain(hypervisor, options));
  const size_t rings =
      size_t{ARGO_MAX_RINGS_PER_DOMAIN} * (argo_ring_pages(options.ring_size) + 9) * 4096;
  auto memory = GuestMemory::Create(rings + kMinMemory);
  if (!memory.ok()) return memory.status();
  domain->memory_ = *std::move(memory);
  domain->staging_ = static_cast<uint8_t*>(domain->memory_->Allocate(kStagingSize));
  if (domain->staging_ == nullptr) return ErrnoError(ENOMEM, "no room for the staging buffer");
  bool* pending = &domain->virq_pending_;
  absl::Status status =
      hypervisor.CreateDomain(options.domid, domain->memory_.get(), [pending] { *pending = true; });
  if (!status.ok()) return status;
  auto link = DomainLink::Create(hypervisor, *domain->memory_,
                                 {.domid = options.domid,
                                  .cid_offset = options.cid_offset,
                                  .ring_size = options.ring_size,
                                  .seed = options.seed});
  if (!link.ok()) return link.status();
  domain->link_ = *std::move(link);
  domain->endpoint_ = std::make_unique<packet::Endpoint>(
      *domain->link_,
      packet::Endpoint::Options{.cid = domain->cid(), .buf_alloc = options.buf_alloc});
  domain->endpoint_->set_budget(budget);
  domain->link_->set_user(domain->endpoint_.get());
  return domain;
}

Domain::~Domain() {
  // Xen first: a dying domain neither sends nor unregisters in order.
  if (memory_ != nullptr) hypervisor_.DestroyDomain(options_.domid);
  endpoint_.reset();
  link_.reset();
}

void Domain::HandleInterrupt() {
  virq_pending_ = false;
  if (link_->Interrupt()) virq_pending_ = true;
}

}  // namespace argosy::sim
