// SPDX-License-Identifier: Apache-2.0
// The bed for argo_hypercall_test that needs no Xen: a hypervisor and bare domains.
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "sim/guest_memory.h"
#include "sim/hypercalls.h"
#include "sim/hypervisor.h"

namespace argosy::sim {
namespace {

// Room for two of the largest rings and their messages; untouched pages cost nothing.
constexpr size_t kDomainBytes = size_t{96} << 20;

class SimulatedDomain : public Hypercalls {
 public:
  SimulatedDomain(Hypervisor* xen, uint16_t domid, std::unique_ptr<GuestMemory> memory)
      : xen_(xen), domid_(domid), memory_(std::move(memory)) {}
  ~SimulatedDomain() override { xen_->DestroyDomain(domid_); }

  bool Start() {
    return xen_->CreateDomain(domid_, memory_.get(), [this] { pending_ = 1; }).ok();
  }

  uint16_t domid() const override { return domid_; }
  int ArgoOp(uint32_t command, const void* arg1, const void* arg2, uint64_t arg3,
             uint64_t arg4) override {
    return xen_->ArgoOp(domid_, command, arg1, arg2, arg3, arg4);
  }
  Pages AllocatePages(size_t count) override {
    return memory_->AllocatePages(count).value_or(Pages());
  }
  void* Allocate(size_t size) override { return memory_->Allocate(size); }
  uint64_t TakeInterrupts() override { return std::exchange(pending_, 0); }
  uint64_t InvalidGfn() const override { return memory_->InvalidGfn(); }
  std::optional<uint64_t> MmioGfn() const override { return memory_->MmioGfn(); }
  const void* BadPointer() const override { return memory_->BadPointer(); }

 private:
  Hypervisor* const xen_;
  const uint16_t domid_;
  const std::unique_ptr<GuestMemory> memory_;
  uint64_t pending_ = 0;
};

class SimulatedBed : public HypercallBed {
 public:
  explicit SimulatedBed(const Options& options)
      : xen_({.argo = options.argo, .mac_permissive = options.mac_permissive.value_or(false)}) {}

  Hypercalls* CreateDomain(absl::string_view* why) override {
    auto memory = GuestMemory::Create(kDomainBytes);
    if (!memory.ok()) {
      *why = "the machine has no memory for another domain";
      return nullptr;
    }
    const auto domid = static_cast<uint16_t>(domains_.size() + 1);
    auto domain = std::make_unique<SimulatedDomain>(&xen_, domid, *std::move(memory));
    if (!domain->Start()) {
      *why = "the machine has no domid for another domain";
      return nullptr;
    }
    domains_.push_back(std::move(domain));
    return domains_.back().get();
  }

  bool KillDomain(Hypercalls* domain, absl::string_view* /*why*/) override {
    for (auto& candidate : domains_) {
      if (candidate.get() == domain) candidate.reset();
    }
    return true;
  }

 private:
  Hypervisor xen_;
  std::vector<std::unique_ptr<SimulatedDomain>> domains_;  // domid - 1; null once killed
};

}  // namespace

std::unique_ptr<HypercallBed> MakeHypercallBed(const HypercallBed::Options& options,
                                               absl::string_view* /*why*/) {
  return std::make_unique<SimulatedBed>(options);
}

}  // namespace argosy::sim
