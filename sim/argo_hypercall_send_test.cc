// SPDX-License-Identifier: Apache-2.0
// Conformance tests, continued: messages, their checks, their place in the ring.
#include <errno.h>
#include <gtest/gtest.h>
#include <string.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "backends/argo/abi/argo.h"
#include "sim/argo_hypercall_guest.h"
#include "sim/hypercalls.h"

namespace argosy::sim {
namespace {

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
  // Judged piece by piece: the sum is too much before the third one is looked at.
  guest.iov()[2].pad = 1;
  EXPECT_EQ(guest.SendIov(3), -EMSGSIZE);
  guest.iov()[2].pad = 0;
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
        // One message moves the pointers on.
        if (ring.tx() != offset) {
          const uint32_t distance = (offset + len - ring.tx()) % len;
          ASSERT_GE(guest.Send(self, Pattern(distance - ARGO_MESSAGE_HEADER_SIZE)), 0);
          ring.Drain();
          ASSERT_EQ(ring.tx(), offset);
        }
        guest.Address(self);
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
