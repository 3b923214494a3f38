// SPDX-License-Identifier: Apache-2.0
// What Xen's argo_op answers: conformance tests C01 to C30.  Written against hypercalls.h alone, so
// that the same source judges the simulator and a real Xen; what a bed cannot do is skipped with
// the bed's reason.  The tests read rings with code of their own, not with the product's.
#include <errno.h>
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
namespace {

constexpr uint32_t kPort = 0x5A17;
constexpr uint16_t kNobody = 0x7000;  // a domid that no bed gives to a domain

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

std::string Pattern(size_t len, int seed = 0) {
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

TEST(ArgoHypercalls, C01_WithoutArgoEveryOperationIsUnsupported) {
  MAKE_BED(bed, .argo = false);
  MAKE_DOMAIN(guest, bed);
  for (uint32_t op = 0; op <= 5; ++op) {
    EXPECT_EQ(guest->ArgoOp(op, nullptr, nullptr, 0, 0), -EOPNOTSUPP) << op;
  }
}

TEST(ArgoHypercalls, C02_UnknownOperationsAreUnsupported) {
  MAKE_BED(bed);
  MAKE_DOMAIN(guest, bed);
  for (uint32_t op : {0u, 5u, 6u, 8u, 0xFFFFFFFFu}) {
    EXPECT_EQ(guest->ArgoOp(op, nullptr, nullptr, 0, 0), -EOPNOTSUPP) << op;
  }
}

TEST(ArgoHypercalls, C03_ArgumentsMustFitIn32Bits) {
  MAKE_BED(bed);
  MAKE_DOMAIN(guest, bed);
  for (uint32_t op = 0; op <= 5; ++op) {
    EXPECT_EQ(guest->ArgoOp(op, nullptr, nullptr, uint64_t{1} << 32, 0), -EINVAL) << op;
    EXPECT_EQ(guest->ArgoOp(op, nullptr, nullptr, 0, uint64_t{1} << 32), -EINVAL) << op;
  }
}

TEST(ArgoHypercalls, C04_BadRegistrationsAreInvalid) {
  MAKE_BED(bed);
  MAKE_DOMAIN(guest, bed);
  const uint16_t self = guest.domid();
  const std::vector<uint64_t> gfns = guest->AllocatePages(3).gfns;
  const std::vector<uint64_t> one(gfns.begin(), gfns.begin() + 1);
  for (uint32_t len : {0u, 1u, 32u, 47u, 49u, 63u, 0xFFFFFFF0u, 0xFFFFFFFFu}) {
    EXPECT_EQ(guest.RegisterPages(one, len, self), -EINVAL) << len;
  }
  EXPECT_EQ(guest.RegisterPages(one, 64, self, 0, kPort, /*pad=*/1), -EINVAL);
  // 4032 bytes fill one page together with the header, 4048 need two.
  EXPECT_EQ(guest.RegisterPages(one, 4048, self), -EINVAL);
  EXPECT_EQ(guest.RegisterPages(gfns, 4048, self), -EINVAL);
  EXPECT_EQ(guest.RegisterPages({}, 4032, self), -EINVAL);
  for (uint32_t flags : {2u, 3u, 0x80000000u}) {
    EXPECT_EQ(guest.RegisterPages(one, 64, self, flags), -EINVAL) << flags;
  }
  // Nothing of all this left a ring behind.
  EXPECT_EQ(guest.Unregister(self), -ENOENT);
}

TEST(ArgoHypercalls, C04_BadPointersFault) {
  MAKE_BED(bed);
  MAKE_DOMAIN(guest, bed);
  Ring ring;
  const void* bad = guest->BadPointer();
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_REGISTER_RING, bad, nullptr, 1, 0), -EFAULT);
  // The limits on numbers come before the look at the arguments.
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_REGISTER_RING, bad, nullptr, 4097, 0), -EINVAL);
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_REGISTER_RING, bad, nullptr, 1, 2), -EINVAL);
  auto* reg = guest.New<argo_register_ring>();
  *reg = {kPort, guest.domid(), 0, 64};
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_REGISTER_RING, reg, bad, 1, 0), -EFAULT);
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_UNREGISTER_RING, bad, nullptr, 0, 0), -EFAULT);
}

TEST(ArgoHypercalls, C05_SmallestRing) {
  MAKE_BED(bed);
  MAKE_DOMAIN(guest, bed);
  Ring ring;
  ASSERT_EQ(guest.Register(&ring, 48, guest.domid()), 0);
  EXPECT_EQ(ring.pages.gfns.size(), 1u);
  EXPECT_EQ(guest.Query(guest.domid(), 0).max_message_size, 16u);
}

TEST(ArgoHypercalls, C06_LargestRing) {
  MAKE_BED(bed);
  MAKE_DOMAIN(guest, bed);
  std::vector<uint64_t> gfns = guest->AllocatePages(4097).gfns;
  ASSERT_EQ(gfns.size(), 4097u);
  EXPECT_EQ(guest.RegisterPages(gfns, 0x1000000, guest.domid()), -EINVAL);
  gfns.pop_back();
  EXPECT_EQ(guest.RegisterPages(gfns, 0x1000000, guest.domid()), -EINVAL);
  ASSERT_EQ(guest.RegisterPages(gfns, 0xFFFFC0, guest.domid()), 0);
  EXPECT_EQ(guest.Query(guest.domid(), 0).max_message_size, 0xFFFFC0u - 32);
}

TEST(ArgoHypercalls, C07_WildcardRingsNeedMacPermissive) {
  MAKE_BED(bed, .mac_permissive = true);
  MAKE_DOMAIN(guest, bed);
  Ring ring;
  EXPECT_EQ(guest.Register(&ring, 64, ARGO_DOMID_ANY), 0);
}

TEST(ArgoHypercalls, C07_WildcardRingsAreRefusedByDefault) {
  MAKE_BED(bed, .mac_permissive = false);
  MAKE_DOMAIN(guest, bed);
  Ring ring;
  EXPECT_EQ(guest.Register(&ring, 64, ARGO_DOMID_ANY), -EPERM);
  EXPECT_EQ(guest.Register(&ring, 64, guest.domid()), 0);
}

TEST(ArgoHypercalls, C08_PartnerMustExist) {
  MAKE_BED(bed);
  MAKE_DOMAIN(guest, bed);
  Ring ring;
  EXPECT_EQ(guest.Register(&ring, 64, kNobody), -ESRCH);
  EXPECT_EQ(guest.Register(&ring, 64, ARGO_DOMID_SELF), -ESRCH);
}

TEST(ArgoHypercalls, C09_RegisterAgain) {
  MAKE_BED(bed);
  MAKE_DOMAIN(guest, bed);
  const uint16_t self = guest.domid();
  Ring ring;
  ASSERT_EQ(guest.Register(&ring, 64, self, ARGO_REGISTER_FLAG_FAIL_EXIST), 0);
  EXPECT_EQ(guest.Register(&ring, 64, self, ARGO_REGISTER_FLAG_FAIL_EXIST), -EEXIST);
  EXPECT_EQ(guest.RegisterPages(ring.pages.gfns, 80, self), -EEXIST);
  EXPECT_EQ(guest.RegisterPages(ring.pages.gfns, 80, self, ARGO_REGISTER_FLAG_FAIL_EXIST), -EEXIST);
  EXPECT_EQ(guest.Query(self, 0).max_message_size, 32u);
  EXPECT_EQ(guest.Register(&ring, 64, self), 0);

  // On other pages too: from now on messages land there.
  Ring other;
  ASSERT_EQ(guest.Register(&other, 64, self), 0);
  ASSERT_EQ(guest.Send(self, "here"), 4);
  EXPECT_EQ(ring.tx(), 0u);
  EXPECT_EQ(other.tx(), 32u);
}

TEST(ArgoHypercalls, C09_FailedRegisterAgainLosesTheOldRing) {
  MAKE_BED(bed);
  MAKE_DOMAIN(guest, bed);
  const uint16_t self = guest.domid();
  Ring ring;
  ASSERT_EQ(guest.Register(&ring, 64, self), 0);
  EXPECT_EQ(guest.RegisterPages({guest->InvalidGfn()}, 64, self), -EINVAL);
  EXPECT_EQ(guest.Send(self, "gone"), -ECONNREFUSED);
  EXPECT_EQ(guest.Unregister(self), -ENOENT);
}

TEST(ArgoHypercalls, C10_The129thRingHasNoSpace) {
  MAKE_BED(bed);
  MAKE_DOMAIN(guest, bed);
  Ring ring;
  for (uint32_t i = 0; i < ARGO_MAX_RINGS_PER_DOMAIN; ++i) {
    Ring fresh;
    ASSERT_EQ(guest.Register(&fresh, 64, guest.domid(), 0, kPort + i), 0) << i;
  }
  EXPECT_EQ(guest.Register(&ring, 64, guest.domid(), 0, kPort + 128), -ENOSPC);
  // Checked before the look for an old ring.
  EXPECT_EQ(guest.Register(&ring, 64, guest.domid()), -ENOSPC);
  EXPECT_EQ(guest.Register(&ring, 64, guest.domid(), ARGO_REGISTER_FLAG_FAIL_EXIST), -ENOSPC);
  ASSERT_EQ(guest.Unregister(guest.domid()), 0);
  EXPECT_EQ(guest.Register(&ring, 64, guest.domid(), 0, kPort + 128), 0);
}

TEST(ArgoHypercalls, C11_InitialPointers) {
  MAKE_BED(bed);
  MAKE_DOMAIN(guest, bed);
  struct Case {
    uint32_t rx, tx;
    uint32_t want_tx;
  };
  for (const Case& c : std::vector<Case>{
           {0, 0, 0},
           {0, 32, 32},                  // valid: kept
           {48, 112, 112},               // the last slot
           {32, 33, 32},                 // unaligned: everything is dropped up to rx
           {20, 33, 32},                 // and rx is rounded up
           {48, 128, 48},                // out of range
           {48, 0xFFFFFFF0, 48},         // far out of range
           {128, 33, 0},                 // neither is of use
           {0xFFFFFFFF, 0xFFFFFFFF, 0},  // rounding up wraps
           {113, 129, 0},                // rounds up to the end
       }) {
    SCOPED_TRACE(testing::Message() << "rx " << c.rx << " tx " << c.tx);
    Ring ring;
    ring.pages = guest->AllocatePages(1);
    ring.set_rx(c.rx);
    ring.set_tx(c.tx);
    ASSERT_EQ(guest.Register(&ring, 128, guest.domid()), 0);
    EXPECT_EQ(ring.tx(), c.want_tx);
    // What Xen believes, and not only what it wrote: the next message goes there.
    ring.set_rx(c.want_tx);
    ASSERT_EQ(guest.Send(guest.domid(), "x"), 1);
    Message message;
    ASSERT_TRUE(ring.Take(&message));
    EXPECT_EQ(message.payload, "x");
    ASSERT_EQ(guest.Unregister(guest.domid()), 0);
  }
}

TEST(ArgoHypercalls, C11_GuestsTxPtrIsIgnoredLater) {
  MAKE_BED(bed);
  MAKE_DOMAIN(guest, bed);
  Ring ring;
  ASSERT_EQ(guest.Register(&ring, 128, guest.domid()), 0);
  ring.set_tx(96);
  ASSERT_EQ(guest.Send(guest.domid(), "first"), 5);
  EXPECT_EQ(ring.tx(), 32u);
}

TEST(ArgoHypercalls, C12_FramesThatAreNotMemory) {
  MAKE_BED(bed);
  MAKE_DOMAIN(guest, bed);
  const uint16_t self = guest.domid();
  const std::vector<uint64_t> good = guest->AllocatePages(2).gfns;
  EXPECT_EQ(guest.RegisterPages({guest->InvalidGfn()}, 64, self), -EINVAL);
  EXPECT_EQ(guest.RegisterPages({good[0], guest->InvalidGfn()}, 4096, self), -EINVAL);
  EXPECT_EQ(guest.RegisterPages({guest->MmioGfn()}, 64, self), -EPERM);
  EXPECT_EQ(guest.RegisterPages({good[0], guest->MmioGfn()}, 4096, self), -EPERM);
  // The first bad one counts.
  EXPECT_EQ(guest.RegisterPages({guest->MmioGfn(), guest->InvalidGfn()}, 4096, self), -EPERM);
  EXPECT_EQ(guest.Unregister(self), -ENOENT);
  EXPECT_EQ(guest.RegisterPages(good, 4096, self), 0);
}

TEST(ArgoHypercalls, C13_Unregister) {
  MAKE_BED(bed);
  MAKE_DOMAIN(guest, bed);
  MAKE_DOMAIN(other, bed);
  Ring ring;
  EXPECT_EQ(guest.Unregister(guest.domid()), -ENOENT);
  ASSERT_EQ(guest.Register(&ring, 64, guest.domid()), 0);
  EXPECT_EQ(guest.Unregister(other.domid()), -ENOENT);  // another partner's
  EXPECT_EQ(guest.Unregister(guest.domid(), /*pad=*/1), -EINVAL);
  *guest.unreg() = {kPort, guest.domid(), 0};
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_UNREGISTER_RING, guest.unreg(), guest.unreg(), 0, 0), -EINVAL);
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_UNREGISTER_RING, guest.unreg(), nullptr, 1, 0), -EINVAL);
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_UNREGISTER_RING, guest.unreg(), nullptr, 0, 1), -EINVAL);
  EXPECT_EQ(guest.Unregister(guest.domid()), 0);
  EXPECT_EQ(guest.Unregister(guest.domid()), -ENOENT);
}

TEST(ArgoHypercalls, C14_SendToNobody) {
  MAKE_BED(bed);
  MAKE_DOMAIN(sender, bed);
  MAKE_DOMAIN(owner, bed);
  MAKE_DOMAIN(third, bed);
  EXPECT_EQ(sender.Send(owner.domid(), "hello"), -ECONNREFUSED);
  EXPECT_EQ(sender.Send(kNobody, "hello"), -ESRCH);
  EXPECT_EQ(sender.Send(ARGO_DOMID_SELF, "hello"), -ESRCH);
  EXPECT_EQ(sender.Send(ARGO_DOMID_ANY, "hello"), -ESRCH);
  // A ring for somebody else.
  Ring ring;
  ASSERT_EQ(owner.Register(&ring, 64, third.domid()), 0);
  EXPECT_EQ(sender.Send(owner.domid(), "hello"), -ECONNREFUSED);
  EXPECT_EQ(third.Send(owner.domid(), "hello"), 5);
}

TEST(ArgoHypercalls, C14_SenderCannotBeAnother) {
  MAKE_BED(bed);
  MAKE_DOMAIN(sender, bed);
  MAKE_DOMAIN(owner, bed);
  Ring ring;
  ASSERT_EQ(owner.Register(&ring, 64, sender.domid()), 0);
  sender.Address(owner.domid());
  sender.addresses()->src.domid = owner.domid();
  EXPECT_EQ(sender.SendIov(0), -EPERM);
  sender.addresses()->src.domid = ARGO_DOMID_SELF;
  EXPECT_EQ(sender.SendIov(0), -EPERM);
  sender.addresses()->dst.domid = kNobody;  // judged before the destination
  EXPECT_EQ(sender.SendIov(0), -EPERM);
  sender.addresses()->src.pad = 1;  // and the padding before that
  EXPECT_EQ(sender.SendIov(0), -EINVAL);
  sender.Address(owner.domid());
  sender.addresses()->dst.pad = 1;
  EXPECT_EQ(sender.SendIov(0), -EINVAL);
  // "Any" stands for the sender itself, and so it arrives.
  sender.Address(owner.domid());
  sender.addresses()->src.domid = ARGO_DOMID_ANY;
  EXPECT_EQ(sender.SendIov(0), 0);
  Message message;
  ASSERT_TRUE(ring.Take(&message));
  EXPECT_EQ(message.header.src.domid, sender.domid());
}

TEST(ArgoHypercalls, C15_BadPieces) {
  MAKE_BED(bed);
  MAKE_DOMAIN(guest, bed);
  const uint16_t self = guest.domid();
  const argo_iov good = Guest::Piece(guest.payload(), 1);
  Ring ring;
  guest.Address(self);
  std::fill_n(guest.iov(), ARGO_MAX_IOV + 1, good);
  EXPECT_EQ(guest.SendIov(9), -EINVAL);
  // A missing ring comes before bad pieces ...
  guest.iov()[0].pad = 1;
  EXPECT_EQ(guest.SendIov(1), -ECONNREFUSED);
  ASSERT_EQ(guest.Register(&ring, 256, self), 0);
  EXPECT_EQ(guest.SendIov(1), -EINVAL);
  guest.iov()[0] = good;
  guest.iov()[7].pad = 1;
  EXPECT_EQ(guest.SendIov(8), -EINVAL);
  guest.iov()[7] = good;
  EXPECT_EQ(guest.SendIov(8), 8);
  EXPECT_EQ(guest.SendIov(9), -EINVAL);

  // ... and too long comes before a bad pointer.
  guest.iov()[0] = Guest::Piece(guest->BadPointer(), ARGO_MAX_MESSAGE_SIZE + 1);
  EXPECT_EQ(guest.SendIov(1), -EINVAL);
  guest.iov()[0].len = 0xFFFFFFFF;
  EXPECT_EQ(guest.SendIov(1), -EINVAL);
  guest.iov()[0].len = ARGO_MAX_MESSAGE_SIZE;
  guest.iov()[1] = good;
  EXPECT_EQ(guest.SendIov(2), -EMSGSIZE);
  for (int i = 0; i < 8; ++i) guest.iov()[i].len = ARGO_MAX_MESSAGE_SIZE;
  EXPECT_EQ(guest.SendIov(8), -EMSGSIZE);

  EXPECT_EQ(guest->ArgoOp(ARGO_OP_SENDV, guest.addresses(), guest->BadPointer(), 1, 0), -EFAULT);
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_SENDV, guest->BadPointer(), guest.iov(), 1, 0), -EFAULT);
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_SENDV, guest->BadPointer(), guest.iov(), 9, 0), -EFAULT);
}

TEST(ArgoHypercalls, C16_LargestMessage) {
  MAKE_BED(bed);
  MAKE_DOMAIN(guest, bed);
  for (uint32_t len : {48u, 64u, 128u, 4032u, 8192u}) {
    SCOPED_TRACE(len);
    Ring ring;
    ASSERT_EQ(guest.Register(&ring, len, guest.domid()), 0);
    EXPECT_EQ(guest.Send(guest.domid(), Pattern(len - 31)), -EMSGSIZE);
    EXPECT_EQ(ring.tx(), 0u);
    EXPECT_EQ(guest.Send(guest.domid(), Pattern(len - 32)), static_cast<int>(len - 32));
    Message message;
    ASSERT_TRUE(ring.Take(&message));
    EXPECT_EQ(message.payload, Pattern(len - 32));
    ASSERT_EQ(guest.Unregister(guest.domid()), 0);
  }
}

TEST(ArgoHypercalls, C17_FullRingWakesTheSenderAfterNotify) {
  MAKE_BED(bed);
  MAKE_DOMAIN(sender, bed);
  MAKE_DOMAIN(owner, bed);
  Ring ring;
  ASSERT_EQ(owner.Register(&ring, 128, sender.domid()), 0);
  for (int i = 0; i < 3; ++i) ASSERT_EQ(sender.Send(owner.domid(), Pattern(16, i)), 16);
  EXPECT_EQ(sender.Send(owner.domid(), Pattern(16)), -EAGAIN);
  EXPECT_EQ(ring.tx(), 96u);
  EXPECT_EQ(owner.Notify(), 0);  // nothing has become free
  EXPECT_EQ(sender->TakeInterrupts(), 0u);
  Message message;
  ASSERT_TRUE(ring.Take(&message));
  EXPECT_EQ(sender->TakeInterrupts(), 0u);
  EXPECT_EQ(owner.Notify(), 0);
  EXPECT_GT(sender->TakeInterrupts(), 0u);
  EXPECT_EQ(sender.Send(owner.domid(), Pattern(16, 3)), 16);
  for (int i = 1; i < 4; ++i) {
    ASSERT_TRUE(ring.Take(&message));
    EXPECT_EQ(message.payload, Pattern(16, i));
  }
  // One wake-up for one wait.
  EXPECT_EQ(owner.Notify(), 0);
  EXPECT_EQ(sender->TakeInterrupts(), 0u);
}

TEST(ArgoHypercalls, C18_DrainWithoutNotifyWakesNobody) {
  MAKE_BED(bed);
  MAKE_DOMAIN(sender, bed);
  MAKE_DOMAIN(owner, bed);
  Ring ring;
  ASSERT_EQ(owner.Register(&ring, 64, sender.domid()), 0);
  ASSERT_EQ(sender.Send(owner.domid(), Pattern(32)), 32);
  ASSERT_EQ(sender.Send(owner.domid(), Pattern(32)), -EAGAIN);
  ring.Drain();
  // Neither the sender's own notify nor a successful send looks at the waiters.
  EXPECT_EQ(sender.Notify(), 0);
  EXPECT_EQ(sender.Send(owner.domid(), "x"), 1);
  EXPECT_EQ(sender->TakeInterrupts(), 0u);
  ring.Drain();
  EXPECT_EQ(owner.Notify(), 0);
  EXPECT_GT(sender->TakeInterrupts(), 0u);
}

TEST(ArgoHypercalls, C19_The33rdWaiterIsRefused) {
  MAKE_BED(bed, .mac_permissive = true);
  MAKE_DOMAIN(owner, bed);
  Ring ring;
  ASSERT_EQ(owner.Register(&ring, 48, ARGO_DOMID_ANY), 0);
  std::vector<Guest> senders;
  for (int i = 0; i < 34; ++i) {
    MAKE_DOMAIN(sender, bed);
    senders.push_back(sender);
  }
  ASSERT_EQ(senders[0].Send(owner.domid(), Pattern(16)), 16);
  for (int i = 0; i < 32; ++i) EXPECT_EQ(senders[i].Send(owner.domid(), "x"), -EAGAIN) << i;
  EXPECT_EQ(senders[32].Send(owner.domid(), "x"), -EBUSY);
  EXPECT_EQ(senders[33].Query(owner.domid(), 1).flags,
            ARGO_RING_EXISTS | ARGO_RING_SHARED | ARGO_RING_EBUSY);
  EXPECT_EQ(senders[0].Send(owner.domid(), "x"), -EAGAIN);  // has its place already
  ring.Drain();
  EXPECT_EQ(owner.Notify(), 0);
  for (int i = 0; i < 32; ++i) EXPECT_GT(senders[i]->TakeInterrupts(), 0u) << i;
  EXPECT_EQ(senders[32]->TakeInterrupts(), 0u);
  EXPECT_EQ(senders[33]->TakeInterrupts(), 0u);
}

TEST(ArgoHypercalls, C20_TheRingForOnePartnerGoesFirst) {
  MAKE_BED(bed, .mac_permissive = true);
  MAKE_DOMAIN(owner, bed);
  MAKE_DOMAIN(partner, bed);
  MAKE_DOMAIN(stranger, bed);
  Ring own, shared;
  ASSERT_EQ(owner.Register(&shared, 64, ARGO_DOMID_ANY), 0);
  ASSERT_EQ(owner.Register(&own, 96, partner.domid()), 0);
  ASSERT_EQ(partner.Send(owner.domid(), "partner"), 7);
  ASSERT_EQ(stranger.Send(owner.domid(), "stranger"), 8);
  Message message;
  ASSERT_TRUE(own.Take(&message));
  EXPECT_EQ(message.payload, "partner");
  EXPECT_FALSE(own.Take(&message));
  ASSERT_TRUE(shared.Take(&message));
  EXPECT_EQ(message.payload, "stranger");
  EXPECT_FALSE(shared.Take(&message));
  EXPECT_EQ(partner.Query(owner.domid(), 0).flags & ARGO_RING_SHARED, 0);
  EXPECT_NE(stranger.Query(owner.domid(), 0).flags & ARGO_RING_SHARED, 0);
  // Once its own ring is gone, the partner is a stranger like the others.
  ASSERT_EQ(owner.Unregister(partner.domid()), 0);
  ASSERT_EQ(partner.Send(owner.domid(), "again"), 5);
  ASSERT_TRUE(shared.Take(&message));
  EXPECT_EQ(message.payload, "again");
}

TEST(ArgoHypercalls, C21_MessageWithoutPayload) {
  MAKE_BED(bed);
  MAKE_DOMAIN(sender, bed);
  MAKE_DOMAIN(owner, bed);
  Ring ring;
  ASSERT_EQ(owner.Register(&ring, 64, sender.domid()), 0);
  sender.Address(owner.domid());
  EXPECT_EQ(sender.SendIov(0, 77), 0);
  EXPECT_EQ(ring.tx(), 16u);
  Message message;
  ASSERT_TRUE(ring.Take(&message));
  EXPECT_EQ(message.header.len, 16u);
  EXPECT_EQ(message.header.type, 77u);
  EXPECT_GT(owner->TakeInterrupts(), 0u);
  // An empty piece among others is passed over, whatever it points at.
  sender.payload()[0] = 'a';
  sender.iov()[0] = Guest::Piece(sender->BadPointer(), 0);
  sender.iov()[1] = Guest::Piece(sender.payload(), 1);
  EXPECT_EQ(sender.SendIov(2), 1);
  ASSERT_TRUE(ring.Take(&message));
  EXPECT_EQ(message.payload, "a");
}

TEST(ArgoHypercalls, C22_WrapAtEveryOffset) {
  MAKE_BED(bed);
  MAKE_DOMAIN(guest, bed);
  const uint16_t self = guest.domid();
  for (uint32_t len : {80u, 128u, 4128u}) {  // the last one also crosses a page
    Ring ring;
    ASSERT_EQ(guest.Register(&ring, len, self), 0);
    for (uint32_t offset = 0; offset < len; offset += 16) {
      for (uint32_t size = 0; size <= 33; ++size) {
        SCOPED_TRACE(testing::Message() << "ring " << len << " at " << offset << " size " << size);
        // Header-only messages move the pointers on.
        guest.Address(self);
        while (ring.tx() != offset) {
          ASSERT_EQ(guest.SendIov(0), 0);
          ring.Drain();
        }
        // In three pieces, so that each of them meets the end of the ring.
        const std::string payload = Pattern(size, static_cast<int>(offset));
        memcpy(guest.payload(), payload.data(), size);
        const uint32_t first = size / 3, second = size / 2;
        guest.iov()[0] = Guest::Piece(guest.payload(), first);
        guest.iov()[1] = Guest::Piece(guest.payload() + first, second - first);
        guest.iov()[2] = Guest::Piece(guest.payload() + second, size - second);
        ASSERT_EQ(guest.SendIov(3, size), static_cast<int>(size));
        Message message;
        ASSERT_TRUE(ring.Take(&message));
        ASSERT_EQ(message.header.type, size);
        ASSERT_EQ(message.payload, payload);
        ASSERT_EQ(ring.rx(), ring.tx());
      }
    }
    ASSERT_EQ(guest.Unregister(self), 0);
  }
}

TEST(ArgoHypercalls, C23_WildRxPtr) {
  MAKE_BED(bed);
  MAKE_DOMAIN(guest, bed);
  const uint16_t self = guest.domid();
  Ring ring;
  ASSERT_EQ(guest.Register(&ring, 128, self), 0);
  guest.Address(self);
  for (int i = 0; i < 2; ++i) ASSERT_EQ(guest.SendIov(0), 0);  // tx is 32
  struct Case {
    uint32_t rx, space;
  };
  for (const Case& c : std::vector<Case>{
           {32, 96},          // empty
           {17, 96},          // rounds up to empty
           {31, 96},          // the same
           {33, 0},           // rounds up to 48: the one slot that stays free
           {0, 64},           // two slots taken
           {1, 80},           // one
           {112, 48},         // the last slot
           {113, 64},         // rounds up to the end, so 0
           {128, 64},         // beyond
           {0xFFFFFFFF, 64},  // rounding wraps to 0
           {0xFFFFFFF0, 64},  // far beyond
           {0x80000000, 64},  // far beyond, and negative
       }) {
    SCOPED_TRACE(c.rx);
    ring.set_rx(c.rx);
    EXPECT_EQ(guest.Space(self), c.space);
    EXPECT_EQ((guest.Query(self, 0).flags & ARGO_RING_EMPTY) != 0, c.space == 96);
  }
  // Sends follow the same arithmetic.
  ring.set_rx(0xFFFFFFFF);
  EXPECT_EQ(guest.Send(self, Pattern(65)), -EAGAIN);
  EXPECT_EQ(guest.Send(self, Pattern(64)), 64);
}

TEST(ArgoHypercalls, C24_NotifyAboutAMissingRing) {
  MAKE_BED(bed);
  MAKE_DOMAIN(guest, bed);
  MAKE_DOMAIN(other, bed);
  Ring ring;
  ASSERT_EQ(other.Register(&ring, 64, other.domid()), 0);  // not for the guest
  for (uint16_t owner : {guest.domid(), other.domid(), kNobody}) {
    const argo_ring_data_ent ent = guest.Query(owner, 5);
    EXPECT_EQ(ent.flags, 0) << owner;
    EXPECT_EQ(ent.max_message_size, 0xABCDu) << owner;
    EXPECT_EQ(ent.space_required, 5u) << owner;
  }
}

TEST(ArgoHypercalls, C25_NotifyAboutSpace) {
  MAKE_BED(bed);
  MAKE_DOMAIN(guest, bed);
  MAKE_DOMAIN(owner, bed);
  Ring ring;
  ASSERT_EQ(owner.Register(&ring, 128, guest.domid()), 0);
  const uint16_t to = owner.domid();
  constexpr uint16_t kYes = ARGO_RING_EXISTS | ARGO_RING_SUFFICIENT;
  EXPECT_EQ(guest.Query(to, 0).flags, kYes | ARGO_RING_EMPTY);
  EXPECT_EQ(guest.Query(to, 96).flags, kYes | ARGO_RING_EMPTY);
  EXPECT_EQ(guest.Query(to, 97).flags, ARGO_RING_EXISTS | ARGO_RING_EMPTY | ARGO_RING_EMSGSIZE);
  EXPECT_EQ(guest.Query(to, 0).max_message_size, 96u);
  ASSERT_EQ(guest.Send(to, Pattern(32)), 32);
  EXPECT_EQ(guest.Query(to, 0).flags, kYes);
  EXPECT_EQ(guest.Query(to, 48).flags, kYes);
  EXPECT_EQ(guest.Query(to, 49).flags, ARGO_RING_EXISTS);
  EXPECT_EQ(guest.Query(to, 97).flags, ARGO_RING_EXISTS | ARGO_RING_EMSGSIZE);
  EXPECT_EQ(guest.Query(to, 0xFFFFFFFF).flags, ARGO_RING_EXISTS | ARGO_RING_EMSGSIZE);
  // With nothing free, nothing is still sufficient.
  ASSERT_EQ(guest.Send(to, Pattern(48)), 48);
  EXPECT_EQ(guest.Query(to, 0).flags, kYes);
  guest.Address(to);
  EXPECT_EQ(guest.SendIov(0), -EAGAIN);  // although a message of nothing does not fit
}

TEST(ArgoHypercalls, C25_NotifyQueuesAWaitingDomain) {
  MAKE_BED(bed);
  MAKE_DOMAIN(guest, bed);
  MAKE_DOMAIN(owner, bed);
  Ring ring;
  ASSERT_EQ(owner.Register(&ring, 128, guest.domid()), 0);
  ASSERT_EQ(guest.Send(owner.domid(), Pattern(32)), 32);
  EXPECT_EQ(guest.Query(owner.domid(), 49).flags, ARGO_RING_EXISTS);
  ring.Drain();
  EXPECT_EQ(owner.Notify(), 0);
  EXPECT_GT(guest->TakeInterrupts(), 0u);

  // Asked again with an answer of "sufficient", the wait is over and no interrupt comes.
  ASSERT_EQ(guest.Send(owner.domid(), Pattern(32)), 32);
  EXPECT_EQ(guest.Query(owner.domid(), 49).flags, ARGO_RING_EXISTS);
  EXPECT_NE(guest.Query(owner.domid(), 48).flags & ARGO_RING_SUFFICIENT, 0);
  ring.Drain();
  EXPECT_EQ(owner.Notify(), 0);
  EXPECT_EQ(guest->TakeInterrupts(), 0u);

  // A message that never fits waits for nothing.
  EXPECT_NE(guest.Query(owner.domid(), 97).flags & ARGO_RING_EMSGSIZE, 0);
  EXPECT_EQ(owner.Notify(), 0);
  EXPECT_EQ(guest->TakeInterrupts(), 0u);
}

TEST(ArgoHypercalls, C26_NotifyTakes256Entries) {
  MAKE_BED(bed);
  MAKE_DOMAIN(guest, bed);
  Ring ring;
  ASSERT_EQ(guest.Register(&ring, 64, guest.domid()), 0);
  auto* bytes = reinterpret_cast<uint8_t*>(guest.head() + 1);
  auto entry = [&](uint32_t i) { return bytes + i * sizeof(argo_ring_data_ent); };
  const argo_ring_data_ent ask = {{kPort, guest.domid(), 0}, 0, 0, 0, 0};
  for (uint32_t i = 0; i < 257; ++i) memcpy(entry(i), &ask, sizeof(ask));
  *guest.head() = {257, 0};
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_NOTIFY, guest.head(), nullptr, 0, 0), -EACCES);
  argo_ring_data_ent answer;
  memcpy(&answer, entry(0), sizeof(answer));
  EXPECT_EQ(answer.flags, 0);
  *guest.head() = {256, 0};
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_NOTIFY, guest.head(), nullptr, 0, 0), 0);
  memcpy(&answer, entry(255), sizeof(answer));
  EXPECT_NE(answer.flags & ARGO_RING_EXISTS, 0);
  memcpy(&answer, entry(256), sizeof(answer));
  EXPECT_EQ(answer.flags, 0);
  *guest.head() = {0, 0};
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_NOTIFY, guest.head(), nullptr, 0, 0), 0);
}

TEST(ArgoHypercalls, C26_NotifyChecksItsArguments) {
  MAKE_BED(bed);
  MAKE_DOMAIN(guest, bed);
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_NOTIFY, nullptr, guest.head(), 0, 0), -EINVAL);
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_NOTIFY, nullptr, nullptr, 1, 0), -EINVAL);
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_NOTIFY, nullptr, nullptr, 0, 1), -EINVAL);
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_NOTIFY, guest->BadPointer(), nullptr, 0, 0), -EFAULT);
}

TEST(ArgoHypercalls, C26_ABadNotifyStillWakesWaiters) {
  MAKE_BED(bed);
  MAKE_DOMAIN(sender, bed);
  MAKE_DOMAIN(owner, bed);
  Ring ring;
  ASSERT_EQ(owner.Register(&ring, 48, sender.domid()), 0);
  ASSERT_EQ(sender.Send(owner.domid(), "x"), 1);
  ASSERT_EQ(sender.Send(owner.domid(), "x"), -EAGAIN);
  ring.Drain();
  EXPECT_EQ(owner->ArgoOp(ARGO_OP_NOTIFY, owner->BadPointer(), nullptr, 0, 0), -EFAULT);
  EXPECT_GT(sender->TakeInterrupts(), 0u);
}

TEST(ArgoHypercalls, C27_ReceiverDiesUnderAWaitingSender) {
  MAKE_BED(bed);
  MAKE_DOMAIN(sender, bed);
  MAKE_DOMAIN(owner, bed);
  Ring ring;
  ASSERT_EQ(owner.Register(&ring, 48, sender.domid()), 0);
  ASSERT_EQ(sender.Send(owner.domid(), "x"), 1);
  ASSERT_EQ(sender.Send(owner.domid(), "x"), -EAGAIN);
  const uint16_t dead = owner.domid();
  bed->KillDomain(owner_domain);
  EXPECT_EQ(sender->TakeInterrupts(), 0u);
  // Still refused while the domain is being torn down, then gone.
  const int rc = sender.Send(dead, "x");
  EXPECT_TRUE(rc == -ESRCH || rc == -ECONNREFUSED) << rc;
  EXPECT_EQ(sender.Query(dead, 1).flags, 0);
}

TEST(ArgoHypercalls, C28_PartnerDies) {
  MAKE_BED(bed);
  MAKE_DOMAIN(owner, bed);
  MAKE_DOMAIN(partner, bed);
  Ring ring;
  const uint16_t dead = partner.domid();
  ASSERT_EQ(owner.Register(&ring, 64, dead), 0);
  bed->KillDomain(partner_domain);
  EXPECT_EQ(owner->TakeInterrupts(), 0u);
  EXPECT_EQ(owner.Unregister(dead), -ENOENT);
}

TEST(ArgoHypercalls, C29_BadPointerInASecondPiece) {
  MAKE_BED(bed);
  MAKE_DOMAIN(guest, bed);
  const uint16_t self = guest.domid();
  Ring ring;
  ASSERT_EQ(guest.Register(&ring, 128, self), 0);
  ASSERT_EQ(guest.Send(self, "before"), 6);
  guest->TakeInterrupts();
  guest.iov()[0] = Guest::Piece(guest.payload(), 16);
  guest.iov()[1] = Guest::Piece(guest->BadPointer(), 16);
  EXPECT_EQ(guest.SendIov(2), -EFAULT);
  EXPECT_EQ(ring.tx(), 32u);
  EXPECT_EQ(guest->TakeInterrupts(), 0u);
  // With a full ring the bad pointer is not even looked at.
  guest.iov()[1].len = 80;
  EXPECT_EQ(guest.SendIov(2), -EAGAIN);
  ASSERT_EQ(guest.Send(self, "after"), 5);
  Message message;
  ASSERT_TRUE(ring.Take(&message));
  EXPECT_EQ(message.payload, "before");
  ASSERT_TRUE(ring.Take(&message));
  EXPECT_EQ(message.payload, "after");
  EXPECT_FALSE(ring.Take(&message));
}

TEST(ArgoHypercalls, C30_TheHeaderTellsWhoAndWhat) {
  MAKE_BED(bed);
  MAKE_DOMAIN(sender, bed);
  MAKE_DOMAIN(owner, bed);
  Ring ring;
  ASSERT_EQ(owner.Register(&ring, 128, sender.domid()), 0);
  sender.Address(owner.domid());
  for (uint32_t port : {0u, 1u, 0xFFFFFFFFu}) {  // a source port is the sender's free choice
    for (uint32_t type : {0u, 0x3574526Du, 0xFFFFFFFFu}) {
      sender.addresses()->src.port = port;
      sender.iov()[0] = Guest::Piece(sender.payload(), 3);
      ASSERT_EQ(sender.SendIov(1, type), 3);
      Message message;
      ASSERT_TRUE(ring.Take(&message));
      EXPECT_EQ(message.header.len, 19u);
      EXPECT_EQ(message.header.src.port, port);
      EXPECT_EQ(message.header.src.domid, sender.domid());
      EXPECT_EQ(message.header.src.pad, 0);
      EXPECT_EQ(message.header.type, type);
    }
  }
  // Every success interrupts the destination, never the sender.
  EXPECT_GT(owner->TakeInterrupts(), 0u);
  EXPECT_EQ(sender->TakeInterrupts(), 0u);
  ASSERT_EQ(sender.Send(owner.domid(), "x"), 1);
  EXPECT_GT(owner->TakeInterrupts(), 0u);
}

}  // namespace
}  // namespace argosy::sim
