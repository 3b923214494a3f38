// SPDX-License-Identifier: Apache-2.0
// What the interface tests (argo_hypercall_test) cannot show: counters, limits and leaks inside,
// odd frame lists, the quirk.
#include "sim/hypervisor.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <string.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backends/argo/abi/argo.h"
#include "sim/guest_memory.h"
#include "transport/error.h"

namespace argosy::sim {
namespace {

constexpr uint32_t kPort = 7;

class HypervisorTest : public testing::Test {
 protected:
  struct Domain {
    std::unique_ptr<GuestMemory> memory;
    int virqs = 0;
  };

  void Start(Hypervisor::Options options, int domains, size_t bytes = 1 << 20) {
    xen_ = std::make_unique<Hypervisor>(options);
    domains_.resize(domains + 1);
    for (int i = 1; i <= domains; ++i) {
      domains_[i].memory = *GuestMemory::Create(bytes);
      Create(i);
    }
  }
  void Create(uint16_t domid) {
    ASSERT_TRUE(
        xen_->CreateDomain(domid, memory(domid), [this, domid] { ++domains_[domid].virqs; }).ok());
  }
  GuestMemory* memory(uint16_t domid) { return domains_[domid].memory.get(); }
  int TakeVirqs(uint16_t domid) { return std::exchange(domains_[domid].virqs, 0); }

  int Register(uint16_t domid, const std::vector<uint64_t>& gfns, uint32_t len, uint16_t partner,
               uint32_t port = kPort, uint32_t flags = 0) {
    auto* list = static_cast<uint64_t*>(memory(domid)->Allocate(gfns.size() * 8));
    std::copy(gfns.begin(), gfns.end(), list);
    auto* reg = static_cast<argo_register_ring*>(memory(domid)->Allocate(16));
    *reg = {port, partner, 0, len};
    return xen_->ArgoOp(domid, ARGO_OP_REGISTER_RING, reg, list, gfns.size(), flags);
  }
  // Registers a ring on fresh pages.
  Pages Ring(uint16_t domid, uint32_t len, uint16_t partner, uint32_t port = kPort) {
    Pages pages = *memory(domid)->AllocatePages(argo_ring_pages(len));
    EXPECT_EQ(Register(domid, pages.gfns, len, partner, port), 0);
    return pages;
  }
  int Unregister(uint16_t domid, uint16_t partner, uint32_t port = kPort) {
    auto* unreg = static_cast<argo_unregister_ring*>(memory(domid)->Allocate(16));
    *unreg = {port, partner, 0};
    return xen_->ArgoOp(domid, ARGO_OP_UNREGISTER_RING, unreg, nullptr, 0, 0);
  }
  int Send(uint16_t from, uint16_t to, const std::string& payload, uint32_t port = kPort) {
    auto* address = static_cast<argo_send_addr*>(memory(from)->Allocate(16));
    *address = {{1, from, 0}, {port, to, 0}};
    void* bytes = memory(from)->Allocate(payload.size());
    memcpy(bytes, payload.data(), payload.size());
    auto* iov = static_cast<argo_iov*>(memory(from)->Allocate(16));
    *iov = {reinterpret_cast<uintptr_t>(bytes), static_cast<uint32_t>(payload.size()), 0};
    return xen_->ArgoOp(from, ARGO_OP_SENDV, address, iov, 1, 0);
  }
  int Send(uint16_t from, uint16_t to, size_t len) { return Send(from, to, std::string(len, 'x')); }
  int Notify(uint16_t domid) { return xen_->ArgoOp(domid, ARGO_OP_NOTIFY, nullptr, nullptr, 0, 0); }
  uint16_t Query(uint16_t domid, uint16_t owner, uint32_t space) {
    struct {
      argo_ring_data head;
      argo_ring_data_ent ent;
    } const ask = {{1, 0}, {{kPort, owner, 0}, 0, 0, space, 0}};
    auto* data = static_cast<uint8_t*>(memory(domid)->Allocate(sizeof(ask)));
    memcpy(data, &ask, sizeof(ask));
    EXPECT_EQ(xen_->ArgoOp(domid, ARGO_OP_NOTIFY, data, nullptr, 0, 0), 0);
    argo_ring_data_ent answer;
    memcpy(&answer, data + sizeof(ask.head), sizeof(answer));
    return answer.flags;
  }
  static argo_ring_header* Header(const Pages& pages) {
    return reinterpret_cast<argo_ring_header*>(pages.memory);
  }
  static void Drain(const Pages& pages) { Header(pages)->rx_ptr = Header(pages)->tx_ptr; }
  const Hypervisor::Counters& counters() const { return xen_->counters(); }

  std::vector<Domain> domains_;
  std::unique_ptr<Hypervisor> xen_;
};

TEST_F(HypervisorTest, DomainsComeAndGo) {
  Start({}, 1);
  EXPECT_TRUE(xen_->Exists(1));
  EXPECT_FALSE(xen_->Exists(0));
  EXPECT_FALSE(xen_->Exists(2));
  EXPECT_EQ(ErrnoOf(xen_->CreateDomain(1, memory(1), [] {})), EEXIST);
  EXPECT_EQ(ErrnoOf(xen_->CreateDomain(0x7FF0, memory(1), [] {})), EINVAL);
  EXPECT_EQ(ErrnoOf(xen_->CreateDomain(0xFFFF, memory(1), [] {})), EINVAL);
  EXPECT_TRUE(xen_->CreateDomain(0x7FEF, memory(1), [] {}).ok());
  xen_->DestroyDomain(1);
  EXPECT_FALSE(xen_->Exists(1));
  xen_->DestroyDomain(1);
  xen_->DestroyDomain(12345);
  EXPECT_EQ(Notify(1), -ENODEV);
}

TEST_F(HypervisorTest, Counts) {
  Start({}, 2);
  Pages ring = Ring(2, 64, 1);
  EXPECT_EQ(Send(1, 2, 10), 10);
  EXPECT_EQ(Send(1, 2, 33), -EMSGSIZE);
  EXPECT_EQ(Send(1, 2, 20), -EAGAIN);
  Drain(ring);
  EXPECT_EQ(Notify(2), 0);
  EXPECT_EQ(Unregister(2, 1), 0);
  EXPECT_EQ(Unregister(2, 1), -ENOENT);
  EXPECT_EQ(Send(1, 2, 10), -ECONNREFUSED);
  EXPECT_EQ(counters().registers, 1u);
  EXPECT_EQ(counters().unregisters, 1u);
  EXPECT_EQ(counters().sends, 1u);
  EXPECT_EQ(counters().bytes, 10u);
  EXPECT_EQ(counters().eagain, 1u);
  EXPECT_EQ(counters().ebusy, 0u);
  EXPECT_EQ(counters().virqs, 2u);
  EXPECT_EQ(counters().notifies, 1u);
  EXPECT_EQ(TakeVirqs(1), 1);
  EXPECT_EQ(TakeVirqs(2), 1);
}

TEST_F(HypervisorTest, EverySuccessRaisesAnInterrupt) {
  Start({}, 2);
  Ring(2, 1024, 1);
  for (int i = 0; i < 20; ++i) ASSERT_EQ(Send(1, 2, 16), 16);
  EXPECT_EQ(TakeVirqs(2), 20);
  EXPECT_EQ(TakeVirqs(1), 0);
  // Also to itself.
  Ring(1, 64, 1);
  ASSERT_EQ(Send(1, 1, 1), 1);
  EXPECT_EQ(TakeVirqs(1), 1);
}

TEST_F(HypervisorTest, RegisteringAgainLeaksAPlace) {
  Start({}, 2);
  Pages ring = Ring(1, 64, 2);
  for (int i = 1; i < 128; ++i) ASSERT_EQ(Register(1, ring.gfns, 64, 2), 0) << i;
  // One ring, and yet the table is full.
  EXPECT_EQ(Register(1, ring.gfns, 64, 2, kPort + 1), -ENOSPC);
  EXPECT_EQ(Register(1, ring.gfns, 64, 2), -ENOSPC);
  // Taking the ring away frees one place of 128, and never more.
  EXPECT_EQ(Unregister(1, 2), 0);
  EXPECT_EQ(Register(1, ring.gfns, 64, 2), 0);
  EXPECT_EQ(Register(1, ring.gfns, 64, 2, kPort + 1), -ENOSPC);
  // A new domain with the same number starts afresh.
  xen_->DestroyDomain(1);
  Create(1);
  EXPECT_EQ(Register(1, ring.gfns, 64, 2), 0);
  EXPECT_EQ(Register(1, ring.gfns, 64, 2, kPort + 1), 0);
}

TEST_F(HypervisorTest, FailedRegisterAgainLeaksAPlaceAndTheRing) {
  Start({}, 2);
  Pages ring = Ring(1, 64, 2);
  const std::vector<uint64_t> bad = {memory(1)->InvalidGfn()};
  EXPECT_EQ(Register(1, bad, 64, 2), -EINVAL);
  EXPECT_EQ(Unregister(1, 2), -ENOENT);
  // A failed first registration costs nothing.
  for (int i = 0; i < 200; ++i) ASSERT_EQ(Register(1, bad, 64, 2), -EINVAL);
  for (uint32_t i = 0; i < 127; ++i) ASSERT_EQ(Register(1, ring.gfns, 64, 2, 100 + i), 0) << i;
  EXPECT_EQ(Register(1, ring.gfns, 64, 2, 99), -ENOSPC);
}

TEST_F(HypervisorTest, PartnersDeathGivesPlacesBack) {
  Start({}, 3);
  Pages pages = *memory(1)->AllocatePages(1);
  for (uint32_t i = 0; i < 128; ++i) ASSERT_EQ(Register(1, pages.gfns, 64, 2, i), 0);
  EXPECT_EQ(Register(1, pages.gfns, 64, 3, 0), -ENOSPC);
  xen_->DestroyDomain(2);
  for (uint32_t i = 0; i < 128; ++i) ASSERT_EQ(Register(1, pages.gfns, 64, 3, i), 0) << i;
}

TEST_F(HypervisorTest, RegisteringAgainKeepsWaiters) {
  Start({}, 2);
  Pages ring = Ring(2, 48, 1);
  ASSERT_EQ(Send(1, 2, 1), 1);
  ASSERT_EQ(Send(1, 2, 1), -EAGAIN);
  Drain(ring);
  ASSERT_EQ(Register(2, ring.gfns, 48, 1), 0);
  EXPECT_EQ(TakeVirqs(1), 0);
  EXPECT_EQ(Notify(2), 0);
  EXPECT_EQ(TakeVirqs(1), 1);
}

TEST_F(HypervisorTest, OneWaitPerDomainForTheLargestMessage) {
  Start({}, 2);
  Pages ring = Ring(2, 128, 1);   // 96 when empty
  ASSERT_EQ(Send(1, 2, 32), 32);  // 48 left
  ASSERT_EQ(Send(1, 2, 32), 32);  // 0 left
  ASSERT_EQ(Send(1, 2, 16), -EAGAIN);
  ASSERT_EQ(Send(1, 2, 80), -EAGAIN);
  ASSERT_EQ(Send(1, 2, 8), -EAGAIN);
  Header(ring)->rx_ptr = 48;
  EXPECT_EQ(Notify(2), 0);  // 48 are free: enough for two of the three
  EXPECT_EQ(TakeVirqs(1), 0);
  Drain(ring);
  EXPECT_EQ(Notify(2), 0);
  EXPECT_EQ(TakeVirqs(1), 1);
  EXPECT_EQ(Notify(2), 0);
  EXPECT_EQ(TakeVirqs(1), 0);
}

TEST_F(HypervisorTest, ASuccessfulSendLeavesTheWait) {
  Start({}, 2);
  Pages ring = Ring(2, 128, 1);
  ASSERT_EQ(Send(1, 2, 96), 96);
  ASSERT_EQ(Send(1, 2, 16), -EAGAIN);
  Drain(ring);
  ASSERT_EQ(Send(1, 2, 16), 16);
  EXPECT_EQ(Notify(2), 0);
  EXPECT_EQ(TakeVirqs(1), 1);  // for nothing
}

TEST_F(HypervisorTest, SufficientCancelsTheWaitAndUnregisterDropsIt) {
  Start({}, 2);
  Pages ring = Ring(2, 48, 1);
  ASSERT_EQ(Send(1, 2, 1), 1);
  ASSERT_EQ(Send(1, 2, 1), -EAGAIN);
  EXPECT_EQ(Query(1, 2, 0), ARGO_RING_EXISTS | ARGO_RING_SUFFICIENT);
  Drain(ring);
  EXPECT_EQ(Notify(2), 0);
  EXPECT_EQ(TakeVirqs(1), 0);

  ASSERT_EQ(Send(1, 2, 1), 1);
  ASSERT_EQ(Send(1, 2, 1), -EAGAIN);
  ASSERT_EQ(Unregister(2, 1), 0);
  EXPECT_EQ(TakeVirqs(1), 0);
  ASSERT_EQ(Register(2, ring.gfns, 48, 1), 0);
  Drain(ring);
  EXPECT_EQ(Notify(2), 0);
  EXPECT_EQ(TakeVirqs(1), 0);
}

TEST_F(HypervisorTest, AWaiterForNothingNeedsMoreThanNothing) {
  Start({}, 2);
  Pages ring = Ring(2, 64, 1);
  ASSERT_EQ(Send(1, 2, 32), 32);
  ASSERT_EQ(Send(1, 2, std::string()), -EAGAIN);
  Header(ring)->rx_ptr = 16;  // payload space 0: an empty message still does not fit
  EXPECT_EQ(Notify(2), 0);
  EXPECT_EQ(TakeVirqs(1), 0);
  Header(ring)->rx_ptr = 32;
  EXPECT_EQ(Notify(2), 0);
  EXPECT_EQ(TakeVirqs(1), 1);
}

TEST_F(HypervisorTest, ADeadDomainsWaitOnASharedRingIsForgotten) {
  Start({.mac_permissive = true}, 35);
  Pages ring = Ring(1, 48, ARGO_DOMID_ANY);
  ASSERT_EQ(Send(2, 1, 1), 1);
  for (uint16_t d = 2; d <= 33; ++d) ASSERT_EQ(Send(d, 1, 1), -EAGAIN);
  EXPECT_EQ(Send(34, 1, 1), -EBUSY);
  EXPECT_EQ(counters().ebusy, 1u);
  xen_->DestroyDomain(20);
  EXPECT_EQ(Send(34, 1, 1), -EAGAIN);  // takes the place
  EXPECT_EQ(Send(35, 1, 1), -EBUSY);
  Create(20);  // who never waited
  Drain(ring);
  EXPECT_EQ(Notify(1), 0);
  EXPECT_EQ(TakeVirqs(20), 0);
  EXPECT_EQ(TakeVirqs(34), 1);
  EXPECT_EQ(TakeVirqs(35), 0);
}

TEST_F(HypervisorTest, WhoDoesNotFitKeepsNobodyBehindItAsleep) {
  Start({.mac_permissive = true}, 3);
  Pages ring = Ring(3, 128, ARGO_DOMID_ANY);  // 96 when empty
  ASSERT_EQ(Send(1, 3, 32), 32);
  ASSERT_EQ(Send(1, 3, 32), 32);
  ASSERT_EQ(Send(1, 3, 80), -EAGAIN);
  ASSERT_EQ(Send(2, 3, 16), -EAGAIN);
  Header(ring)->rx_ptr = 48;
  EXPECT_EQ(Notify(3), 0);
  EXPECT_EQ(TakeVirqs(1), 0);
  EXPECT_EQ(TakeVirqs(2), 1);
}

TEST_F(HypervisorTest, WakesInTheOrderOfDomids) {
  xen_ = std::make_unique<Hypervisor>(Hypervisor::Options{.mac_permissive = true});
  domains_.resize(20);
  std::vector<uint16_t> order;
  for (uint16_t d = 1; d < 20; ++d) {
    domains_[d].memory = *GuestMemory::Create(1 << 20);
    ASSERT_TRUE(xen_->CreateDomain(d, memory(d), [&order, d] { order.push_back(d); }).ok());
  }
  std::vector<Pages> rings;
  for (uint32_t port = 0; port < 3; ++port) rings.push_back(Ring(1, 48, ARGO_DOMID_ANY, port));
  for (uint16_t d = 19; d > 1; --d) {
    Send(d, 1, "x", d % 3);
    Send(d, 1, "x", d % 3);
  }
  for (const Pages& ring : rings) Drain(ring);
  order.clear();
  EXPECT_EQ(Notify(1), 0);
  EXPECT_EQ(order.size(), 18u);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST_F(HypervisorTest, DomainComesBackWithTheSameNumber) {
  Start({}, 2);
  Pages ring = Ring(1, 64, 2);
  Pages to2 = Ring(2, 64, 1);
  xen_->DestroyDomain(2);
  EXPECT_EQ(Unregister(1, 2), -ENOENT);
  EXPECT_EQ(Send(1, 2, 1), -ESRCH);
  Create(2);
  EXPECT_EQ(Send(1, 2, 1), -ECONNREFUSED);
  EXPECT_EQ(Send(2, 1, 1), -ECONNREFUSED);
  EXPECT_EQ(Register(1, ring.gfns, 64, 2, kPort, ARGO_REGISTER_FLAG_FAIL_EXIST), 0);
  EXPECT_EQ(Register(2, to2.gfns, 64, 1, kPort, ARGO_REGISTER_FLAG_FAIL_EXIST), 0);
  EXPECT_EQ(Send(1, 2, 1), 1);
  EXPECT_EQ(Send(2, 1, 1), 1);
}

TEST_F(HypervisorTest, SelfRingDiesWithItsDomain) {
  Start({}, 1);
  Ring(1, 64, 1);
  xen_->DestroyDomain(1);
  Create(1);
  EXPECT_EQ(Send(1, 1, 1), -ECONNREFUSED);
}

TEST_F(HypervisorTest, FramesInAnyOrder) {
  Start({}, 2);
  Pages pages = *memory(2)->AllocatePages(5);
  const std::vector<uint64_t>& g = pages.gfns;
  // Runs of one and of two, backwards.
  const std::vector<uint64_t> gfns = {g[3], g[4], g[2], g[0]};
  const uint32_t len = 3 * 4096;
  ASSERT_EQ(Register(2, gfns, len, 1), 0);
  std::string payload(len - 32, 0);
  for (size_t i = 0; i < payload.size(); ++i) payload[i] = static_cast<char>(i * 13 >> 3);
  ASSERT_EQ(Send(1, 2, payload), static_cast<int>(payload.size()));
  std::string seen;
  for (uint64_t gfn : gfns) seen.append(reinterpret_cast<char*>(memory(2)->At(gfn)), 4096);
  EXPECT_EQ(seen.substr(80, payload.size()), payload);
  argo_ring_header header;
  memcpy(&header, memory(2)->At(g[3]), sizeof(header));
  EXPECT_EQ(header.tx_ptr, len - 16);
  // The page that is not in the list was not touched.
  EXPECT_EQ(std::string(reinterpret_cast<char*>(memory(2)->At(g[1])), 4096),
            std::string(4096, '\0'));
}

TEST_F(HypervisorTest, TheSameFrameTwice) {
  Start({}, 2);
  Pages pages = *memory(2)->AllocatePages(1);
  const uint64_t gfn = pages.gfns[0];
  ASSERT_EQ(Register(2, {gfn, gfn}, 4096, 1), 0);
  ASSERT_EQ(Send(1, 2, 100), 100);
  EXPECT_EQ(Header(pages)->tx_ptr, 128u);
}

// The piece lies where the message is written to.  What arrives is the sender's own affair; with
// one mapping for both, the copy would overlap itself.
TEST_F(HypervisorTest, SendOutOfTheRingIntoIt) {
  Start({}, 1);
  Pages ring = Ring(1, 256, 1);
  auto* address = static_cast<argo_send_addr*>(memory(1)->Allocate(16));
  *address = {{1, 1, 0}, {kPort, 1, 0}};
  auto* iov = static_cast<argo_iov*>(memory(1)->Allocate(16));
  *iov = {reinterpret_cast<uintptr_t>(ring.memory + 64), 100, 0};
  EXPECT_EQ(xen_->ArgoOp(1, ARGO_OP_SENDV, address, iov, 1, 0), 100);
  EXPECT_EQ(Header(ring)->tx_ptr, 128u);
}

TEST_F(HypervisorTest, LargestRingTakesTheLargestMessages) {
  Start({}, 2, 80 << 20);
  const uint32_t len = ARGO_MAX_USABLE_RING_SIZE;
  Pages pages = *memory(2)->AllocatePages(4096);
  std::vector<uint64_t> gfns(pages.gfns.rbegin(), pages.gfns.rend());  // no two of them in a row
  ASSERT_EQ(Register(2, gfns, len, 1), 0);
  EXPECT_EQ(Send(1, 2, len - 31), -EMSGSIZE);
  EXPECT_EQ(Send(1, 2, len - 32), static_cast<int>(len - 32));
  EXPECT_EQ(Send(1, 2, 1), -EAGAIN);
}

TEST_F(HypervisorTest, GfnListMayEndAtTheEndOfMemory) {
  Start({}, 2);
  Pages pages = *memory(1)->AllocatePages(2);
  auto* last = const_cast<uint64_t*>(static_cast<const uint64_t*>(memory(1)->BadPointer())) - 1;
  *last = pages.gfns[0];
  auto* reg = static_cast<argo_register_ring*>(memory(1)->Allocate(16));
  *reg = {kPort, 2, 0, 64};
  EXPECT_EQ(xen_->ArgoOp(1, ARGO_OP_REGISTER_RING, reg, last, 1, 0), 0);
  *reg = {kPort + 1, 2, 0, 4096};
  EXPECT_EQ(xen_->ArgoOp(1, ARGO_OP_REGISTER_RING, reg, last, 2, 0), -EFAULT);
  // A frame that is no memory is met before the end of the list.
  *last = memory(1)->InvalidGfn();
  EXPECT_EQ(xen_->ArgoOp(1, ARGO_OP_REGISTER_RING, reg, last, 2, 0), -EINVAL);
  // Lists and messages at the end of the address space.
  const void* top = reinterpret_cast<const void*>(~uintptr_t{7});
  EXPECT_EQ(xen_->ArgoOp(1, ARGO_OP_REGISTER_RING, reg, top, 2, 0), -EFAULT);
  EXPECT_EQ(xen_->ArgoOp(1, ARGO_OP_NOTIFY, top, nullptr, 0, 0), -EFAULT);
}

TEST_F(HypervisorTest, NotifyEntriesMayEndAtTheEndOfMemory) {
  Start({}, 2);
  Ring(2, 64, 1);
  auto* end = const_cast<uint8_t*>(static_cast<const uint8_t*>(memory(1)->BadPointer()));
  argo_ring_data head = {1, 0};
  const argo_ring_data_ent ent = {{kPort, 2, 0}, 0, 0, 1, 0};
  uint8_t* at = end - sizeof(ent) - sizeof(head);
  memcpy(at, &head, sizeof(head));
  memcpy(at + sizeof(head), &ent, sizeof(ent));
  EXPECT_EQ(xen_->ArgoOp(1, ARGO_OP_NOTIFY, at, nullptr, 0, 0), 0);
  EXPECT_EQ(memcmp(at, &head, sizeof(head)), 0);
  EXPECT_NE(memcmp(at + sizeof(head), &ent, sizeof(ent)), 0) << "answered";
  // A second entry would lie behind the end: the first is answered all the same.
  memcpy(at + sizeof(head), &ent, sizeof(ent));
  head.nent = 2;
  memcpy(at, &head, sizeof(head));
  EXPECT_EQ(xen_->ArgoOp(1, ARGO_OP_NOTIFY, at, nullptr, 0, 0), -EFAULT);
  EXPECT_NE(memcmp(at + sizeof(head), &ent, sizeof(ent)), 0);
}

TEST_F(HypervisorTest, AnotherDomainsMemoryFaults) {
  Start({}, 2);
  Ring(2, 64, 1);
  auto* address = static_cast<argo_send_addr*>(memory(1)->Allocate(16));
  *address = {{1, 1, 0}, {kPort, 2, 0}};
  auto* iov = static_cast<argo_iov*>(memory(1)->Allocate(16));
  *iov = {reinterpret_cast<uintptr_t>(memory(2)->Allocate(16)), 16, 0};
  EXPECT_EQ(xen_->ArgoOp(1, ARGO_OP_SENDV, address, iov, 1, 0), -EFAULT);
  EXPECT_EQ(xen_->ArgoOp(2, ARGO_OP_SENDV, address, iov, 1, 0), -EFAULT);
}

TEST_F(HypervisorTest, Quirk4120LosesTheMessageOfAFullRing) {
  Start({.quirk_4_12_0_lost_eagain = true}, 2);
  Pages ring = Ring(2, 128, 1);
  ASSERT_EQ(Send(1, 2, 80), 80);
  EXPECT_EQ(TakeVirqs(2), 1);
  EXPECT_EQ(Send(1, 2, 40), 0);  // no error, and no message
  EXPECT_EQ(Header(ring)->tx_ptr, 96u);
  EXPECT_EQ(TakeVirqs(2), 1);
  EXPECT_EQ(counters().sends, 1u);
  // The wait was noted with length 0: woken by the first bytes, not by enough of them.
  Header(ring)->rx_ptr = 32;
  EXPECT_EQ(Notify(2), 0);
  EXPECT_EQ(TakeVirqs(1), 1);
  EXPECT_EQ(Send(1, 2, 40), 0);
  // Other errors are as ever.
  EXPECT_EQ(Send(1, 2, 97), -EMSGSIZE);
}

}  // namespace
}  // namespace argosy::sim
