// SPDX-License-Identifier: Apache-2.0
// File: sim/argo_hypercall_guest.h
//
// A domain as the conformance tests use it: its rings, its arguments, and one call for each
// operation.  On hypercalls.h alone, and with code of its own to read rings, so that the product's
// reader and its tests cannot share a mistake.
#ifndef ARGOSY_SIM_ARGO_HYPERCALL_GUEST_H_
#define ARGOSY_SIM_ARGO_HYPERCALL_GUEST_H_

#include <gtest/gtest.h>
#include <string.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "backends/argo/abi/argo.h"
#include "sim/hypercalls.h"

namespace argosy::sim {

inline constexpr uint32_t kPort = 0x5A17;
inline constexpr uint16_t kNobody = 0x7000;  // a domid that no bed gives to a domain

struct Message {
  argo_message_header header = {};
  std::string payload;
};

// A ring in a domain's memory, read as its owner reads it.
struct Ring {
  Pages pages;
  uint32_t len = 0;

  uint32_t rx() const { return Word(0); }
  uint32_t tx() const { return Word(4); }
  void set_rx(uint32_t value) { SetWord(0, value); }
  void set_tx(uint32_t value) { SetWord(4, value); }

  // Copies `size` bytes at ring offset `at`, wrapping.
  void Copy(uint32_t at, void* to, uint32_t size) const {
    for (uint32_t i = 0; i < size; ++i) {
      static_cast<uint8_t*>(to)[i] = pages.memory[ARGO_RING_HEADER_SIZE + (at + i) % len];
    }
  }
  // Takes the next message out; false if there is none, or none that could be one.
  bool Take(Message* message) {
    const uint32_t used = (tx() + len - rx()) % len;
    if (used < ARGO_MESSAGE_HEADER_SIZE) return false;
    Copy(rx(), &message->header, sizeof(message->header));
    if (message->header.len < ARGO_MESSAGE_HEADER_SIZE || message->header.len > used) return false;
    message->payload.resize(message->header.len - ARGO_MESSAGE_HEADER_SIZE);
    Copy((rx() + ARGO_MESSAGE_HEADER_SIZE) % len, message->payload.data(),
         static_cast<uint32_t>(message->payload.size()));
    set_rx((rx() + argo_slots(message->header.len)) % len);
    return true;
  }
  void Drain() { set_rx(tx()); }

 private:
  uint32_t Word(size_t offset) const {
    return __atomic_load_n(reinterpret_cast<const uint32_t*>(pages.memory + offset),
                           __ATOMIC_ACQUIRE);
  }
  void SetWord(size_t offset, uint32_t value) {
    __atomic_store_n(reinterpret_cast<uint32_t*>(pages.memory + offset), value, __ATOMIC_SEQ_CST);
  }
};

// One domain and its arguments, which must lie in its own memory.
class Guest {
 public:
  explicit Guest(Hypercalls* domain)
      : domain_(domain),
        reg_(New<argo_register_ring>()),
        unreg_(New<argo_unregister_ring>()),
        addresses_(New<argo_send_addr>()),
        iov_(New<argo_iov>(ARGO_MAX_IOV + 1)),
        payload_(New<uint8_t>(kPayload)),
        head_(New<argo_ring_data>(1 + (ARGO_MAX_NOTIFY_ENTRIES + 1) * 3)) {}

  Hypercalls* operator->() const { return domain_; }
  uint16_t domid() const { return domain_->domid(); }

  template <typename T>
  T* New(size_t count = 1) {
    return static_cast<T*>(domain_->Allocate(count * sizeof(T)));
  }

  // `ring` gets fresh pages if it has none.
  int Register(Ring* ring, uint32_t len, uint16_t partner, uint32_t flags = 0,
               uint32_t port = kPort) {
    if (ring->pages.gfns.empty()) ring->pages = domain_->AllocatePages(argo_ring_pages(len));
    ring->len = len;
    return RegisterPages(ring->pages.gfns, len, partner, flags, port);
  }
  int RegisterPages(const std::vector<uint64_t>& gfns, uint32_t len, uint16_t partner,
                    uint32_t flags = 0, uint32_t port = kPort, uint16_t pad = 0) {
    auto* list = New<uint64_t>(gfns.size());
    std::copy(gfns.begin(), gfns.end(), list);
    *reg_ = {port, partner, pad, len};
    return domain_->ArgoOp(ARGO_OP_REGISTER_RING, reg_, list, gfns.size(), flags);
  }
  int Unregister(uint16_t partner, uint16_t pad = 0) {
    *unreg_ = {kPort, partner, pad};
    return domain_->ArgoOp(ARGO_OP_UNREGISTER_RING, unreg_, nullptr, 0, 0);
  }

  void Address(uint16_t to, uint32_t port = kPort) {
    *addresses_ = {{kPort + 1, domid(), 0}, {port, to, 0}};
  }
  // Sends what iov() holds to where Address() points.
  int SendIov(uint32_t niov, uint32_t type = 0) {
    return domain_->ArgoOp(ARGO_OP_SENDV, addresses_, iov_, niov, type);
  }
  int Send(uint16_t to, absl::string_view payload, uint32_t type = 0) {
    Address(to);
    memcpy(payload_, payload.data(), payload.size());
    iov_[0] = Piece(payload_, payload.size());
    return SendIov(1, type);
  }
  static argo_iov Piece(const void* base, size_t len) {
    return {reinterpret_cast<uintptr_t>(base), static_cast<uint32_t>(len), 0};
  }

  int Notify() { return domain_->ArgoOp(ARGO_OP_NOTIFY, nullptr, nullptr, 0, 0); }
  // Asks about one ring.  The caller's max_message_size goes in as 0xABCD.
  argo_ring_data_ent Query(uint16_t owner, uint32_t space, uint32_t port = kPort) {
    argo_ring_data_ent ent = {{port, owner, 0}, 0xFFFF, 0, space, 0xABCD};
    *head_ = {1, 0};
    memcpy(head_ + 1, &ent, sizeof(ent));
    EXPECT_EQ(domain_->ArgoOp(ARGO_OP_NOTIFY, head_, nullptr, 0, 0), 0);
    memcpy(&ent, head_ + 1, sizeof(ent));
    return ent;
  }
  // What the ring at `owner` admits now.  Asks so that it never leaves the guest on a list of
  // waiters.
  uint32_t Space(uint16_t owner) {
    const uint32_t max = Query(owner, 0).max_message_size;
    uint32_t space = max + 16;
    while (space > 0 && (Query(owner, space).flags & ARGO_RING_SUFFICIENT) == 0) space -= 16;
    Query(owner, 0);  // is always sufficient, which ends the wait that a "no" began
    return space;
  }

  argo_send_addr* addresses() { return addresses_; }
  argo_iov* iov() { return iov_; }
  argo_ring_data* head() { return head_; }
  uint8_t* payload() { return payload_; }
  argo_unregister_ring* unreg() { return unreg_; }

  static constexpr size_t kPayload = 64 << 10;

 private:
  Hypercalls* domain_;
  argo_register_ring* reg_;
  argo_unregister_ring* unreg_;
  argo_send_addr* addresses_;
  argo_iov* iov_;
  uint8_t* payload_;
  argo_ring_data* head_;
};

inline std::string Pattern(size_t len, int seed = 0) {
  std::string bytes(len, 0);
  for (size_t i = 0; i < len; ++i) bytes[i] = static_cast<char>(seed * 31 + i * 7 + 1);
  return bytes;
}

// Skips the test that it stands in if the bed cannot have such a machine, or one more domain.
#define MAKE_BED(name, ...)                                                                        \
  absl::string_view why;                                                                           \
  std::unique_ptr<HypercallBed> name = MakeHypercallBed(HypercallBed::Options{__VA_ARGS__}, &why); \
  if (name == nullptr) GTEST_SKIP() << why
#define MAKE_DOMAIN(name, bed)                           \
  Hypercalls* name##_domain = (bed)->CreateDomain(&why); \
  if (name##_domain == nullptr) GTEST_SKIP() << why;     \
  Guest name(name##_domain)
#define KILL_DOMAIN(name, bed) \
  if (!(bed)->KillDomain(name##_domain, &why)) GTEST_SKIP() << why

}  // namespace argosy::sim

#endif  // ARGOSY_SIM_ARGO_HYPERCALL_GUEST_H_
