// SPDX-License-Identifier: Apache-2.0
// The hypervisor against arbitrary calls of three domains.  An input is a program: one byte of
// options, then steps, each with its operands.  Whatever it did, afterwards two fresh domains must
// be able to talk, and every answer was one that Xen has.
#include <errno.h>
#include <string.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <memory>

#include "backends/argo/abi/argo.h"
#include "sim/guest_memory.h"
#include "sim/hypervisor.h"

namespace argosy::sim {
namespace {

constexpr int kDomains = 3;
constexpr size_t kPages = 12;
constexpr size_t kBytes = kPages * GuestMemory::kPageSize;
constexpr size_t kArguments = 9 * GuestMemory::kPageSize;  // where steps put what they pass
constexpr int kMaxSteps = 256;

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

// Where offsets into a domain's memory start: page 0, which is never the domain's.
uint8_t* Base(const GuestMemory& memory) { return memory.At(1) - GuestMemory::kPageSize; }

// Operands, zeroes once the input is used up.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool empty() const { return size_ == 0; }
  template <typename T>
  T Take() {
    T value{};
    const size_t n = std::min(sizeof(T), size_);
    memcpy(&value, data_, n);
    data_ += n;
    size_ -= n;
    return value;
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

class Machine {
 public:
  Machine(const Hypervisor::Options& options, std::unique_ptr<GuestMemory>* memories)
      : xen_(options), memories_(memories) {
    for (int d = 1; d <= kDomains; ++d) Create(d);
  }

  void Step(Input& in) {
    const uint16_t domid = 1 + in.Take<uint8_t>() % kDomains;
    GuestMemory& memory = *memories_[domid - 1];
    uint8_t* args = Base(memory) + kArguments;
    switch (in.Take<uint8_t>() % 9) {
      case 0:  // anything at all
        Op(domid, in.Take<uint8_t>() % 6, Pointer(in, memory), Pointer(in, memory),
           in.Take<uint64_t>(), in.Take<uint64_t>());
        break;
      case 1: {  // register, mostly in order
        const argo_register_ring reg = {Port(in), Domid(in), 0,
                                        uint32_t{in.Take<uint16_t>()} / 16 * 16};
        const uint32_t npages = argo_ring_pages(reg.len);
        memcpy(args, &reg, sizeof(reg));
        for (uint32_t i = 0; i < npages; ++i) {
          const uint64_t gfn = in.Take<uint8_t>() % (kPages + 1);  // one is no memory
          memcpy(args + 64 + i * 8, &gfn, 8);
        }
        Op(domid, ARGO_OP_REGISTER_RING, args, args + 64, npages, in.Take<uint8_t>() % 3);
        break;
      }
      case 2: {
        const argo_unregister_ring unreg = {Port(in), Domid(in), 0};
        memcpy(args, &unreg, sizeof(unreg));
        Op(domid, ARGO_OP_UNREGISTER_RING, args, nullptr, 0, 0);
        break;
      }
      case 3:
      case 4: {  // send
        const argo_send_addr address = {{in.Take<uint32_t>(), ARGO_DOMID_ANY, 0},
                                        {Port(in), Domid(in), 0}};
        memcpy(args, &address, sizeof(address));
        const uint32_t niov = in.Take<uint8_t>() % 9;
        for (uint32_t i = 0; i < niov; ++i) {
          const argo_iov iov = {reinterpret_cast<uintptr_t>(Pointer(in, memory)),
                                uint32_t{in.Take<uint16_t>()}, 0};
          memcpy(args + 64 + i * sizeof(iov), &iov, sizeof(iov));
        }
        Op(domid, ARGO_OP_SENDV, args, args + 64, niov, 7);
        break;
      }
      case 5: {  // notify
        const argo_ring_data head = {in.Take<uint8_t>() % 5u, 0};
        memcpy(args, &head, sizeof(head));
        for (uint32_t i = 0; i < head.nent; ++i) {
          const argo_ring_data_ent ent = {{Port(in), Domid(in), 0}, 0, 0, in.Take<uint16_t>(), 0};
          memcpy(args + sizeof(head) + i * sizeof(ent), &ent, sizeof(ent));
        }
        Op(domid, ARGO_OP_NOTIFY, head.nent == 0 ? nullptr : args, nullptr, 0, 0);
        break;
      }
      case 6: {  // the guest writes to its own pages
        const auto value = in.Take<uint32_t>();
        const size_t offset = in.Take<uint16_t>() % (kBytes / 4) * 4;
        memcpy(Base(memory) + offset, &value, sizeof(value));
        break;
      }
      case 7: {  // the guest reads all of a ring
        uint8_t* page = memory.At(in.Take<uint8_t>() % kPages);
        memcpy(page, page + 4, 4);
        break;
      }
      case 8:
        xen_.DestroyDomain(domid);
        alive_[domid - 1].reset();
        if (in.Take<uint8_t>() % 4 != 0) Create(domid);
        break;
    }
  }

  // New domains in the place of the old ones, which leave nothing behind.
  void CheckHealth() {
    for (int d = 1; d <= kDomains; ++d) {
      xen_.DestroyDomain(d);
      Create(d);
    }
    uint8_t* owner = memories_[1]->At(1);
    memset(owner, 0, 64);
    const uint64_t gfn = 1;
    const argo_register_ring reg = {1, 1, 0, 64};
    uint8_t* args = Base(*memories_[1]) + kArguments;
    memcpy(args, &reg, sizeof(reg));
    memcpy(args + 64, &gfn, 8);
    Require(xen_.ArgoOp(2, ARGO_OP_REGISTER_RING, args, args + 64, 1, 0) == 0, "register");
    args = Base(*memories_[0]) + kArguments;
    const argo_send_addr address = {{9, 1, 0}, {1, 2, 0}};
    const argo_iov iov = {reinterpret_cast<uintptr_t>(args + 128), 5, 0};
    memcpy(args, &address, sizeof(address));
    memcpy(args + 64, &iov, sizeof(iov));
    memcpy(args + 128, "hello", 5);
    *alive_[1] = 0;
    Require(xen_.ArgoOp(1, ARGO_OP_SENDV, args, args + 64, 1, 3) == 5, "send");
    Require(*alive_[1] == 1, "interrupt");
    Require(memcmp(owner + 80, "hello", 5) == 0, "message");
  }

 private:
  void Create(uint16_t domid) {
    // On the heap, so that an interrupt for the dead is seen by the sanitizer.
    auto& count = alive_[domid - 1];
    count = std::make_unique<uint64_t>(0);
    Require(xen_.CreateDomain(domid, memories_[domid - 1].get(), [c = count.get()] { ++*c; }).ok(),
            "create");
  }

  static uint32_t Port(Input& in) { return in.Take<uint8_t>() % 4; }
  static uint16_t Domid(Input& in) {
    const uint8_t choice = in.Take<uint8_t>() % 8;
    if (choice < 5) return choice;  // 0 and 4 do not exist
    if (choice == 5) return ARGO_DOMID_ANY;
    if (choice == 6) return ARGO_DOMID_SELF;
    return in.Take<uint16_t>();
  }
  const void* Pointer(Input& in, const GuestMemory& memory) const {
    const uint8_t choice = in.Take<uint8_t>() % 6;
    const uint16_t offset = in.Take<uint16_t>();
    switch (choice) {
      case 0:
        return nullptr;
      case 1:
        return memory.BadPointer();
      case 2:
        return Base(memory) + kBytes - offset % 64;
      case 3:
        return memories_[offset % kDomains]->At(1);
      default:
        return Base(memory) + offset % kBytes;
    }
  }

  void Op(uint16_t domid, uint32_t command, const void* arg1, const void* arg2, uint64_t arg3,
          uint64_t arg4) {
    const int rc = xen_.ArgoOp(domid, command, arg1, arg2, arg3, arg4);
    if (rc >= 0) {
      Require(
          command == ARGO_OP_SENDV ? static_cast<uint32_t>(rc) <= ARGO_MAX_MESSAGE_SIZE : rc == 0,
          "an answer beyond the largest message");
      return;
    }
    static constexpr int kErrors[] = {EPERM,  ENOENT,   ESRCH,      EAGAIN,      EACCES,
                                      EFAULT, EBUSY,    EEXIST,     ENODEV,      EINVAL,
                                      ENOSPC, EMSGSIZE, EOPNOTSUPP, ECONNREFUSED};
    Require(std::count(std::begin(kErrors), std::end(kErrors), -rc) == 1,
            "an error that Xen does not have");
  }

  Hypervisor xen_;
  std::unique_ptr<GuestMemory>* const memories_;
  std::unique_ptr<uint64_t> alive_[kDomains];  // interrupts; null for a destroyed domain
};

}  // namespace
}  // namespace argosy::sim

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using argosy::sim::GuestMemory;
  static std::unique_ptr<GuestMemory>* const memories = [] {
    static std::unique_ptr<GuestMemory> made[argosy::sim::kDomains];
    for (auto& memory : made) memory = *GuestMemory::Create(argosy::sim::kBytes);
    return made;
  }();
  for (int i = 0; i < argosy::sim::kDomains; ++i) {
    memset(argosy::sim::Base(*memories[i]), 0, argosy::sim::kBytes);
  }
  argosy::sim::Input in(data, size);
  const auto options = in.Take<uint8_t>();
  argosy::sim::Machine machine({.argo = true,
                                .mac_permissive = (options & 1) != 0,
                                .quirk_4_12_0_lost_eagain = (options & 2) != 0},
                               memories);
  for (int step = 0; step < argosy::sim::kMaxSteps && !in.empty(); ++step) machine.Step(in);
  machine.CheckHealth();
  return 0;
}
