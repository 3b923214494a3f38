// SPDX-License-Identifier: Apache-2.0
// Conformance tests, continued: full rings, notify, and who is woken.
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
  KILL_DOMAIN(owner, bed);
  EXPECT_EQ(sender->TakeInterrupts(), 0u);
  // Still refused while the domain is being torn down, then gone.
  const int rc = sender.Send(dead, "x");
  EXPECT_TRUE(rc == -ESRCH || rc == -ECONNREFUSED) << rc;
  EXPECT_EQ(sender.Query(dead, 1).flags, 0);
}

}  // namespace
}  // namespace argosy::sim
