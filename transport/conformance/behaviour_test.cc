// SPDX-License-Identifier: Apache-2.0
#include "transport/conformance/behaviour.h"

#include "gtest/gtest.h"

namespace argosy::conformance {
namespace {

TEST(RowOf, TitleAndType) {
  EXPECT_EQ(RowOf("Sim/ConnectionTest", "HalfCloseHere/stream"), Row("half close here", "STREAM"));
  EXPECT_EQ(RowOf("Sim/ConnectionTest", "HalfCloseHere/seqpacket"),
            Row("half close here", "SEQPACKET"));
  EXPECT_EQ(RowOf("Sim/SeqpacketTest", "MessageTooLarge/0"), Row("message too large", "SEQPACKET"));
  EXPECT_EQ(RowOf("Sim/ConnectionTest", "UnknownCid/stream"), Row("unknown CID", "STREAM"));
  EXPECT_EQ(RowOf("Sim/TransportTest", "ChosenPortsDiffer/0"), Row("chosen ports differ", "any"));
}

constexpr char kTables[] = R"(
| behaviour | socket | a: | b: |
|---|---|---|---|
| one | STREAM | yes | datagram |
| two | any | seqpacket | yes |

Words.

| behaviour | socket | b: |
|---|---|---|
| three | DGRAM | yes |
)";

TEST(ParseColumn, FindsItInEveryTable) {
  const std::map<Row, std::string> a = {{{"one", "STREAM"}, "yes"}, {{"two", "any"}, "seqpacket"}};
  EXPECT_EQ(ParseColumn(kTables, "a:"), a);
  const std::map<Row, std::string> b = {
      {{"one", "STREAM"}, "datagram"}, {{"two", "any"}, "yes"}, {{"three", "DGRAM"}, "yes"}};
  EXPECT_EQ(ParseColumn(kTables, "b:"), b);
  EXPECT_TRUE(ParseColumn(kTables, "c:").empty());
  EXPECT_TRUE(ParseColumn("", "a:").empty());
}

}  // namespace
}  // namespace argosy::conformance
