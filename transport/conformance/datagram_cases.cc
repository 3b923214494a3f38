// SPDX-License-Identifier: Apache-2.0
// Datagrams.
#include <poll.h>

#include <cerrno>
#include <string>
#include <vector>

#include "transport/conformance/fixture.h"

namespace argosy::conformance {
namespace {

absl::Span<const uint8_t> Bytes(absl::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// What a datagram socket has for us.
absl::StatusOr<FarDatagram> Receive(DatagramSocket& socket) {
  for (;;) {
    std::vector<uint8_t> buffer(2048);
    const auto got = socket.ReceiveFrom(absl::MakeSpan(buffer));
    if (got.ok()) {
      buffer.resize(std::min(got->size, buffer.size()));
      return FarDatagram{got->size, got->from, buffer == Pattern{buffer.size()}.Bytes(),
                         std::string(buffer.begin(), buffer.end())};
    }
    if (ErrnoOf(got.status()) != EAGAIN || PollFor(socket.fd(), POLLIN) == 0) return got.status();
  }
}

TEST_P(TransportTest, DatagramsAreThereOrRefused) {
  EXPECT_ERRNO(near().BindDatagram(kPortAny), capabilities().datagram ? 0 : ESOCKTNOSUPPORT);
}

TEST_P(DatagramTest, AreAnswered) {
  ASSERT_OK_AND_ASSIGN(const FarDatagramSocket there, far().BindDatagram());
  ASSERT_OK_AND_ASSIGN(const auto here, near().BindDatagram(kPortAny));
  ASSERT_OK(here->SendTo(Bytes("ping"), {far().cid(), there.port}));
  ASSERT_OK_AND_ASSIGN(const FarDatagram ping, far().ReceiveFrom(there));
  EXPECT_EQ(ping.text, "ping");
  EXPECT_EQ(ping.from.port, here->local().port);
  ASSERT_OK(far().SendTo(there, "pong", ping.from));
  ASSERT_OK_AND_ASSIGN(const FarDatagram pong, Receive(*here));
  EXPECT_EQ(pong.text, "pong");
  EXPECT_EQ(pong.from.port, there.port);
}

TEST_P(DatagramTest, ReceivingNeverBlocks) {
  ASSERT_OK_AND_ASSIGN(const auto here, near().BindDatagram(kPortAny));
  uint8_t buffer[8];
  EXPECT_ERRNO(here->ReceiveFrom(absl::MakeSpan(buffer)), EAGAIN);
}

TEST_P(DatagramTest, PortIsTaken) {
  ASSERT_OK_AND_ASSIGN(const auto here, near().BindDatagram(kPortAny));
  EXPECT_ERRNO(near().BindDatagram(here->local().port), EADDRINUSE);
}

TEST_P(DatagramTest, LargestArrives) {
  ASSERT_OK_AND_ASSIGN(const FarDatagramSocket there, far().BindDatagram());
  ASSERT_OK_AND_ASSIGN(const auto here, near().BindDatagram(kPortAny));
  const size_t max = capabilities().max_datagram;
  ASSERT_OK(here->SendTo(Pattern{max}.Bytes(), {far().cid(), there.port}));
  ASSERT_OK_AND_ASSIGN(const FarDatagram got, far().ReceiveFrom(there, max + 1));
  EXPECT_EQ(got.size, max);
  EXPECT_TRUE(got.matches);
}

TEST_P(DatagramTest, ZeroLengthArrives) {
  ASSERT_OK_AND_ASSIGN(const FarDatagramSocket there, far().BindDatagram());
  ASSERT_OK_AND_ASSIGN(const auto here, near().BindDatagram(kPortAny));
  ASSERT_OK(here->SendTo({}, {far().cid(), there.port}));
  ASSERT_OK_AND_ASSIGN(const FarDatagram got, far().ReceiveFrom(there));
  EXPECT_EQ(got.size, 0u);
  EXPECT_EQ(got.from.port, here->local().port);
}

// Unreliable: a receiver that does not read loses datagrams, and its sender does not wait.
TEST_P(DatagramTest, OverflowIsDropped) {
  constexpr size_t kSize = 1000;
  ASSERT_OK_AND_ASSIGN(const FarDatagramSocket there, far().BindDatagram());
  ASSERT_OK_AND_ASSIGN(const auto here, near().BindDatagram(kPortAny));
  for (int i = 0; i < 5000; ++i) {
    const absl::Status sent = here->SendTo(Pattern{kSize}.Bytes(), {far().cid(), there.port});
    // EAGAIN: the way there is full.
    ASSERT_TRUE(sent.ok() || ErrnoOf(sent) == EAGAIN) << sent;
  }
  ASSERT_OK_AND_ASSIGN(const FarDatagram got, far().ReceiveFrom(there));
  EXPECT_EQ(got.size, kSize);
  EXPECT_TRUE(got.matches);
}

TEST_P(DatagramTest, OneByteMoreIsRefused) {
  ASSERT_OK_AND_ASSIGN(const FarDatagramSocket there, far().BindDatagram());
  ASSERT_OK_AND_ASSIGN(const auto here, near().BindDatagram(kPortAny));
  EXPECT_ERRNO(
      here->SendTo(Pattern{capabilities().max_datagram + 1}.Bytes(), {far().cid(), there.port}),
      EMSGSIZE);
}

TEST_P(DatagramTest, ShortBufferCutsAndTellsTheSize) {
  ASSERT_OK_AND_ASSIGN(const FarDatagramSocket there, far().BindDatagram());
  ASSERT_OK_AND_ASSIGN(const auto here, near().BindDatagram(kPortAny));
  ASSERT_OK(here->SendTo(Pattern{1000}.Bytes(), {far().cid(), there.port}));
  ASSERT_OK_AND_ASSIGN(const FarDatagram got, far().ReceiveFrom(there, 10));
  EXPECT_EQ(got.size, 1000u);
  EXPECT_EQ(got.text.size(), 10u);
  EXPECT_TRUE(got.matches);
}

TEST_P(DatagramTest, ToNobodyIsDropped) {
  ASSERT_OK_AND_ASSIGN(const auto here, near().BindDatagram(kPortAny));
  ASSERT_OK_AND_ASSIGN(const FarDatagramSocket there, far().BindDatagram());
  ASSERT_OK(far().Close(there));
  EXPECT_OK(here->SendTo(Bytes("x"), {far().cid(), there.port}));
}

}  // namespace
}  // namespace argosy::conformance
