// SPDX-License-Identifier: Apache-2.0
#include "sim/hypervisor.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include <algorithm>
#include <array>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "backends/argo/abi/argo.h"
#include "backends/argo/core/ring.h"
#include "sim/ring_mapping.h"
#include "transport/error.h"

namespace argosy::sim {

// A domain that waits for space; at most one for each domain and ring.
struct Waiter {
  uint16_t domid;
  uint32_t len;  // the largest payload it asked for
};

struct Hypervisor::Ring {
  uint16_t partner;
  uint32_t waiting = 0;
  std::array<Waiter, ARGO_MAX_PENDING_PER_RING> waiters;  // the first `waiting` are in use
  RingMapping mapping;
  argo_ring_writer writer;

  void RemoveWaiter(uint32_t i) { waiters[i] = waiters[--waiting]; }
  // Whether `domid` was there.
  bool Cancel(uint16_t domid) {
    for (uint32_t i = 0; i < waiting; ++i) {
      if (waiters[i].domid != domid) continue;
      RemoveWaiter(i);
      return true;
    }
    return false;
  }
};

struct Hypervisor::Domain {
  using Rings = absl::flat_hash_map<uint64_t, std::unique_ptr<Ring>>;

  uint16_t domid;
  GuestMemory* memory;
  std::function<void()> raise_virq;
  Rings rings;          // by Key()
  uint32_t places = 0;  // Xen's ring_count: what the limit of 128 is checked against
  uint32_t waiting =
      0;  // on all rings together, so that a notify knows when there is nothing to do

  static uint64_t Key(uint32_t port, uint16_t partner) { return uint64_t{port} << 16 | partner; }

  Ring* RingFor(uint32_t port, uint16_t sender) const {
    auto it = rings.find(Key(port, sender));
    if (it == rings.end()) it = rings.find(Key(port, ARGO_DOMID_ANY));
    return it == rings.end() ? nullptr : it->second.get();
  }
  void RemoveRing(Rings::iterator it) {
    waiting -= it->second->waiting;
    rings.erase(it);
  }
  // Copies what a guest passed, so that it is judged and used in one and the same version.
  bool CopyIn(void* to, const void* from, size_t len) const {
    if (!memory->Contains(from, len)) return false;
    if (len != 0) memcpy(to, from, len);
    return true;
  }
};

Hypervisor::Hypervisor(const Options& options) : options_(options) {}
Hypervisor::~Hypervisor() = default;

absl::Status Hypervisor::CreateDomain(uint16_t domid, GuestMemory* memory,
                                      std::function<void()> raise_virq) {
  if (domid >= kFirstReservedDomid) {
    return ErrnoError(
        EINVAL, absl::StrCat("domain ", domid, ": the highest domid is ", kFirstReservedDomid - 1));
  }
  if (Exists(domid)) return ErrnoError(EEXIST, absl::StrCat("domain ", domid, " exists"));
  if (domid >= domains_.size()) domains_.resize(domid + size_t{1});
  auto domain = std::make_unique<Domain>();
  domain->domid = domid;
  domain->memory = memory;
  domain->raise_virq = std::move(raise_virq);
  domains_[domid] = std::move(domain);
  return absl::OkStatus();
}

void Hypervisor::DestroyDomain(uint16_t domid) {
  if (!Exists(domid)) return;
  domains_[domid].reset();
  for (const auto& other : domains_) {
    if (other == nullptr) continue;
    for (auto it = other->rings.begin(); it != other->rings.end();) {
      auto ring = it++;
      if (ring->second->partner == domid) {
        other->RemoveRing(ring);
        --other->places;
      } else if (ring->second->Cancel(domid)) {
        --other->waiting;
      }
    }
  }
}

int Hypervisor::ArgoOp(uint16_t caller, uint32_t command, const void* arg1, const void* arg2,
                       uint64_t arg3, uint64_t arg4) {
  if (arg3 > UINT32_MAX || arg4 > UINT32_MAX) return -EINVAL;
  if (!options_.argo) return -EOPNOTSUPP;
  Domain* self = Find(caller);
  if (self == nullptr) return -ENODEV;
  if (faults_ != nullptr && faults_->OutOfMemory(caller, command)) return -ENOMEM;
  const auto number = static_cast<uint32_t>(arg3);
  const auto extra = static_cast<uint32_t>(arg4);
  switch (command) {
    case ARGO_OP_REGISTER_RING:
      return RegisterRing(*self, arg1, arg2, number, extra);
    case ARGO_OP_UNREGISTER_RING:
      if (arg2 != nullptr || number != 0 || extra != 0) return -EINVAL;
      return UnregisterRing(*self, arg1);
    case ARGO_OP_SENDV:
      return SendV(*self, arg1, arg2, number, extra);
    case ARGO_OP_NOTIFY:
      if (arg2 != nullptr || number != 0 || extra != 0) return -EINVAL;
      return Notify(*self, arg1);
    default:
      return -EOPNOTSUPP;
  }
}

namespace {

// Reads `npages` frame numbers of `self` and maps them.  0 or a negative errno: that of the first
// bad frame, in their order.
int MapRing(const GuestMemory& memory, const void* list, uint32_t npages, RingMapping* mapping) {
  std::vector<uint64_t> gfns(npages);
  for (uint32_t i = 0; i < npages; ++i) {
    // As numbers: a bad list may end beyond any pointer.
    const void* at =
        reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(list) + i * sizeof(uint64_t));
    if (!memory.Contains(at, sizeof(uint64_t))) return -EFAULT;
    memcpy(&gfns[i], at, sizeof(uint64_t));
    switch (memory.FrameAt(gfns[i])) {
      case GuestMemory::Frame::kMemory:
        break;
      case GuestMemory::Frame::kDevice:
        return -EPERM;
      case GuestMemory::Frame::kNothing:
        return -EINVAL;
    }
  }
  absl::StatusOr<RingMapping> mapped = RingMapping::Map(memory, gfns);
  if (!mapped.ok()) return -ENOMEM;
  *mapping = *std::move(mapped);
  return 0;
}

}  // namespace

int Hypervisor::RegisterRing(Domain& self, const void* arg, const void* gfns, uint32_t npages,
                             uint32_t flags) {
  if (npages > ARGO_MAX_RING_SIZE / GuestMemory::kPageSize) return -EINVAL;
  if ((flags & ~ARGO_REGISTER_FLAG_FAIL_EXIST) != 0) return -EINVAL;
  argo_register_ring reg;
  if (!self.CopyIn(&reg, arg, sizeof(reg))) return -EFAULT;
  if (reg.len < ARGO_MIN_RING_SIZE || reg.len > ARGO_MAX_RING_SIZE ||
      reg.len % ARGO_SLOT_SIZE != 0 || argo_ring_pages(reg.len) != npages || reg.pad != 0) {
    return -EINVAL;
  }
  if (reg.partner == ARGO_DOMID_ANY) {
    if (!options_.mac_permissive) return -EPERM;
  } else if (!Exists(reg.partner)) {
    return -ESRCH;
  }
  // Before the look for an old ring: at the limit not even that can be registered again.
  if (self.places >= ARGO_MAX_RINGS_PER_DOMAIN) return -ENOSPC;

  auto [it, is_new] = self.rings.try_emplace(Domain::Key(reg.port, reg.partner));
  if (is_new) {
    it->second = std::make_unique<Ring>();
    it->second->partner = reg.partner;
  } else if ((flags & ARGO_REGISTER_FLAG_FAIL_EXIST) != 0 || it->second->writer.len != reg.len) {
    return -EEXIST;
  }
  Ring& ring = *it->second;
  ring.mapping = RingMapping();
  const int error = MapRing(*self.memory, gfns, npages, &ring.mapping);
  if (error != 0) {
    self.RemoveRing(it);  // an old ring too, and its place stays taken
    return error;
  }
  argo_ring_writer_init(&ring.writer, ring.mapping.address(), reg.len);
  ++self.places;  // for an old ring too: Xen's leak
  ++counters_.registers;
  return 0;
}

int Hypervisor::UnregisterRing(Domain& self, const void* arg) {
  argo_unregister_ring unreg;
  if (!self.CopyIn(&unreg, arg, sizeof(unreg))) return -EFAULT;
  if (unreg.pad != 0) return -EINVAL;
  auto it = self.rings.find(Domain::Key(unreg.port, unreg.partner));
  if (it == self.rings.end()) return -ENOENT;
  self.RemoveRing(it);
  --self.places;
  ++counters_.unregisters;
  return 0;
}

namespace {

// The payload that the pieces add up to, or a negative errno.
int PayloadLength(const argo_iov* iov, uint32_t niov) {
  uint32_t sum = 0;
  for (uint32_t i = 0; i < niov; ++i) {
    if (iov[i].pad != 0 || iov[i].len > ARGO_MAX_MESSAGE_SIZE) return -EINVAL;
    sum += iov[i].len;
    if (sum > ARGO_MAX_MESSAGE_SIZE) return -EMSGSIZE;
  }
  return static_cast<int>(sum);
}

}  // namespace

int Hypervisor::SendV(Domain& self, const void* addresses, const void* iovs, uint32_t niov,
                      uint32_t type) {
  argo_send_addr address;
  if (!self.CopyIn(&address, addresses, sizeof(address))) return -EFAULT;
  if (niov > ARGO_MAX_IOV) return -EINVAL;
  argo_iov iov[ARGO_MAX_IOV];
  if (!self.CopyIn(iov, iovs, niov * sizeof(argo_iov))) return -EFAULT;
  if (address.src.pad != 0 || address.dst.pad != 0) return -EINVAL;
  if (address.src.domid == ARGO_DOMID_ANY) address.src.domid = self.domid;
  if (address.src.domid != self.domid) return -EPERM;
  Domain* to = Find(address.dst.domid);
  if (to == nullptr) return -ESRCH;
  Ring* ring = to->RingFor(address.dst.port, self.domid);
  if (ring == nullptr) return -ECONNREFUSED;
  const int payload = PayloadLength(iov, niov);
  if (payload < 0) return payload;
  const auto len = static_cast<uint32_t>(payload);

  int result = argo_ring_writer_admits(&ring->writer, len);
  if (result == 0) {
    for (uint32_t i = 0; i < niov; ++i) {
      const void* base = reinterpret_cast<const void*>(static_cast<uintptr_t>(iov[i].base));
      if (!self.memory->Contains(base, iov[i].len)) return -EFAULT;
    }
    // Judges the space once more, since the owner may move rx_ptr at any time.
    result = argo_ring_writer_insert(&ring->writer, address.src, type, iov, niov, len);
  }
  if (result == -EAGAIN) {
    const bool lost = options_.quirk_4_12_0_lost_eagain;
    if (!AddWaiter(*to, *ring, self.domid, lost ? 0 : len)) return -EBUSY;
    ++counters_.eagain;
    if (!lost) return -EAGAIN;
    Raise(*to);
    return 0;
  }
  if (result != 0) return result;
  ++counters_.sends;
  counters_.bytes += len;
  Raise(*to);
  return payload;
}

// False if the list is full: nobody will wake the domain.
bool Hypervisor::AddWaiter(Domain& owner, Ring& ring, uint16_t domid, uint32_t len) {
  for (uint32_t i = 0; i < ring.waiting; ++i) {
    if (ring.waiters[i].domid != domid) continue;
    ring.waiters[i].len = std::max(ring.waiters[i].len, len);
    return true;
  }
  if (ring.waiting == ring.waiters.size() ||
      (faults_ != nullptr && faults_->NoPlaceToWait(owner.domid, domid))) {
    ++counters_.ebusy;
    return false;
  }
  ring.waiters[ring.waiting++] = {domid, len};
  ++owner.waiting;
  return true;
}

void Hypervisor::Raise(Domain& domain) {
  ++counters_.virqs;
  domain.raise_virq();
}

int Hypervisor::Notify(Domain& self, const void* arg) {
  ++counters_.notifies;
  if (self.waiting != 0) WakeWaiters(self);
  if (arg == nullptr) return 0;
  argo_ring_data head;
  if (!self.CopyIn(&head, arg, sizeof(head))) return -EFAULT;
  if (head.nent > ARGO_MAX_NOTIFY_ENTRIES) return -EACCES;
  // const_cast: the one argument that Xen writes to.
  uint8_t* entry = static_cast<uint8_t*>(const_cast<void*>(arg)) + sizeof(head);
  for (uint32_t i = 0; i < head.nent; ++i, entry += sizeof(argo_ring_data_ent)) {
    // The answers before a bad entry stay.
    if (!self.memory->Contains(entry, sizeof(argo_ring_data_ent))) return -EFAULT;
    FillRingData(self, entry);
  }
  return 0;
}

// Everybody whose message fits is woken, although perhaps not all of them fit together.
void Hypervisor::WakeWaiters(Domain& owner) {
  woken_.clear();
  for (const auto& [key, ring] : owner.rings) {
    if (ring->waiting == 0) continue;
    const uint32_t space = argo_ring_writer_space(&ring->writer);
    if (space == 0) continue;  // not even for one that waits for an empty message
    for (uint32_t i = 0; i < ring->waiting;) {
      if (ring->waiters[i].len > space) {
        ++i;
        continue;
      }
      woken_.push_back(ring->waiters[i].domid);
      ring->RemoveWaiter(i);
      --owner.waiting;
    }
  }
  // The map's order differs from run to run; a simulation must not.
  std::sort(woken_.begin(), woken_.end());
  for (uint16_t domid : woken_) Raise(*Find(domid));
}

void Hypervisor::FillRingData(Domain& self, void* entry) {
  argo_ring_data_ent ent;
  memcpy(&ent, entry, sizeof(ent));
  ent.flags = 0;
  Domain* owner = Find(ent.ring.domid);
  Ring* ring = owner == nullptr ? nullptr : owner->RingFor(ent.ring.port, self.domid);
  if (ring != nullptr) {
    ent.flags |= ARGO_RING_EXISTS;
    if (ring->partner == ARGO_DOMID_ANY) ent.flags |= ARGO_RING_SHARED;
    ent.max_message_size = ring->writer.len - ARGO_MESSAGE_HEADER_SIZE - ARGO_SLOT_SIZE;
    const uint32_t space = argo_ring_writer_space(&ring->writer);
    if (ent.space_required > ent.max_message_size) {
      ent.flags |= ARGO_RING_EMSGSIZE;
    } else if (space >= ent.space_required) {
      ent.flags |= ARGO_RING_SUFFICIENT;
      if (ring->Cancel(self.domid)) --owner->waiting;
    } else if (!AddWaiter(*owner, *ring, self.domid, ent.space_required)) {
      ent.flags |= ARGO_RING_EBUSY;
    }
    if (space == ent.max_message_size) ent.flags |= ARGO_RING_EMPTY;
  }
  // Only these two are written, and the size even if there is no ring: then it is what the caller
  // had put there.
  uint8_t* bytes = static_cast<uint8_t*>(entry);
  memcpy(bytes + offsetof(argo_ring_data_ent, flags), &ent.flags, sizeof(ent.flags));
  memcpy(bytes + offsetof(argo_ring_data_ent, max_message_size), &ent.max_message_size,
         sizeof(ent.max_message_size));
}

}  // namespace argosy::sim
