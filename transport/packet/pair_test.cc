// SPDX-License-Identifier: Apache-2.0
// Two endpoints, whole connections: what programs see.
#include "transport/packet/pair.h"

#include <string>

#include "gtest/gtest.h"
#include "transport/packet/test_users.h"

namespace argosy::packet {
namespace {

constexpr uint32_t kPort = 1234;

class PairTest : public testing::TestWithParam<uint16_t> {
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
  EXPECT_TRUE(client.connection->all_taken() || client.connection->SendCapacity() > 0);
}

}  // namespace
}  // namespace argosy::packet
