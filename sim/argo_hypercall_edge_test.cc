// SPDX-License-Identifier: Apache-2.0
// Conformance tests, continued: what surprises.  Arguments that end beyond memory, places that are
// lost, frames in any order, and waiters that are forgotten.
#include <errno.h>
#include <gtest/gtest.h>
#include <string.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "backends/argo/abi/argo.h"
#include "sim/argo_hypercall_guest.h"
#include "sim/hypercalls.h"

namespace argosy::sim {
namespace {

// How many rings `guest` can register besides those it has.
uint32_t Places(Guest& guest) {
  const uint32_t first = 0x70000000;
  Ring ring;
  uint32_t count = 0;
  // All on one page: nobody sends to them.
  while (guest.Register(&ring, 64, guest.domid(), 0, first + count) == 0) ++count;
  for (uint32_t i = 0; i < count; ++i) {
    *guest.unreg() = {first + i, guest.domid(), 0};
    EXPECT_EQ(guest->ArgoOp(ARGO_OP_UNREGISTER_RING, guest.unreg(), nullptr, 0, 0), 0) << i;
  }
  return count;
}

// The last `size` bytes before BadPointer().
uint8_t* AtTheEnd(const Guest& guest, size_t size) {
  return static_cast<uint8_t*>(const_cast<void*>(guest->BadPointer())) - size;
}

TEST(ArgoHypercalls, C04_ArgumentsMustLieInMemoryWhole) {
  MAKE_BED(bed);
  MAKE_DOMAIN(guest, bed);
  const uint16_t self = guest.domid();
  const Pages pages = guest->AllocatePages(2);
  uint8_t* const last = AtTheEnd(guest, 4096);
  const auto at_the_end = [&](const auto& value, size_t cut) {
    memcpy(last + 4096 - (sizeof(value) - cut), &value, sizeof(value) - cut);
    return last + 4096 - (sizeof(value) - cut);
  };
  const argo_register_ring reg = {kPort, self, 0, 4096};
  auto* gfns = guest.New<uint64_t>(2);
  memcpy(gfns, pages.gfns.data(), 2 * sizeof(uint64_t));
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_REGISTER_RING, at_the_end(reg, 1), gfns, 2, 0), -EFAULT);
  auto* whole = guest.New<argo_register_ring>();
  *whole = reg;
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_REGISTER_RING, whole, at_the_end(pages.gfns[0], 0), 2, 0),
            -EFAULT);
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_REGISTER_RING, nullptr, gfns, 2, 0), -EFAULT);
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_REGISTER_RING, whole, nullptr, 2, 0), -EFAULT);
  EXPECT_EQ(guest.Unregister(self), -ENOENT);
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_REGISTER_RING, at_the_end(reg, 0), gfns, 2, 0), 0);

  guest.Address(self);
  const argo_send_addr addresses = *guest.addresses();
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_SENDV, at_the_end(addresses, 1), guest.iov(), 0, 0), -EFAULT);
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_SENDV, nullptr, guest.iov(), 0, 0), -EFAULT);
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_SENDV, at_the_end(addresses, 0), guest.iov(), 0, 0), 0);
  // Of no pieces it does not matter where they are.
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_SENDV, guest.addresses(), nullptr, 0, 0), 0);
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_SENDV, guest.addresses(), guest->BadPointer(), 0, 0), 0);
  const argo_iov iov = Guest::Piece(guest.payload(), 1);
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_SENDV, guest.addresses(), at_the_end(iov, 1), 1, 0), -EFAULT);
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_SENDV, guest.addresses(), at_the_end(iov, 0), 2, 0), -EFAULT);
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_SENDV, guest.addresses(), at_the_end(iov, 0), 1, 0), 1);
  guest.iov()[0] = Guest::Piece(AtTheEnd(guest, 8), 9);
  EXPECT_EQ(guest.SendIov(1), -EFAULT);
  guest.iov()[0].len = 8;
  EXPECT_EQ(guest.SendIov(1), 8);

  const argo_unregister_ring unreg = {kPort, self, 0};
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_UNREGISTER_RING, at_the_end(unreg, 1), nullptr, 0, 0), -EFAULT);
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_UNREGISTER_RING, nullptr, nullptr, 0, 0), -EFAULT);
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_UNREGISTER_RING, at_the_end(unreg, 0), nullptr, 0, 0), 0);
}

TEST(ArgoHypercalls, C09_EachRepetitionTakesAPlaceForEver) {
  MAKE_BED(bed);
  MAKE_DOMAIN(guest, bed);
  const uint32_t before = Places(guest);
  Ring ring;
  ASSERT_EQ(guest.Register(&ring, 64, guest.domid()), 0);
  EXPECT_EQ(Places(guest), before - 1);
  ASSERT_EQ(guest.Register(&ring, 64, guest.domid()), 0);
  EXPECT_EQ(Places(guest), before - 2);
  ASSERT_EQ(guest.Unregister(guest.domid()), 0);
  EXPECT_EQ(Places(guest), before - 1);
}

TEST(ArgoHypercalls, C09_AFailedRepetitionTakesTheRingsPlaceForEver) {
  MAKE_BED(bed);
  MAKE_DOMAIN(guest, bed);
  const uint32_t before = Places(guest);
  EXPECT_EQ(guest.RegisterPages({guest->InvalidGfn()}, 64, guest.domid()), -EINVAL);
  EXPECT_EQ(Places(guest), before);  // a first registration that fails costs nothing
  Ring ring;
  ASSERT_EQ(guest.Register(&ring, 64, guest.domid()), 0);
  EXPECT_EQ(guest.RegisterPages({guest->InvalidGfn()}, 64, guest.domid()), -EINVAL);
  EXPECT_EQ(guest.Unregister(guest.domid()), -ENOENT);
  EXPECT_EQ(Places(guest), before - 1);
}

TEST(ArgoHypercalls, C09_ARepetitionKeepsWaiters) {
  MAKE_BED(bed);
  MAKE_DOMAIN(sender, bed);
  MAKE_DOMAIN(owner, bed);
  Ring ring;
  ASSERT_EQ(owner.Register(&ring, 48, sender.domid()), 0);
  ASSERT_EQ(sender.Send(owner.domid(), "x"), 1);
  ASSERT_EQ(sender.Send(owner.domid(), "x"), -EAGAIN);
  Ring fresh;
  ASSERT_EQ(owner.Register(&fresh, 48, sender.domid()), 0);
  EXPECT_EQ(sender->TakeInterrupts(), 0u);
  EXPECT_EQ(owner.Notify(), 0);
  EXPECT_GT(sender->TakeInterrupts(), 0u);
}

TEST(ArgoHypercalls, C12_FramesInAnyOrderAndTwice) {
  MAKE_BED(bed);
  MAKE_DOMAIN(guest, bed);
  const Pages pages = guest->AllocatePages(3);
  // The header is in the last page, and the second page of the ring is its third, too.
  ASSERT_EQ(
      guest.RegisterPages({pages.gfns[2], pages.gfns[0], pages.gfns[0]}, 12224, guest.domid()), 0);
  const std::string payload = Pattern(4096 - 64 - 16 + 4096 + 32);
  ASSERT_EQ(guest.Send(guest.domid(), payload), static_cast<int>(payload.size()));
  uint32_t tx;
  memcpy(&tx, pages.memory + 8192 + 4, sizeof(tx));
  EXPECT_EQ(tx, payload.size() + 16);
  const size_t in_first = 4096 - 64 - 16;
  EXPECT_EQ(memcmp(pages.memory + 8192 + 64 + 16, payload.data(), in_first), 0);
  // The last 32 bytes have overwritten the first of their page.
  EXPECT_EQ(memcmp(pages.memory + 32, payload.data() + in_first + 32, 4096 - 32), 0);
  EXPECT_EQ(memcmp(pages.memory, payload.data() + in_first + 4096, 32), 0);
  EXPECT_EQ(pages.memory[4096], 0);
}

TEST(ArgoHypercalls, C17_UnregisteringForgetsWaiters) {
  MAKE_BED(bed);
  MAKE_DOMAIN(sender, bed);
  MAKE_DOMAIN(owner, bed);
  Ring ring, fresh;
  ASSERT_EQ(owner.Register(&ring, 48, sender.domid()), 0);
  ASSERT_EQ(sender.Send(owner.domid(), "x"), 1);
  ASSERT_EQ(sender.Send(owner.domid(), "x"), -EAGAIN);
  ASSERT_EQ(owner.Unregister(sender.domid()), 0);
  ASSERT_EQ(owner.Register(&fresh, 48, sender.domid()), 0);
  EXPECT_EQ(owner.Notify(), 0);
  EXPECT_EQ(sender->TakeInterrupts(), 0u);
}

TEST(ArgoHypercalls, C17_OneWaitForTheLargestMessage) {
  MAKE_BED(bed);
  MAKE_DOMAIN(sender, bed);
  MAKE_DOMAIN(owner, bed);
  Ring ring;
  ASSERT_EQ(owner.Register(&ring, 128, sender.domid()), 0);
  ASSERT_EQ(sender.Send(owner.domid(), Pattern(16)), 16);
  ASSERT_EQ(sender.Send(owner.domid(), Pattern(48)), 48);
  EXPECT_EQ(sender.Send(owner.domid(), Pattern(64)), -EAGAIN);
  EXPECT_EQ(sender.Send(owner.domid(), Pattern(16)), -EAGAIN);
  Message message;
  ASSERT_TRUE(ring.Take(&message));
  EXPECT_EQ(owner.Notify(),
            0);  // 32 are free: enough for the second, but one entry stands for both
  EXPECT_EQ(sender->TakeInterrupts(), 0u);
  ASSERT_TRUE(ring.Take(&message));
  EXPECT_EQ(owner.Notify(), 0);
  EXPECT_GT(sender->TakeInterrupts(), 0u);
  EXPECT_EQ(owner.Notify(), 0);
  EXPECT_EQ(sender->TakeInterrupts(), 0u);
}

TEST(ArgoHypercalls, C17_AWaiterForNothingNeedsMoreThanNothing) {
  MAKE_BED(bed);
  MAKE_DOMAIN(sender, bed);
  MAKE_DOMAIN(owner, bed);
  Ring ring;
  ASSERT_EQ(owner.Register(&ring, 64, sender.domid()), 0);
  ASSERT_EQ(sender.Send(owner.domid(), "x"), 1);
  sender.Address(owner.domid());
  ASSERT_EQ(sender.SendIov(0), 0);
  ASSERT_EQ(sender.SendIov(0), -EAGAIN);  // one slot is free, and stays free
  EXPECT_EQ(owner.Notify(), 0);
  EXPECT_EQ(sender->TakeInterrupts(), 0u);
  ring.set_rx(16);
  EXPECT_EQ(owner.Notify(), 0);
  EXPECT_EQ(sender->TakeInterrupts(), 0u);  // room for it, but not for a byte of payload
  EXPECT_EQ(sender.SendIov(0), 0);
}

TEST(ArgoHypercalls, C21_AMessageToItselfInterrupts) {
  MAKE_BED(bed);
  MAKE_DOMAIN(guest, bed);
  Ring ring;
  ASSERT_EQ(guest.Register(&ring, 128, guest.domid()), 0);
  EXPECT_EQ(guest->TakeInterrupts(), 0u);
  ASSERT_EQ(guest.Send(guest.domid(), "x"), 1);
  EXPECT_GT(guest->TakeInterrupts(), 0u);
  EXPECT_EQ(guest->TakeInterrupts(), 0u);
  EXPECT_EQ(guest.Send(guest.domid(), Pattern(97)), -EMSGSIZE);
  EXPECT_EQ(guest->TakeInterrupts(), 0u);
}

TEST(ArgoHypercalls, C26_EntriesBeforeABadOneAreAnswered) {
  MAKE_BED(bed);
  MAKE_DOMAIN(guest, bed);
  Ring ring;
  ASSERT_EQ(guest.Register(&ring, 64, guest.domid()), 0);
  const argo_ring_data_ent ask = {{kPort, guest.domid(), 0}, 0, 0, 0, 0};
  // Two entries and a half.
  const size_t size = sizeof(argo_ring_data) + 2 * sizeof(ask) + sizeof(ask) / 2;
  uint8_t* const at = AtTheEnd(guest, size);
  const argo_ring_data head = {3, 0};
  memcpy(at, &head, sizeof(head));
  for (int i = 0; i < 2; ++i) memcpy(at + sizeof(head) + i * sizeof(ask), &ask, sizeof(ask));
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_NOTIFY, at, nullptr, 0, 0), -EFAULT);
  for (int i = 0; i < 2; ++i) {
    argo_ring_data_ent answer;
    memcpy(&answer, at + sizeof(head) + i * sizeof(ask), sizeof(answer));
    EXPECT_EQ(answer.flags, ARGO_RING_EXISTS | ARGO_RING_EMPTY | ARGO_RING_SUFFICIENT) << i;
    EXPECT_EQ(answer.max_message_size, 32u) << i;
  }
}

TEST(ArgoHypercalls, C26_PaddingOfEntriesIsNotJudged) {
  MAKE_BED(bed);
  MAKE_DOMAIN(guest, bed);
  Ring ring;
  ASSERT_EQ(guest.Register(&ring, 64, guest.domid()), 0);
  const argo_ring_data_ent ask = {{kPort, guest.domid(), 0x1234}, 0, 0x5678, 0, 0};
  *guest.head() = {1, 0x9ABC};
  memcpy(guest.head() + 1, &ask, sizeof(ask));
  EXPECT_EQ(guest->ArgoOp(ARGO_OP_NOTIFY, guest.head(), nullptr, 0, 0), 0);
  argo_ring_data_ent answer;
  memcpy(&answer, guest.head() + 1, sizeof(answer));
  EXPECT_NE(answer.flags & ARGO_RING_EXISTS, 0);
  EXPECT_EQ(answer.ring.pad, 0x1234);
  EXPECT_EQ(answer.pad, 0x5678);
}

TEST(ArgoHypercalls, C28_APartnersDeathGivesThePlaceBack) {
  MAKE_BED(bed);
  MAKE_DOMAIN(owner, bed);
  MAKE_DOMAIN(partner, bed);
  const uint32_t before = Places(owner);
  Ring ring, other;
  ASSERT_EQ(owner.Register(&ring, 64, partner.domid()), 0);
  ASSERT_EQ(owner.Register(&other, 48, owner.domid()), 0);
  const uint16_t dead = partner.domid();
  KILL_DOMAIN(partner, bed);
  EXPECT_EQ(Places(owner), before - 1);
  EXPECT_EQ(owner.Register(&ring, 64, dead), -ESRCH);
  EXPECT_EQ(owner.Send(owner.domid(), "x"), 1);
}

}  // namespace
}  // namespace argosy::sim
