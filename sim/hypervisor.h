// SPDX-License-Identifier: Apache-2.0
// File: sim/hypervisor.h
//
// Xen as far as Argo goes: domains, their rings, and the four operations of argo_op with Xen's own
// order of checks, error codes, arithmetic, limits and wake-up rules.  The model that runs under
// real Xen are compared with (argo_hypercall_test).
//
//   Hypervisor xen({.mac_permissive = true});
//   xen.CreateDomain(1, memory, [&] { pending = true; });    // memory outlives the domain
//   int rc = xen.ArgoOp(1, ARGO_OP_SENDV, addr, iov, 1, type);
//
// The way of a message: sendv copies the addresses and the iov array out of the sender's memory,
// finds the ring in the destination (first the one for this sender, then the wildcard ring), judges
// lengths and space, copies the payload once from the sender's pages into the ring's pages, and
// raises VIRQ_ARGO at the destination.  If the ring is full, the sender is put on the ring's list
// of waiters; only a notify by the ring's owner wakes it.
//
// Two known defects of Xen are part of the model, because a driver can see them: a re-registration,
// successful or not, keeps the ring's old place in the owner's count of 128 for ever.  Not
// modelled: XSM (FLASK, SILO), argument checks of 32-bit guests.  Xen runs out of its own memory
// only where Faults says so.
//
// Single-threaded: all calls from one thread.  ArgoOp neither blocks nor throws, and a send
// allocates nothing.
#ifndef ARGOSY_SIM_HYPERVISOR_H_
#define ARGOSY_SIM_HYPERVISOR_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "sim/guest_memory.h"

namespace argosy::sim {

class Hypervisor {
 public:
  struct Options {
    bool argo = true;             // argo= on Xen's command line
    bool mac_permissive = false;  // mac-permissive=: wildcard rings are allowed
    // Xen 4.12.0 only: a send into a full ring answers 0 in place of EAGAIN.  The message is lost,
    // the destination gets an interrupt for nothing, and the sender is woken at the first free
    // byte.
    bool quirk_4_12_0_lost_eagain = false;
  };

  // Since the start.  Of sends only the successful ones; `eagain` has those that Xen took on the
  // list of waiters, `ebusy` those (and the notify entries) for which the list was full.
  struct Counters {
    uint64_t registers = 0;
    uint64_t unregisters = 0;
    uint64_t sends = 0;
    uint64_t bytes = 0;
    uint64_t eagain = 0;
    uint64_t ebusy = 0;
    uint64_t virqs = 0;
    uint64_t notifies = 0;
  };

  // What goes wrong in Xen itself, where a simulation wants it to.  Asked from inside an ArgoOp.
  class Faults {
   public:
    virtual ~Faults() = default;
    // Xen has no memory for this operation: -ENOMEM, and nothing was done.
    virtual bool OutOfMemory(uint16_t caller, uint32_t command) = 0;
    // The list of those that wait for a ring of `owner` is full for `waiter`, which nobody will
    // wake then.
    virtual bool NoPlaceToWait(uint16_t owner, uint16_t waiter) = 0;
  };

  // Domids from here on are Xen's own (self, any, ...).
  static constexpr uint16_t kFirstReservedDomid = 0x7FF0;

  explicit Hypervisor(const Options& options);
  ~Hypervisor();
  Hypervisor(const Hypervisor&) = delete;
  Hypervisor& operator=(const Hypervisor&) = delete;

  // `memory` must outlive the domain.  `raise_virq` is called whenever Xen would raise VIRQ_ARGO
  // for the domain, from inside an ArgoOp of any domain: it must not call the hypervisor, only set
  // a pending bit. EINVAL for a reserved domid, EEXIST for one that is taken.
  absl::Status CreateDomain(uint16_t domid, GuestMemory* memory, std::function<void()> raise_virq);
  // Its rings go, and so do other domains' rings registered for it and its places on lists of
  // waiters.  Nobody is told. Nothing happens if there is no such domain.
  void DestroyDomain(uint16_t domid);
  bool Exists(uint16_t domid) const { return Find(domid) != nullptr; }

  // argo_op as `caller` issues it.  0 or more, or a negative errno; -ENODEV if there is no such
  // caller, as for a domain that is being killed.
  int ArgoOp(uint16_t caller, uint32_t command, const void* arg1, const void* arg2, uint64_t arg3,
             uint64_t arg4);

  // Null: nothing goes wrong.  Outlives the hypervisor, or is taken back.
  void set_faults(Faults* faults) { faults_ = faults; }

  const Counters& counters() const { return counters_; }

 private:
  struct Ring;
  struct Domain;

  Domain* Find(uint16_t domid) const {
    return domid < domains_.size() ? domains_[domid].get() : nullptr;
  }
  int RegisterRing(Domain& self, const void* arg, const void* gfns, uint32_t npages,
                   uint32_t flags);
  int UnregisterRing(Domain& self, const void* arg);
  int SendV(Domain& self, const void* addresses, const void* iovs, uint32_t niov, uint32_t type);
  int Notify(Domain& self, const void* arg);
  void WakeWaiters(Domain& owner);
  void FillRingData(Domain& self, void* entry);
  bool AddWaiter(Domain& owner, Ring& ring, uint16_t domid, uint32_t len);
  void Raise(Domain& domain);

  const Options options_;
  Faults* faults_ = nullptr;
  Counters counters_;
  std::vector<std::unique_ptr<Domain>> domains_;  // by domid
  std::vector<uint16_t> woken_;                   // WakeWaiters' own, kept for its capacity
};

}  // namespace argosy::sim

#endif  // ARGOSY_SIM_HYPERVISOR_H_
