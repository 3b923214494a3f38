// SPDX-License-Identifier: Apache-2.0
// Two endpoints, whole connections: what programs see.
#include "transport/packet/pair.h"

#include <string>

#include "gtest/gtest.h"
#include "transport/packet/test_users.h"

namespace argosy::packet {
namespace {

constexpr uint32_t kPort = 1234;

class PairTest : public testing::Test {
 protected:
  PairTest() : pair({.cid = 3}, {.cid = 4}) { pair.Advance(absl::Seconds(1)); }

  void Connect(uint16_t type) {
    ASSERT_TRUE(pair.b().Listen(kPort, type, 8, &listener).ok());
    auto made = pair.a().Connect(kPortAny, {4, kPort}, type, kConnectTimeout, &client);
    ASSERT_TRUE(made.ok()) << made.status();
    pair.Pump();
    ASSERT_EQ(client.connected, 1);
    ASSERT_EQ(listener.users.size(), 1u);
    pair.b().Accepted(*server().connection);
  }
  TestUser& server() { return listener.last(); }

  // Sends all of it, as far as the other side takes it.
  size_t SendAll(TestUser& from, const std::string& text) {
    size_t sent = 0;
    while (sent < text.size()) {
      const size_t n = std::min(from.connection->SendCapacity(), text.size() - sent);
      if (n == 0 && pair.Pump() == 0) break;
      from.connection->Send(Bytes(text.substr(sent, n)));
      sent += n;
    }
    pair.Pump();
    return sent;
  }

  Pair pair;
  TestListener listener;
  TestUser client;
};

TEST_F(PairTest, BytesGoBothWaysAndBothSidesEndClean) {
  Connect(VSOCK_TYPE_STREAM);
  client.connection->Send(Bytes("hello"));
  server().connection->Send(Bytes("welcome"));
  pair.Pump();
  EXPECT_EQ(server().received, "hello");
  EXPECT_EQ(client.received, "welcome");
  client.connection->FinishSending();
  pair.Pump();
  EXPECT_EQ(server().finished, 1);
  EXPECT_EQ(server().end, std::nullopt);
  server().connection->Send(Bytes("!"));
  server().connection->FinishSending();
  pair.Pump();
  EXPECT_EQ(client.received, "welcome!");
  EXPECT_EQ(client.finished, 1);
  EXPECT_EQ(client.end, End::kClean);
  EXPECT_EQ(server().end, End::kClean);
  EXPECT_EQ(pair.a().connections(), 0u);
  EXPECT_EQ(pair.b().connections(), 0u);
}

TEST_F(PairTest, ASlowReaderHoldsTheSenderAndLosesNothing) {
  Connect(VSOCK_TYPE_STREAM);
  std::string text(1000000, '\0');
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 7 + i / 251);
  server().appetite = 0;
  const size_t sent = SendAll(client, text);
  EXPECT_EQ(sent, size_t{kDefaultBufAlloc});
  EXPECT_EQ(server().connection->buffered(), sent);
  server().appetite = kNoLimit;
  server().connection->Drain();
  EXPECT_EQ(SendAll(client, text.substr(sent)), text.size() - sent);
  EXPECT_EQ(server().received, text);
}

TEST_F(PairTest, ManySmallPacketsToASlowReaderDoNotStick) {
  Connect(VSOCK_TYPE_STREAM);
  server().appetite = 0;
  std::string text;
  const auto push = [&] {
    while (client.connection->SendCapacity() > 0) {
      const std::string byte(1, static_cast<char>(text.size() * 13));
      client.connection->Send(Bytes(byte));
      text += byte;
      pair.Pump();
    }
  };
  push();
  EXPECT_EQ(text.size(), size_t{kMaxPacketsInFlight});
  client.on_can_send = [&](Connection&) { push(); };
  for (int i = 0; i < 1000; ++i) {
    server().appetite = 7;
    server().connection->Drain();
    pair.Pump();
  }
  EXPECT_EQ(server().received.size(), 7000u);
  EXPECT_EQ(server().received, text.substr(0, 7000));
}

TEST_F(PairTest, ZeroLengthMessagesToASlowReaderDoNotStick) {
  Connect(VSOCK_TYPE_SEQPACKET);
  server().appetite = 0;
  size_t sent = 0;
  const auto push = [&] {
    for (; client.connection->CanSendMessage(0) && sent < 5000; ++sent) {
      client.connection->SendMessage(Bytes(""), false);
    }
  };
  client.on_can_send = [&](Connection&) { push(); };
  push();
  pair.Pump();
  EXPECT_EQ(sent, size_t{kMaxPacketsInFlight});
  while (server().messages.size() < 5000) {
    server().appetite = 3;
    server().connection->Drain();
    ASSERT_GT(pair.Pump(), 0u);
    ASSERT_LE(sent - server().messages.size(), size_t{kMaxPacketsInFlight});
  }
}

TEST_F(PairTest, TheLargestMessageWithTheSmallestPackets) {
  Connect(VSOCK_TYPE_SEQPACKET);
  pair.set_max_payload(100);
  const std::string message(client.connection->MaxMessage(), 'm');
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(client.connection->CanSendMessage(message.size())) << i;
    client.connection->SendMessage(Bytes(message), true);
    pair.Pump();
  }
  ASSERT_EQ(server().messages.size(), 3u);
  EXPECT_EQ(server().messages[2], message);
}

TEST_F(PairTest, TheProgramClosesWhileThePeerStillReads) {
  Connect(VSOCK_TYPE_STREAM);
  server().appetite = 0;
  client.connection->Send(Bytes("last words"));
  client.connection->FinishSending();
  client.connection->StopReading();
  pair.Pump();
  EXPECT_EQ(client.end, std::nullopt);
  server().appetite = kNoLimit;
  server().connection->Drain();
  pair.Pump();
  EXPECT_EQ(server().received, "last words");
  EXPECT_EQ(server().finished, 1);
  EXPECT_EQ(server().end, End::kClean);
  EXPECT_EQ(client.end, End::kClean);
}

TEST_F(PairTest, DataThatThePeersProgramNeverTookIsAReset) {
  Connect(VSOCK_TYPE_STREAM);
  server().appetite = 3;
  client.connection->Send(Bytes("0123456789"));
  client.connection->FinishSending();
  pair.Pump();
  // The server's program dies with seven bytes unread.
  server().connection->FinishSending();
  server().connection->StopReading();
  pair.Pump();
  EXPECT_EQ(client.end, End::kReset);
}

TEST_F(PairTest, ConnectingToItself) {
  ASSERT_TRUE(pair.a().Listen(kPort, VSOCK_TYPE_STREAM, 8, &listener).ok());
  auto made =
      pair.a().Connect(kPortAny, {kCidLocal, kPort}, VSOCK_TYPE_STREAM, kConnectTimeout, &client);
  ASSERT_TRUE(made.ok());
  pair.Pump();
  ASSERT_EQ(client.connected, 1);
  client.connection->Send(Bytes("to myself"));
  pair.Pump();
  EXPECT_EQ(server().received, "to myself");
  EXPECT_EQ(server().connection->peer(), client.connection->local());
  client.connection->FinishSending();
  pair.Pump();
  server().connection->FinishSending();
  pair.Pump();
  EXPECT_EQ(client.end, End::kClean);
  EXPECT_EQ(server().end, End::kClean);
}

TEST_F(PairTest, NobodyListens) {
  ASSERT_TRUE(
      pair.a().Connect(kPortAny, {4, kPort}, VSOCK_TYPE_STREAM, kConnectTimeout, &client).ok());
  pair.Pump();
  EXPECT_EQ(client.end, End::kRefused);
}

TEST_F(PairTest, ABlockedDirectionHoldsAndContinues) {
  Connect(VSOCK_TYPE_STREAM);
  pair.Block(0, true);
  EXPECT_EQ(client.connection->SendCapacity(), 0u);
  client.connection->FinishSending();
  EXPECT_EQ(pair.Pump(), 0u);
  pair.Block(0, false);
  pair.Pump();
  EXPECT_EQ(server().finished, 1);
}

TEST_F(PairTest, ASessionThatEndsLosesItsConnectionsAndTheNextWorks) {
  Connect(VSOCK_TYPE_STREAM);
  pair.ResetSession(/*up=*/false);
  EXPECT_EQ(client.end, End::kCarrierLost);
  EXPECT_EQ(server().end, End::kCarrierLost);
  TestUser again;
  ASSERT_TRUE(
      pair.a().Connect(kPortAny, {4, kPort}, VSOCK_TYPE_STREAM, kConnectTimeout, &again).ok());
  pair.Pump();
  EXPECT_EQ(again.connected, 0);
  pair.ResetSession(/*up=*/true);
  EXPECT_EQ(again.end, End::kCarrierLost);
  TestUser third;
  ASSERT_TRUE(
      pair.a().Connect(kPortAny, {4, kPort}, VSOCK_TYPE_STREAM, kConnectTimeout, &third).ok());
  pair.Pump();
  EXPECT_EQ(third.connected, 1);
}

}  // namespace
}  // namespace argosy::packet
