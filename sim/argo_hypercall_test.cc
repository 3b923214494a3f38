// SPDX-License-Identifier: Apache-2.0
// What Xen's argo_op answers: conformance tests C01 to C30.  Written against hypercalls.h alone, so
// that the same source judges the simulator and a real Xen; what a bed cannot do is skipped with
// the bed's reason.
//
// Here: the arguments of every operation, and the life of a ring.
#include <errno.h>
#include <gtest/gtest.h>
#include <string.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "backends/argo/abi/argo.h"
#include "sim/argo_hypercall_guest.h"
#include "sim/hypercalls.h"

namespace argosy::sim {
namespace {

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
  EXPECT_EQ(guest.Unregister(self), -ENOENT);
  EXPECT_EQ(guest.RegisterPages(good, 4096, self), 0);
}

TEST(ArgoHypercalls, C12_FramesOfADevice) {
  MAKE_BED(bed);
  MAKE_DOMAIN(guest, bed);
  const std::optional<uint64_t> device = guest->MmioGfn();
  if (!device.has_value()) GTEST_SKIP() << "this domain has no device in its memory";
  const uint16_t self = guest.domid();
  const std::vector<uint64_t> good = guest->AllocatePages(2).gfns;
  EXPECT_EQ(guest.RegisterPages({*device}, 64, self), -EPERM);
  EXPECT_EQ(guest.RegisterPages({good[0], *device}, 4096, self), -EPERM);
  // The first bad one counts.
  EXPECT_EQ(guest.RegisterPages({*device, guest->InvalidGfn()}, 4096, self), -EPERM);
  EXPECT_EQ(guest.Unregister(self), -ENOENT);
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

TEST(ArgoHypercalls, C28_PartnerDies) {
  MAKE_BED(bed);
  MAKE_DOMAIN(owner, bed);
  MAKE_DOMAIN(partner, bed);
  Ring ring;
  const uint16_t dead = partner.domid();
  ASSERT_EQ(owner.Register(&ring, 64, dead), 0);
  KILL_DOMAIN(partner, bed);
  EXPECT_EQ(owner->TakeInterrupts(), 0u);
  EXPECT_EQ(owner.Unregister(dead), -ENOENT);
}

}  // namespace
}  // namespace argosy::sim
