// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
// Packets between partners that are ready: queues, wake-ups, budgets, junk, and calls from
// callbacks.
#include <cstdlib>
#include <string>
#include <vector>

#include "backends/argo/core/fake_xen.h"
#include "backends/argo/core/link.h"
#include "backends/argo/core/link_test_util.h"
#include "gtest/gtest.h"

namespace argosy::argo {
namespace {

class Flow : public testing::Test {
 protected:
  Flow() : a(xen.Add(1)), b(xen.Add(2)) { Connect(xen, a, b); }

  // Tags of the packets that a domain got, in order.
  static std::vector<uint32_t> Tags(const FakeDomain& domain) {
    std::vector<uint32_t> tags;
    for (const std::string& event : domain.events) {
      if (event.rfind("packet", 0) == 0) tags.push_back(std::stoul(event.substr(9)));
    }
    return tags;
  }

  FakeXen xen;
  FakeDomain& a;
  FakeDomain& b;
};

TEST_F(Flow, CarriesPacketsBothWays) {
  EXPECT_EQ(a.Send(2, 17), 0);
  EXPECT_EQ(b.Send(1, 18, 4000), 0);
  xen.Run();
  EXPECT_EQ(Tags(b), std::vector<uint32_t>({17}));
  EXPECT_EQ(Tags(a), std::vector<uint32_t>({18}));
  EXPECT_EQ(a.packets[0]->done, 0);
  EXPECT_EQ(a.Peer(2).count.tx_messages, 1u);
  EXPECT_EQ(a.Peer(2).count.tx_bytes, 44u);
  EXPECT_EQ(a.Peer(2).count.rx_messages, 1u);
  EXPECT_EQ(a.Peer(2).count.rx_bytes, 4000u);
}

TEST_F(Flow, ChecksWhatItIsGiven) {
  const std::vector<uint8_t> bytes(ARGO_LINK_MAX_MESSAGE + 1);
  const uint64_t base = reinterpret_cast<uintptr_t>(bytes.data());
  argo_iov iov[9] = {};
  for (argo_iov& piece : iov) piece = {base, 10, 0};
  const auto send = [&](uint16_t dst, uint32_t niov) {
    return argo_link_send(&a.link, dst, ARGO_SEND_DATA, iov, niov, nullptr, xen.now_ms);
  };
  EXPECT_EQ(send(2, 8), 0);
  EXPECT_EQ(send(2, 9), -ARGO_EINVAL);
  EXPECT_EQ(send(2, 4), -ARGO_EINVAL) << "shorter than a header";
  EXPECT_EQ(send(2, 0), -ARGO_EINVAL);
  EXPECT_EQ(send(3, 8), -ARGO_ENODEV);
  iov[0].len = ARGO_LINK_MAX_MESSAGE + 1;
  EXPECT_EQ(send(2, 1), -ARGO_EMSGSIZE) << "longer than the peer accepts";
  iov[0].len = iov[1].len = 0xFFFFFFFF;
  EXPECT_EQ(send(2, 2), -ARGO_EMSGSIZE) << "the sum must not wrap";
  EXPECT_EQ(a.State(2), ARGO_PEER_READY);
}

TEST_F(Flow, QueuesWhenTheRingIsFullAndGoesOnInOrder) {
  uint32_t sent = Fill(a, 2) + 1;
  EXPECT_EQ(a.Peer(2).count.full, 1u);
  for (; sent < 200; ++sent) ASSERT_EQ(a.Send(2, 1000 + sent, 100), 1);
  EXPECT_EQ(a.Peer(2).count.full, 1u) << "a waiting packet is no reason to ask Xen again";
  xen.Run();
  ASSERT_EQ(Tags(b).size(), 200u);
  for (uint32_t i = 0; i < 200; ++i) EXPECT_EQ(Tags(b)[i], 1000 + i);
  EXPECT_EQ(a.State(2), ARGO_PEER_READY);
  EXPECT_EQ(a.events, Events({"ready 2", "writable 2"}));
  EXPECT_EQ(a.Peer(2).count.blocked, 1u);
  EXPECT_EQ(a.Peer(2).count.wakes, 1u);
  for (const auto& packet : a.packets) {
    EXPECT_LE(packet->done, 1);
    EXPECT_EQ(packet->status, 0);
  }
  EXPECT_EQ(a.packets.back()->done, 1);
  EXPECT_EQ(a.Peer(2).count.tx_messages, 200u);
}

TEST_F(Flow, AsksAgainAfterEbusy) {
  xen.busy.insert(2);
  Fill(a, 2);
  EXPECT_EQ(a.Peer(2).count.busy, 1u);
  xen.Run();
  EXPECT_EQ(a.State(2), ARGO_PEER_BLOCKED) << "nobody woke it";
  EXPECT_EQ(a.Peer(2).retry_at_ms, xen.now_ms + ARGO_LINK_RETRY_MS);
  xen.Advance(ARGO_LINK_RETRY_MS - 1);
  EXPECT_EQ(a.State(2), ARGO_PEER_BLOCKED);
  xen.Advance(1);
  EXPECT_EQ(a.State(2), ARGO_PEER_READY);
  EXPECT_EQ(argo_link_due_ms(&a.link), a.Peer(2).probe_at_ms);
}

TEST_F(Flow, ForgetsTheRetryWhenSomethingElseWokeIt) {
  xen.busy.insert(2);
  Fill(a, 2);
  xen.Run();
  a.Interrupt();
  EXPECT_EQ(a.State(2), ARGO_PEER_READY);
  EXPECT_EQ(argo_link_due_ms(&a.link), a.Peer(2).probe_at_ms);
}

TEST_F(Flow, AsksForTheRoomItNeeds) {
  Fill(a, 2, 1000);
  b.interrupt_pending = false;
  for (int i = 0; i < 5; ++i) a.Interrupt();
  EXPECT_EQ(a.Peer(2).count.full, 1u) << "no second try while there is no room";
  EXPECT_EQ(xen.FindRing(2, 1)->pending[1], 1000u);
}

TEST_F(Flow, KeepsAskingWhileTheNotifySaysEbusy) {
  xen.busy.insert(2);
  Fill(a, 2);
  b.interrupt_pending = false;  // it does not read
  xen.Advance(550);
  EXPECT_EQ(a.Peer(2).count.busy, 1u + 5);
  b.interrupt_pending = true;
  xen.Advance(ARGO_LINK_RETRY_MS);
  EXPECT_EQ(a.State(2), ARGO_PEER_READY);
}

TEST_F(Flow, SurvivesANotifyThatFails) {
  Fill(a, 2);
  xen.fail_notify = -ARGO_ENOMEM;
  xen.Run();
  a.Interrupt();
  EXPECT_EQ(a.State(2), ARGO_PEER_BLOCKED);
  xen.fail_notify = 0;
  xen.Advance(ARGO_LINK_RETRY_MS);
  EXPECT_EQ(a.State(2), ARGO_PEER_READY);
}

TEST_F(Flow, SurvivesAWakeUpThatIsLost) {
  Fill(a, 2);
  xen.FindRing(2, 1)->pending.clear();
  xen.Run();
  EXPECT_EQ(a.State(2), ARGO_PEER_BLOCKED);
  xen.Advance(ARGO_LINK_PROBE_MS);
  EXPECT_EQ(a.State(2), ARGO_PEER_READY);
}

TEST_F(Flow, SurvivesAnInterruptThatIsLost) {
  a.Send(2, 17);
  b.interrupt_pending = false;
  xen.Advance(ARGO_LINK_PROBE_MS);
  EXPECT_EQ(Tags(b), std::vector<uint32_t>({17}));
}

TEST_F(Flow, BoundsTheQueueAndKeepsPlacesForReplies) {
  Fill(a, 2);
  uint32_t queued = 1;
  while (a.Send(2, 1) == 1) ++queued;
  EXPECT_EQ(queued, ARGO_LINK_QUEUE - ARGO_LINK_REPLIES);
  EXPECT_EQ(a.Send(2, 1), -ARGO_ENOBUFS);
  while (a.Send(2, 2, 44, ARGO_SEND_REPLY) == 1) ++queued;
  EXPECT_EQ(queued, ARGO_LINK_QUEUE);
  EXPECT_EQ(a.Send(2, 2, 44, ARGO_SEND_REPLY), -ARGO_ENOBUFS);
  EXPECT_EQ(a.Peer(2).count.queue_refused, 4u);
  EXPECT_EQ(a.Peer(2).count.queued, ARGO_LINK_QUEUE);
  EXPECT_EQ(a.packets.back()->done, 0);
  xen.Run();
  EXPECT_EQ(a.State(2), ARGO_PEER_READY);
  EXPECT_EQ(a.Send(2, 3), 0);
}

// A partner without a link, that greets by hand and claims more than fits into its ring.
class FlowToALiar : public testing::Test {
 protected:
  FlowToALiar() : a(xen.Add(1)) {
    xen.Add(2);
    xen.AddRing(2, 1, 8192);
    a.AddPeer(2);
    xen.Inject(1, 2, {ARGO_LINK_PORT, 2, 0}, ARGO_LINK_TYPE_GREETING,
               AsBytes(Greeting(4711, a.Peer(2).incarnation)));
    xen.Run();
    EXPECT_EQ(a.State(2), ARGO_PEER_READY);
  }

  FakeXen xen;
  FakeDomain& a;
};

TEST_F(FlowToALiar, SaysWhatCanNeverFit) {
  EXPECT_EQ(a.Send(2, 1, 60000), -ARGO_EMSGSIZE);
  EXPECT_EQ(a.State(2), ARGO_PEER_READY);
  EXPECT_EQ(a.Send(2, 1), 0);
}

TEST_F(FlowToALiar, DropsAQueuedPacketThatCanNeverFit) {
  Fill(a, 2);
  ASSERT_EQ(a.Send(2, 1, 60000), 1);
  ASSERT_EQ(a.Send(2, 2), 1);
  xen.AddRing(2, 1, 8192);  // an empty one
  a.Interrupt();
  EXPECT_EQ(a.State(2), ARGO_PEER_READY);
  const auto& giant = a.packets[a.packets.size() - 2];
  EXPECT_EQ(giant->done, 1);
  EXPECT_EQ(giant->status, -ARGO_EMSGSIZE);
  EXPECT_EQ(a.packets.back()->done, 1);
  EXPECT_EQ(a.packets.back()->status, 0);
}

TEST_F(FlowToALiar, DropsTheFirstInTheQueueThatCanNeverFit) {
  xen.fail_send = -ARGO_ENOMEM;
  ASSERT_EQ(a.Send(2, 1, 60000), 1);
  xen.fail_send = 0;
  xen.Advance(ARGO_LINK_RETRY_MS);
  EXPECT_EQ(a.State(2), ARGO_PEER_READY);
  EXPECT_EQ(a.packets.back()->status, -ARGO_EMSGSIZE);
}

TEST_F(Flow, PassesOtherErrorsOn) {
  xen.fail_send = -ARGO_EFAULT;
  EXPECT_EQ(a.Send(2, 1), -ARGO_EFAULT);
  EXPECT_EQ(a.State(2), ARGO_PEER_READY);
}

TEST_F(Flow, OnePartnerThatDoesNotReadStopsNobodyElse) {
  FakeDomain& c = xen.Add(3);
  Connect(xen, a, c);
  Fill(a, 2);
  b.interrupt_pending = false;
  for (uint32_t i = 0; i < 500; ++i) {
    ASSERT_EQ(a.Send(3, i), 0);
    c.Interrupt();
    a.Interrupt();
  }
  EXPECT_EQ(Tags(c).size(), 500u);
  EXPECT_EQ(a.State(2), ARGO_PEER_BLOCKED);
}

TEST_F(Flow, DropsWhatCannotBe) {
  const argo_addr good = {ARGO_LINK_PORT, 2, 0};
  xen.Inject(1, 2, {ARGO_LINK_PORT, 3, 0}, ARGO_LINK_TYPE_PACKET, Bytes(44));
  xen.Inject(1, 2, {ARGO_LINK_PORT + 1, 2, 0}, ARGO_LINK_TYPE_PACKET, Bytes(44));
  xen.Inject(1, 2, {ARGO_LINK_PORT, 3, 0}, ARGO_LINK_TYPE_GREETING, AsBytes(Greeting(9, 0)));
  xen.Inject(1, 2, good, ARGO_LINK_TYPE_PACKET + 1, Bytes(44));
  xen.Inject(1, 2, good, 0, {});
  xen.Inject(1, 2, good, ARGO_LINK_TYPE_PACKET, Bytes(43));
  xen.Inject(1, 2, good, ARGO_LINK_TYPE_PACKET, {});
  b.Send(1, 17);
  xen.Run();
  EXPECT_EQ(a.Peer(2).count.drop_source, 3u);
  EXPECT_EQ(a.Peer(2).count.drop_type, 2u);
  EXPECT_EQ(a.Peer(2).count.drop_length, 2u);
  EXPECT_EQ(Tags(a), std::vector<uint32_t>({17})) << "what comes after is not touched";
  EXPECT_EQ(a.State(2), ARGO_PEER_READY);
}

TEST(FlowLimits, RefusesPacketsThatAreTooLong) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  FakeDomain& b = xen.Add(2);
  a.ring_len = 262144;
  Connect(xen, a, b);
  const argo_addr from = {ARGO_LINK_PORT, 2, 0};
  xen.Inject(1, 2, from, ARGO_LINK_TYPE_PACKET, Bytes(ARGO_LINK_MAX_MESSAGE + 1));
  xen.Run();
  EXPECT_EQ(a.Peer(2).count.drop_length, 1u);
  EXPECT_EQ(b.Send(1, 17, ARGO_LINK_MAX_MESSAGE), 0);
  xen.Run();
  EXPECT_EQ(a.events.back(), "packet 2 17");
}

TEST(FlowLimits, DropsPacketsBeforeTheGreetings) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  xen.Add(2);
  a.AddPeer(2);
  EXPECT_EQ(a.Send(2, 1), -ARGO_ENODEV);
  xen.Inject(1, 2, {ARGO_LINK_PORT, 2, 0}, ARGO_LINK_TYPE_PACKET, Bytes(44));
  xen.Run();
  EXPECT_EQ(a.Peer(2).count.drop_not_ready, 1u);
  EXPECT_TRUE(a.events.empty());
}

TEST(FlowLimits, KeepsToThePartnersPayload) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  xen.Add(2);
  xen.AddRing(2, 1, 65536);
  a.AddPeer(2);
  argo_link_greeting greeting = Greeting(4711, a.Peer(2).incarnation);
  greeting.max_payload = 3000;
  xen.Inject(1, 2, {ARGO_LINK_PORT, 2, 0}, ARGO_LINK_TYPE_GREETING, AsBytes(greeting));
  xen.Run();
  EXPECT_EQ(a.Send(2, 1, 3045), -ARGO_EMSGSIZE);
  EXPECT_EQ(a.Send(2, 1, 3044), 0);
}

TEST(FlowLimits, ReadsWithinABudgetAndTurnsToTheNext) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  FakeDomain& b = xen.Add(2);
  FakeDomain& c = xen.Add(3);
  a.ring_len = 1 << 20;
  Connect(xen, a, b);
  Connect(xen, a, c);
  a.events.clear();
  for (int i = 0; i < 12; ++i) ASSERT_EQ(b.Send(1, i, ARGO_LINK_MAX_MESSAGE), 0);
  ASSERT_EQ(c.Send(1, 99), 0);
  EXPECT_EQ(a.Interrupt(), 1);
  EXPECT_EQ(a.events,
            Events({"packet 2 0", "packet 2 1", "packet 2 2", "packet 2 3", "packet 3 99"}));
  EXPECT_EQ(a.Interrupt(), 1);
  EXPECT_EQ(a.Interrupt(), 0) << "exactly its budget is no reason to come again";
  EXPECT_EQ(a.Peer(2).count.rx_messages, 12u);

  // Messages without a payload are not free.
  xen.AddRing(2, 1, 65536);
  for (int i = 0; i < 30000; ++i) xen.Inject(1, 2, {ARGO_LINK_PORT, 2, 0}, 0, {});
  EXPECT_EQ(a.Interrupt(), 1);
  EXPECT_LE(a.Peer(2).count.drop_type, ARGO_LINK_BUDGET / 16 + 1);
  EXPECT_EQ(a.Interrupt(), 0);
  EXPECT_EQ(a.Peer(2).count.drop_type, 30000u);
}

TEST(FlowLimits, TimerReadsOnAfterALostInterruptAndABudget) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  FakeDomain& b = xen.Add(2);
  a.ring_len = 1 << 20;
  Connect(xen, a, b);
  for (int i = 0; i < 12; ++i) ASSERT_EQ(b.Send(1, i, ARGO_LINK_MAX_MESSAGE), 0);
  a.interrupt_pending = false;
  xen.Advance(ARGO_LINK_PROBE_MS);
  EXPECT_EQ(a.Peer(2).count.rx_messages, 12u);
}

TEST_F(Flow, WakesSendersEachQuarterAndAtTheEnd) {
  xen.wakes = 0;
  b.Interrupt();
  EXPECT_EQ(xen.wakes, 0) << "nothing freed, nobody to wake";
  a.Send(2, 1);
  b.Interrupt();
  EXPECT_EQ(xen.wakes, 1);
  const uint32_t bytes = Fill(a, 2, 240) * 256;  // 16 + 240 each
  xen.wakes = 0;
  b.Interrupt();
  EXPECT_EQ(xen.wakes, static_cast<int>(bytes / (8192 / 4)) + 1);
}

TEST(FlowWakes, OnlyWhereTheLargestMessageCouldBeRefused) {
  const uint32_t kLargest = ARGO_MESSAGE_HEADER_SIZE + argo_slots(ARGO_LINK_MAX_MESSAGE);
  for (const bool refused : {true, false}) {
    FakeXen xen;
    FakeDomain& a = xen.Add(1);
    FakeDomain& b = xen.Add(2);
    a.ring_len = b.ring_len = 2 * kLargest + (refused ? 0 : ARGO_SLOT_SIZE);
    Connect(xen, a, b);
    ASSERT_EQ(a.Send(2, 1, ARGO_LINK_MAX_MESSAGE), 0);
    if (refused) {
      ASSERT_EQ(a.Send(2, 2, ARGO_LINK_MAX_MESSAGE), 1) << "it waits";
    }
    xen.wakes = 0;
    b.Interrupt();
    EXPECT_EQ(xen.wakes > 0, refused);
    xen.Run();
    EXPECT_EQ(b.Peer(1).count.rx_messages, refused ? 2u : 1u);
    EXPECT_EQ(a.State(2), ARGO_PEER_READY);

    a.Send(2, 3);
    xen.wakes = 0;
    b.Interrupt();
    EXPECT_EQ(xen.wakes, 0) << "an almost empty ring refuses nothing";
  }
}

TEST_F(Flow, AsksAndWakesWithOneNotify) {
  Fill(a, 2);
  b.Send(1, 1);
  b.interrupt_pending = false;
  xen.wakes = 0;
  xen.notified.clear();
  a.Interrupt();
  EXPECT_EQ(xen.wakes, 0);
  EXPECT_EQ(xen.notified, std::vector<uint32_t>({1}));
}

TEST(FlowBatches, NotifyAsksAboutAtMost256Rings) {
  FakeXen xen;
  constexpr int kPartners = 300;
  FakeDomain& a = xen.Add(1, kPartners);
  constexpr uint16_t kLast = 1 + kPartners;
  for (uint16_t domid = 2; domid <= kLast; ++domid) {
    FakeDomain& partner = xen.Add(domid, 1);
    partner.ring_len = 4096;
    Connect(xen, a, partner);
  }
  for (uint16_t domid = 2; domid <= kLast; ++domid) Fill(a, domid, 44);
  xen.notified.clear();
  a.Interrupt();
  EXPECT_EQ(xen.notified, std::vector<uint32_t>({256, 44}));
  xen.Run();
  for (uint16_t domid = 2; domid <= kLast; ++domid) {
    ASSERT_EQ(a.State(domid), ARGO_PEER_READY) << domid;
  }
}

// ---- calls from callbacks ----

TEST_F(Flow, AnswersFromWithinDeliver) {
  uint32_t answers = 0;
  b.on_deliver = [&](uint16_t src) { EXPECT_GE(b.Send(src, answers++, 44, ARGO_SEND_REPLY), 0); };
  for (uint32_t i = 0; i < 1000; ++i) {
    ASSERT_EQ(a.Send(2, i), 0);
    xen.Run();
  }
  EXPECT_EQ(Tags(a).size(), 1000u);
}

TEST(FlowCallbacks, PacketsFromPeerReadyFindThePartnerReady) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  FakeDomain& b = xen.Add(2);
  a.on_ready = [&](uint16_t) { EXPECT_EQ(a.Send(2, 11), 0); };
  b.on_ready = [&](uint16_t) { EXPECT_EQ(b.Send(1, 12), 0); };
  Connect(xen, a, b);
  EXPECT_EQ(a.events, Events({"ready 2", "packet 2 12"}));
  EXPECT_EQ(b.events, Events({"ready 1", "packet 1 11"}));
  EXPECT_EQ(a.Peer(2).count.drop_not_ready + b.Peer(1).count.drop_not_ready, 0u);
}

TEST_F(Flow, MayBlockAgainFromWithinWritable) {
  int rounds = 0;
  a.on_writable = [&](uint16_t) {
    if (++rounds <= 5) Fill(a, 2);
  };
  Fill(a, 2);
  xen.Run();
  EXPECT_EQ(rounds, 6);
  EXPECT_EQ(a.State(2), ARGO_PEER_READY);
}

// The space of a message is free only when it was delivered.
TEST_F(Flow, KeepsAMessageInTheRingUntilItWasDelivered) {
  ASSERT_EQ(a.Send(2, 17, 4000), 0);
  b.on_deliver = [&](uint16_t) {
    b.on_deliver = nullptr;
    Fill(a, 2);
  };
  xen.Run();
  EXPECT_EQ(b.events[1], "packet 1 17");
  EXPECT_EQ(b.events[2], "packet 1 1000");
  EXPECT_EQ(a.State(2), ARGO_PEER_READY);
}

// The partner vanishes while its packets are being delivered, and the answer finds out.
TEST_F(Flow, LosesAPeerFromWithinDeliverWhenThatReturns) {
  for (uint32_t i = 0; i < 5; ++i) b.Send(1, i);
  a.on_deliver = [&](uint16_t src) {
    xen.Unregister(2, 1);
    EXPECT_EQ(a.Send(src, 1), -ARGO_ECONNRESET);
    EXPECT_EQ(a.Send(src, 2), -ARGO_ENODEV);
    a.events.push_back("returned");
  };
  xen.Run();
  EXPECT_EQ(a.events, Events({"ready 2", "packet 2 0", "returned", "lost 2"}))
      << "and the ring is not read on";
  EXPECT_EQ(xen.FindRing(1, 2), nullptr);
  EXPECT_EQ(a.Peer(2).count.lost, 1u);
}

TEST_F(Flow, LosesAnotherPeerFromWithinDeliver) {
  FakeDomain& c = xen.Add(3);
  Connect(xen, a, c);
  Fill(a, 2);  // the other's queue is not empty, either
  for (uint32_t i = 0; i < 3; ++i) c.Send(1, i);
  xen.Kill(2);
  Fill(a, 3);
  int calls = 0;
  a.on_deliver = [&](uint16_t) {
    if (calls++ == 0) {
      EXPECT_EQ(a.Send(2, 1), 1);
    }
  };
  a.Interrupt();
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(a.events.back(), "lost 2");
  EXPECT_EQ(a.State(2), ARGO_PEER_UNKNOWN);
  xen.Run();
  EXPECT_EQ(a.State(3), ARGO_PEER_READY);
}

TEST_F(Flow, LosesAPeerFromWithinWritable) {
  Fill(a, 2);
  a.on_writable = [&](uint16_t domid) {
    xen.Unregister(2, 1);
    EXPECT_EQ(a.Send(domid, 1), -ARGO_ECONNRESET);
    a.events.push_back("returned");
  };
  xen.Run();
  EXPECT_EQ(a.events, Events({"ready 2", "writable 2", "returned", "lost 2"}));
}

// A new greeting in the middle of a ring closes that ring: nothing behind it may be read.
TEST_F(Flow, StopsReadingARingThatItsOwnMessageCloses) {
  b.Send(1, 1);
  xen.Inject(1, 2, {ARGO_LINK_PORT, 2, 0}, ARGO_LINK_TYPE_GREETING, AsBytes(Greeting(99, 0)));
  b.Send(1, 2);
  a.interrupt_pending = true;
  EXPECT_EQ(a.Interrupt(), 0);
  EXPECT_EQ(a.events, Events({"ready 2", "packet 2 1", "lost 2"}));
}

}  // namespace
}  // namespace argosy::argo
