// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "transport/packet/link.h"

namespace argosy::packet {
namespace {

Header Sample() {
  Header header;
  header.src_cid = 0x0807060504030201;
  header.dst_cid = 0x100f0e0d0c0b0a09;
  header.src_port = 0x14131211;
  header.dst_port = 0x18171615;
  header.len = 5;
  header.type = 0x1e1d;
  header.op = 0x201f;
  header.flags = 0x24232221;
  header.buf_alloc = 0x28272625;
  header.fwd_cnt = 0x2c2b2a29;
  return header;
}

TEST(WireTest, FieldsStandWhereTheStandardPutsThem) {
  const auto bytes = SerializeHeader(Sample());
  for (size_t i = 0; i < bytes.size(); ++i) {
    const uint8_t want = i < 24 || i >= 28 ? i + 1 : i == 24 ? 5 : 0;
    EXPECT_EQ(bytes[i], want) << i;
  }
}

TEST(WireTest, AHeaderComesBack) {
  const auto bytes = SerializeHeader(Sample());
  Header header;
  ASSERT_TRUE(ParseHeader(bytes, VSOCK_HEADER_SIZE + 5, &header));
  EXPECT_EQ(SerializeHeader(header), bytes);
  EXPECT_EQ(header.src_cid, Sample().src_cid);
  EXPECT_EQ(header.op, Sample().op);
}

TEST(WireTest, AWrongLengthIsRefused) {
  const auto bytes = SerializeHeader(Sample());
  Header header;
  EXPECT_FALSE(ParseHeader(bytes, VSOCK_HEADER_SIZE + 4, &header));
  EXPECT_FALSE(ParseHeader(bytes, VSOCK_HEADER_SIZE + 6, &header));
  EXPECT_FALSE(ParseHeader(bytes, 0, &header));
  EXPECT_FALSE(ParseHeader(absl::MakeConstSpan(bytes).first(43), VSOCK_HEADER_SIZE + 5, &header));
}

TEST(WireTest, TheLargestPayloadIsTheLargest) {
  Header header = Sample();
  header.len = VSOCK_MAX_PAYLOAD;
  EXPECT_TRUE(ParseHeader(SerializeHeader(header), VSOCK_HEADER_SIZE + VSOCK_MAX_PAYLOAD, &header));
  header.len = VSOCK_MAX_PAYLOAD + 1;
  EXPECT_FALSE(
      ParseHeader(SerializeHeader(header), VSOCK_HEADER_SIZE + VSOCK_MAX_PAYLOAD + 1, &header));
}

TEST(WireTest, APayloadOfTwoPiecesSkipsAndEnds) {
  const std::vector<uint8_t> a = {1, 2, 3}, b = {4, 5};
  const Payload payload(absl::MakeConstSpan(a), absl::MakeConstSpan(b));
  for (size_t n = 0; n <= 5; ++n) {
    std::vector<uint8_t> bytes(5);
    payload.Prefix(n).CopyTo(bytes.data());
    payload.Skip(n).CopyTo(bytes.data() + n);
    EXPECT_THAT(bytes, testing::ElementsAre(1, 2, 3, 4, 5)) << n;
    EXPECT_EQ(payload.Prefix(n).size(), n);
    EXPECT_EQ(payload.Skip(n).size(), 5 - n);
  }
}

}  // namespace
}  // namespace argosy::packet
