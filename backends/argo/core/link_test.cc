// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
// The life of a session: greetings, losses, restarts.  link_flow_test.cc has the packets.
#include "backends/argo/core/link.h"

#include <algorithm>
#include <string>
#include <vector>

#include "backends/argo/core/fake_xen.h"
#include "backends/argo/core/link_test_util.h"
#include "gtest/gtest.h"

namespace argosy::argo {
namespace {

TEST(Greeting, WorksFromEitherSide) {
  for (const bool first : {false, true}) {
    FakeXen xen;
    FakeDomain& a = xen.Add(first ? 1 : 2);
    FakeDomain& b = xen.Add(first ? 2 : 1);
    ASSERT_EQ(a.AddPeer(b.domid), 0);
    EXPECT_EQ(a.State(b.domid), ARGO_PEER_GREETING);
    EXPECT_EQ(xen.Run(), 0) << "nobody to greet yet";
    ASSERT_EQ(b.AddPeer(a.domid), 0);
    xen.Run();
    EXPECT_TRUE(AreReady(a, b));
    EXPECT_EQ(a.events, Events({"ready " + std::to_string(b.domid)}));
    EXPECT_EQ(b.events, Events({"ready " + std::to_string(a.domid)}));
    EXPECT_EQ(xen.greetings, 3);
    EXPECT_EQ(a.Peer(b.domid).heard, b.Peer(a.domid).incarnation);
    EXPECT_EQ(b.Peer(a.domid).heard, a.Peer(b.domid).incarnation);
  }
}

TEST(Greeting, MayCross) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  FakeDomain& b = xen.Add(2);
  a.AddPeer(2);
  b.AddPeer(1);  // lies in a's ring
  xen.now_ms += 1000;
  a.Timer();  // a greets too, without having read
  b.interrupt_pending = true;
  xen.Run();
  EXPECT_TRUE(AreReady(a, b));
  EXPECT_EQ(a.events, Events({"ready 2"}));
  EXPECT_EQ(b.events, Events({"ready 1"}));
  EXPECT_LE(xen.greetings, 4);
  const int greetings = xen.greetings;
  xen.Advance(10000);
  EXPECT_EQ(xen.greetings, greetings) << "a session needs no more of them";
}

TEST(Greeting, AgreesOnFeaturesAndPayload) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  FakeDomain& b = xen.Add(2);
  a.link.features = 0b0110;
  b.link.features = 0b1100;
  Connect(xen, a, b);
  EXPECT_EQ(a.Peer(2).features, 0b0100u);
  EXPECT_EQ(b.Peer(1).features, 0b0100u);
}

// What fits into the partner's ring at all, and never more than 64 KiB.
TEST(Greeting, TellsTheLargestPayload) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  FakeDomain& b = xen.Add(2);
  FakeDomain& c = xen.Add(3);
  FakeDomain& d = xen.Add(4);
  b.ring_len = 4096;
  c.ring_len = 262144;
  d.ring_len = 2112;  // too small for ARGO_LINK_MIN_PAYLOAD
  Connect(xen, a, b);
  Connect(xen, a, c);
  a.AddPeer(4);
  d.AddPeer(1);
  xen.Advance(3000);
  EXPECT_EQ(a.Peer(2).max_payload, 4096u - 32 - ARGO_LINK_PACKET_HEADER);
  EXPECT_EQ(a.Peer(3).max_payload, ARGO_LINK_MAX_PAYLOAD);
  EXPECT_EQ(a.State(4), ARGO_PEER_GREETING);
  EXPECT_GT(a.Peer(4).count.drop_version, 0u);
  EXPECT_EQ(a.Send(2, 1, a.Peer(2).max_payload + ARGO_LINK_PACKET_HEADER), 0);
  EXPECT_EQ(a.Send(2, 1, a.Peer(2).max_payload + ARGO_LINK_PACKET_HEADER + 1), -ARGO_EMSGSIZE);
}

TEST(Greeting, WaitsForAPartnerThatDoesNotExist) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  ASSERT_EQ(a.AddPeer(2), 0);
  EXPECT_EQ(a.State(2), ARGO_PEER_UNKNOWN);
  xen.Advance(5000);
  EXPECT_EQ(a.State(2), ARGO_PEER_UNKNOWN);
  FakeDomain& b = xen.Add(2);
  b.AddPeer(1);
  xen.Advance(2000);
  EXPECT_TRUE(AreReady(a, b));
}

TEST(Greeting, KeepsItsRingWhileThePartnerIsNotThere) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  xen.Add(2);
  a.AddPeer(2);
  xen.Advance(60000);
  EXPECT_EQ(a.State(2), ARGO_PEER_GREETING);
  EXPECT_EQ(a.incarnations, 1u);
  EXPECT_EQ(xen.greetings, 0);
  EXPECT_EQ(xen.wakes, 0) << "nothing was read, so nobody is to be woken";
}

TEST(Greeting, IsRepeatedEachSecondUntilItIsAnswered) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  xen.Add(2);
  a.AddPeer(2);
  xen.AddRing(2, 1, 8192);  // by somebody who does not greet
  xen.Advance(3 * ARGO_LINK_PROBE_MS);
  EXPECT_EQ(xen.greetings, 3);
  xen.Inject(1, 2, {ARGO_LINK_PORT, 2, 0}, ARGO_LINK_TYPE_GREETING,
             AsBytes(Greeting(4711, a.Peer(2).incarnation)));
  xen.Run();
  EXPECT_EQ(a.State(2), ARGO_PEER_READY);
  EXPECT_EQ(xen.greetings, 4) << "the answer";
  xen.Advance(3 * ARGO_LINK_PROBE_MS);
  EXPECT_EQ(xen.greetings, 4);
}

TEST(Greeting, TellsWhomItHeard) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  xen.Add(2);
  xen.AddRing(2, 1, 8192);
  a.AddPeer(2);
  argo_link_greeting greeting;
  const auto take = [&](uint32_t at) {
    std::memcpy(&greeting, xen.FindRing(2, 1)->data() + at + ARGO_MESSAGE_HEADER_SIZE,
                sizeof(greeting));
  };
  take(0);
  EXPECT_EQ(greeting.incarnation, a.Peer(2).incarnation);
  EXPECT_EQ(greeting.heard, 0u);
  xen.Inject(1, 2, {ARGO_LINK_PORT, 2, 0}, ARGO_LINK_TYPE_GREETING, AsBytes(Greeting(4711, 0)));
  a.Interrupt();
  take(ARGO_MESSAGE_HEADER_SIZE + 48);
  EXPECT_EQ(greeting.incarnation, a.Peer(2).incarnation);
  EXPECT_EQ(greeting.heard, 4711u);
}

TEST(Greeting, WaitsForRoomAndIsWoken) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  FakeDomain& b = xen.Add(2);
  b.AddPeer(1);
  while (xen.Inject(2, 1, {ARGO_LINK_PORT, 1, 0}, 99, Bytes(40)) == 0) {
  }
  b.interrupt_pending = false;
  a.AddPeer(2);
  EXPECT_TRUE(a.Peer(2).greet_again);
  EXPECT_EQ(a.Peer(2).count.full, 1u);
  b.interrupt_pending = true;
  xen.Run();
  EXPECT_TRUE(AreReady(a, b));
}

TEST(Greeting, RetriesAfterBusyWithoutAWakeUp) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  FakeDomain& b = xen.Add(2);
  b.AddPeer(1);
  while (xen.Inject(2, 1, {ARGO_LINK_PORT, 1, 0}, 99, Bytes(40)) == 0) {
  }
  xen.busy.insert(2);
  a.AddPeer(2);
  xen.Run();
  EXPECT_EQ(a.State(2), ARGO_PEER_GREETING);
  EXPECT_EQ(argo_link_due_ms(&a.link), xen.now_ms + ARGO_LINK_RETRY_MS);
  xen.busy.clear();
  xen.Advance(ARGO_LINK_RETRY_MS);
  EXPECT_TRUE(AreReady(a, b));
}

TEST(Greeting, KeepsAskingWhileTheNotifySaysEbusy) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  FakeDomain& b = xen.Add(2);
  b.AddPeer(1);
  while (xen.Inject(2, 1, {ARGO_LINK_PORT, 1, 0}, 99, Bytes(40)) == 0) {
  }
  xen.busy.insert(2);
  b.interrupt_pending = false;  // it does not read
  a.AddPeer(2);
  xen.Advance(550);
  EXPECT_EQ(a.Peer(2).count.busy, 1u + 5);
  b.interrupt_pending = true;
  xen.Advance(ARGO_LINK_RETRY_MS);
  EXPECT_TRUE(AreReady(a, b));
}

TEST(Greeting, GetsOneAnswerEachAndJunkGetsNone) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  xen.Add(2);
  xen.AddRing(2, 1, 65536);  // a partner without a link: it greets by hand
  a.AddPeer(2);
  ASSERT_EQ(xen.greetings, 1);
  const argo_addr from = {ARGO_LINK_PORT, 2, 0};

  argo_link_greeting greeting = Greeting(4711, 0);
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(xen.Inject(1, 2, from, ARGO_LINK_TYPE_GREETING, AsBytes(greeting)), 0);
  }
  xen.Run();
  EXPECT_EQ(xen.greetings, 1 + 20);
  EXPECT_EQ(a.State(2), ARGO_PEER_GREETING) << "it has not heard us";

  // It has heard us: nothing to answer.
  greeting.heard = a.Peer(2).incarnation;
  for (int i = 0; i < 20; ++i) xen.Inject(1, 2, from, ARGO_LINK_TYPE_GREETING, AsBytes(greeting));
  xen.Run();
  EXPECT_EQ(a.State(2), ARGO_PEER_READY);
  EXPECT_EQ(xen.greetings, 1 + 20);

  // Within a session, too, one who has not heard us is told.
  xen.Inject(1, 2, from, ARGO_LINK_TYPE_GREETING, AsBytes(Greeting(4711, 0)));
  xen.Run();
  EXPECT_EQ(a.State(2), ARGO_PEER_READY);
  EXPECT_EQ(xen.greetings, 1 + 20 + 1);

  std::vector<uint8_t> junk = AsBytes(greeting);
  junk.push_back(0);
  xen.Inject(1, 2, from, ARGO_LINK_TYPE_GREETING, junk);
  junk.resize(39);
  xen.Inject(1, 2, from, ARGO_LINK_TYPE_GREETING, junk);
  xen.Inject(1, 2, from, ARGO_LINK_TYPE_GREETING, {});
  xen.Inject(1, 2, from, ARGO_LINK_TYPE_GREETING, AsBytes(Greeting(0, 0)));
  xen.Run();
  EXPECT_EQ(xen.greetings, 1 + 20 + 1);
  EXPECT_EQ(a.Peer(2).count.drop_length, 3u);
  EXPECT_EQ(a.Peer(2).count.drop_version, 1u);
  EXPECT_EQ(a.State(2), ARGO_PEER_READY);
  EXPECT_EQ(a.events, Events({"ready 2"}));
}

// Packets must not overtake the greeting that makes the partner ready.
TEST(Greeting, IsNotDoneBeforeThePartnerWasTold) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  xen.Add(2);
  xen.AddRing(2, 1, 4096);
  a.AddPeer(2);
  while (xen.Inject(2, 1, {1, 1, 0}, 1, Bytes(16)) == 0) {
  }
  const auto greeting = AsBytes(Greeting(4711, a.Peer(2).incarnation));
  for (int i = 0; i < 2; ++i) {  // the second one is no news
    xen.Inject(1, 2, {ARGO_LINK_PORT, 2, 0}, ARGO_LINK_TYPE_GREETING, greeting);
    xen.Run();
    EXPECT_EQ(a.State(2), ARGO_PEER_GREETING);
    EXPECT_TRUE(a.Peer(2).greet_again);
  }
  xen.AddRing(2, 1, 4096);
  a.Interrupt();
  EXPECT_EQ(a.State(2), ARGO_PEER_READY);
}

TEST(Greeting, MayWrapAtTheRingsEnd) {
  constexpr uint32_t kLen = 4096;
  for (uint32_t behind = 16; behind <= 80; behind += 16) {
    SCOPED_TRACE(behind);
    FakeXen xen;
    FakeDomain& a = xen.Add(1);
    xen.Add(2);
    a.ring_len = kLen;
    a.AddPeer(2);
    const argo_addr src = {ARGO_LINK_PORT, 2, 0};
    for (uint32_t at = 0; at < kLen - behind; at += ARGO_MESSAGE_HEADER_SIZE) {
      ASSERT_EQ(xen.Inject(1, 2, src, 0, {}), 0);
    }
    a.Interrupt();
    xen.AddRing(2, 1, kLen);
    ASSERT_EQ(xen.Inject(1, 2, src, ARGO_LINK_TYPE_GREETING,
                         AsBytes(Greeting(4711, a.Peer(2).incarnation))),
              0);
    a.Interrupt();
    EXPECT_EQ(a.State(2), ARGO_PEER_READY);
    EXPECT_EQ(a.Peer(2).heard, 4711u);
  }
}

TEST(Greeting, NeedsACommonVersion) {
  struct Case {
    uint16_t min, max;
    bool common;
  };
  for (const Case& c : std::vector<Case>{
           {1, 1, true}, {0, 1, true}, {1, 9, true}, {2, 9, false}, {0, 0, false}, {2, 1, false}}) {
    FakeXen xen;
    FakeDomain& a = xen.Add(1);
    xen.Add(2);
    xen.AddRing(2, 1, 65536);
    a.AddPeer(2);
    argo_link_greeting greeting = Greeting(4711, a.Peer(2).incarnation);
    greeting.version_min = c.min;
    greeting.version_max = c.max;
    xen.Inject(1, 2, {ARGO_LINK_PORT, 2, 0}, ARGO_LINK_TYPE_GREETING, AsBytes(greeting));
    xen.Run();
    EXPECT_EQ(a.State(2), c.common ? ARGO_PEER_READY : ARGO_PEER_GREETING) << c.min << c.max;
    EXPECT_EQ(a.Peer(2).count.drop_version, c.common ? 0u : 1u);
    EXPECT_EQ(xen.greetings, c.common ? 2 : 1);
  }
}

TEST(Greeting, WorksWithOneself) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  a.AddPeer(1);
  xen.Advance(1000);
  ASSERT_EQ(a.State(1), ARGO_PEER_READY);
  EXPECT_EQ(a.Send(1, 17), 0);
  xen.Run();
  EXPECT_EQ(a.events, Events({"ready 1", "packet 1 17"}));
}

// A wildcard ring on the same port must never be waited for, and is no session.
TEST(Wildcard, TakesAGreetingOnlyWhileEmpty) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  xen.Add(2);
  FakeXen::Ring* wildcard = xen.AddRing(2, ARGO_DOMID_ANY, 4096);
  a.AddPeer(2);
  EXPECT_EQ(xen.greetings, 1);
  xen.Advance(10000);
  EXPECT_EQ(xen.greetings, 1) << "the first one still lies there";
  while (xen.Inject(2, ARGO_DOMID_ANY, {1, 7, 0}, 1, Bytes(16)) == 0) {
  }
  xen.Advance(10000);
  EXPECT_TRUE(wildcard->pending.empty());
  EXPECT_EQ(a.State(2), ARGO_PEER_GREETING);
}

TEST(Wildcard, IsNotWaitedForWhenSomebodyWasFaster) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  xen.Add(2);
  xen.AddRing(2, ARGO_DOMID_ANY, 4096);
  for (const int error : {-ARGO_EAGAIN, -ARGO_EBUSY}) {
    xen.fail_greeting = error;
    xen.notified.clear();
    a.AddPeer(2);
    EXPECT_FALSE(a.Peer(2).greet_again);
    EXPECT_EQ(xen.notified.size(), error == -ARGO_EAGAIN ? 2u : 1u) << "the wait is taken back";
    EXPECT_EQ(argo_link_due_ms(&a.link), xen.now_ms + ARGO_LINK_PROBE_MS);
    argo_link_remove_peer(&a.link, 2);
  }
}

TEST(Wildcard, DoesNotCountAsThePartnersRing) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  FakeDomain& b = xen.Add(2);
  Connect(xen, a, b);
  xen.Unregister(2, 1);
  xen.AddRing(2, ARGO_DOMID_ANY, 4096);
  xen.Advance(1000);
  EXPECT_EQ(a.Peer(2).count.lost, 1u);
}

// ---- the end ----

TEST(Loss, IsSeenBySending) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  FakeDomain& b = xen.Add(2);
  Connect(xen, a, b);
  xen.Kill(2);
  EXPECT_EQ(a.Send(2, 1), -ARGO_ECONNRESET);
  EXPECT_EQ(a.events, Events({"ready 2", "lost 2"}));
  EXPECT_EQ(a.State(2), ARGO_PEER_UNKNOWN);
  EXPECT_EQ(a.Send(2, 2), -ARGO_ENODEV);
  EXPECT_EQ(a.packets[0]->done, 0) << "a cookie that was not kept";
  xen.Advance(5000);
  EXPECT_EQ(a.State(2), ARGO_PEER_UNKNOWN);
  EXPECT_EQ(a.Peer(2).count.lost, 1u);
}

TEST(Loss, IsSeenByAProbeWhileIdle) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  FakeDomain& b = xen.Add(2);
  Connect(xen, a, b);
  xen.Advance(10500);
  EXPECT_EQ(a.events, Events({"ready 2"}));
  EXPECT_EQ(a.Peer(2).count.probes, 10u);
  xen.Kill(2);
  xen.Advance(1000);
  EXPECT_EQ(a.events, Events({"ready 2", "lost 2"}));
}

TEST(Loss, IsSeenByAProbeWhenOnlyThePartnersRingIsGone) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  FakeDomain& b = xen.Add(2);
  Connect(xen, a, b);
  argo_link_fini(&b.link);
  xen.Advance(1200);
  EXPECT_EQ(a.events, Events({"ready 2", "lost 2"}));
  EXPECT_EQ(a.State(2), ARGO_PEER_GREETING);
}

TEST(Loss, GivesTheQueueBack) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  FakeDomain& b = xen.Add(2);
  Connect(xen, a, b);
  Fill(a, 2);
  ASSERT_EQ(a.Send(2, 1), 1);
  ASSERT_EQ(a.Send(2, 2), 1);
  const size_t waiting = a.packets.size() - 3;  // Fill() left one in the queue as well
  xen.Kill(2);                                  // nobody is woken
  EXPECT_EQ(a.Interrupt(), 0);
  EXPECT_EQ(a.events, Events({"ready 2", "lost 2"}));
  for (size_t i = 0; i < a.packets.size(); ++i) {
    EXPECT_EQ(a.packets[i]->done, i < waiting ? 0 : 1) << i;
    EXPECT_EQ(a.packets[i]->status, i < waiting ? 0 : -ARGO_ECONNRESET) << i;
  }
  EXPECT_EQ(a.Peer(2).queue_count, 0u);
}

// The partner's ring goes between the notify that sees it and the sendv behind it.
TEST(Loss, IsSeenByTheQueueAndGivesItBackOnce) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  FakeDomain& b = xen.Add(2);
  Connect(xen, a, b);
  const uint32_t sent = Fill(a, 2);
  for (int i = 0; i < 3; ++i) ASSERT_EQ(a.Send(2, 1), 1);
  xen.fail_send = -ARGO_ECONNREFUSED;
  xen.Run(2);  // b reads, a is woken
  EXPECT_EQ(a.events, Events({"ready 2", "lost 2"}));
  EXPECT_EQ(a.State(2), ARGO_PEER_UNKNOWN);
  ASSERT_EQ(a.packets.size(), sent + 4);
  for (uint32_t i = sent; i < sent + 4; ++i) {
    EXPECT_EQ(a.packets[i]->done, 1);
    EXPECT_EQ(a.packets[i]->status, -ARGO_ECONNRESET);
  }
}

TEST(Loss, TakesThePendingRetryWithIt) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  FakeDomain& b = xen.Add(2);
  Connect(xen, a, b);
  xen.busy.insert(2);
  Fill(a, 2);
  ASSERT_EQ(a.Peer(2).retry_at_ms, xen.now_ms + ARGO_LINK_RETRY_MS);
  xen.now_ms += 50;
  argo_link_peer_gone(&a.link, 2, xen.now_ms);
  EXPECT_EQ(argo_link_due_ms(&a.link), xen.now_ms + ARGO_LINK_RETRY_MS);
}

TEST(Loss, IsToldFromOutside) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  FakeDomain& b = xen.Add(2);
  Connect(xen, a, b);
  EXPECT_EQ(argo_link_peer_gone(&a.link, 7, xen.now_ms), -ARGO_ENODEV);
  EXPECT_EQ(argo_link_peer_gone(&a.link, 2, xen.now_ms), 0);
  EXPECT_EQ(a.events, Events({"ready 2", "lost 2"}));
  EXPECT_EQ(argo_link_peer_gone(&a.link, 2, xen.now_ms), 0);
  EXPECT_EQ(a.Peer(2).count.lost, 1u);
  // It was a mistake: both find together again.
  xen.Advance(3000);
  EXPECT_TRUE(AreReady(a, b));
}

TEST(Restart, WithinOneProbeIntervalLosesTheOldSession) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  Connect(xen, a, xen.Add(2));
  const uint64_t first = a.Peer(2).incarnation;
  xen.Kill(2);  // a's ring for it is silently gone
  FakeDomain& b = xen.Add(2);
  b.AddPeer(1);
  xen.Advance(200);
  EXPECT_EQ(b.State(1), ARGO_PEER_GREETING);
  xen.Advance(2000);
  EXPECT_TRUE(AreReady(a, b));
  EXPECT_NE(a.Peer(2).incarnation, first);
  EXPECT_EQ(a.events, Events({"ready 2", "lost 2", "ready 2"}));
  EXPECT_EQ(b.events, Events({"ready 1"}));
}

TEST(Restart, OfADriverShowsByItsIncarnation) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  FakeDomain& b = xen.Add(2);
  Connect(xen, a, b);
  Fill(a, 2);
  // The module is loaded again; a's ring for it lives on.
  argo_link_fini(&b.link);
  argo_link_init(&b.link, &b.ops, &b, 2, b.peers.data(), b.peers.size());
  b.AddPeer(1);
  xen.Run();
  EXPECT_EQ(a.events, Events({"ready 2", "lost 2"}));
  EXPECT_EQ(a.packets.back()->status, -ARGO_ECONNRESET);
  EXPECT_EQ(a.Peer(2).count.drop_not_ready, 0u);
  xen.Advance(ARGO_LINK_RETRY_MS);
  EXPECT_TRUE(AreReady(a, b));
  EXPECT_EQ(b.events, Events({"ready 1", "ready 1"}));
}

TEST(Restart, AgainAndAgainCostsTenRingsASecond) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  xen.Add(2);
  xen.AddRing(2, 1, 1 << 20);
  a.AddPeer(2);
  uint64_t partner = 1;
  for (int ms = 0; ms < 1000; ++ms) {
    // As fast as it can: a full handshake, then another incarnation.
    for (int i = 0; i < 3; ++i) {
      const uint64_t heard = a.State(2) == ARGO_PEER_UNKNOWN ? 0 : a.Peer(2).incarnation;
      xen.Inject(1, 2, {ARGO_LINK_PORT, 2, 0}, ARGO_LINK_TYPE_GREETING,
                 AsBytes(Greeting(++partner, heard)));
      xen.Run();
    }
    xen.Advance(1);
  }
  EXPECT_GE(a.incarnations, 9u);
  EXPECT_LE(a.incarnations, 11u);
}

TEST(Restart, OfBothAtOnceSettles) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  FakeDomain& b = xen.Add(2);
  Connect(xen, a, b);
  for (int round = 0; round < 5; ++round) {
    argo_link_peer_gone(&a.link, 2, xen.now_ms);
    if (round % 2) xen.Advance(round);
    argo_link_peer_gone(&b.link, 1, xen.now_ms);
    xen.Advance(2500);
    ASSERT_TRUE(AreReady(a, b)) << round;
    EXPECT_EQ(a.Peer(2).count.lost, round + 1u);
    EXPECT_EQ(b.Peer(1).count.lost, round + 1u);
  }
}

TEST(Corruption, EndsTheSessionAndStartsAnother) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  FakeDomain& b = xen.Add(2);
  Connect(xen, a, b);
  xen.FindRing(1, 2)->header()->tx_ptr = 3;
  a.interrupt_pending = true;
  xen.Run();
  EXPECT_EQ(a.events, Events({"ready 2", "lost 2"}));
  EXPECT_EQ(a.Peer(2).count.drop_corrupt, 1u);
  xen.Advance(2000);
  EXPECT_TRUE(AreReady(a, b));
  EXPECT_EQ(b.events, Events({"ready 1", "lost 1", "ready 1"}));
}

// ---- partners ----

TEST(Partners, AreAddedAndRemoved) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1, 2);
  FakeDomain& b = xen.Add(2);
  xen.Add(3);
  EXPECT_EQ(argo_link_due_ms(&a.link), UINT64_MAX);
  EXPECT_EQ(a.AddPeer(ARGO_DOMID_SELF), -ARGO_EINVAL);
  EXPECT_EQ(a.AddPeer(ARGO_DOMID_ANY), -ARGO_EINVAL);
  EXPECT_EQ(a.AddPeer(2), 0);
  EXPECT_EQ(a.AddPeer(2), -ARGO_EEXIST);
  EXPECT_EQ(a.AddPeer(3), 0);
  EXPECT_EQ(a.AddPeer(4), -ARGO_ENOSPC);
  ASSERT_NE(xen.FindRing(1, 3), nullptr);
  EXPECT_EQ(argo_link_remove_peer(&a.link, 3), 0);
  EXPECT_EQ(xen.FindRing(1, 3), nullptr);
  EXPECT_EQ(argo_link_remove_peer(&a.link, 3), -ARGO_ENODEV);
  EXPECT_EQ(argo_link_peer(&a.link, 3), nullptr);
  b.AddPeer(1);
  xen.Run();
  ASSERT_TRUE(AreReady(a, b));
  Fill(a, 2);
  EXPECT_EQ(argo_link_remove_peer(&a.link, 2), 0);
  EXPECT_EQ(a.events, Events({"ready 2", "lost 2"}));
  EXPECT_EQ(a.packets.back()->status, -ARGO_ECONNRESET);
  EXPECT_EQ(xen.FindRing(1, 2), nullptr);
  EXPECT_EQ(a.Send(2, 1), -ARGO_ENODEV);
  EXPECT_EQ(a.AddPeer(2), 0);
  EXPECT_EQ(a.Peer(2).count.lost, 0u);
  xen.Advance(2000);
  EXPECT_TRUE(AreReady(a, b));
}

TEST(Partners, AreLetGoSilentlyByFini) {
  FakeXen xen;
  FakeDomain& a = xen.Add(1);
  FakeDomain& b = xen.Add(2);
  FakeDomain& c = xen.Add(3);
  Connect(xen, a, b);
  Connect(xen, a, c);
  Fill(a, 2);
  argo_link_fini(&a.link);
  EXPECT_EQ(a.events, Events({"ready 2", "ready 3"}));
  EXPECT_EQ(a.packets.back()->done, 1);
  EXPECT_EQ(a.packets.back()->status, -ARGO_ECONNRESET);
  EXPECT_EQ(xen.FindRing(1, 2), nullptr);
  EXPECT_EQ(xen.FindRing(1, 3), nullptr);
  EXPECT_EQ(argo_link_peer(&a.link, 2), nullptr);
  EXPECT_EQ(argo_link_peer(&a.link, 3), nullptr);
}

}  // namespace
}  // namespace argosy::argo
