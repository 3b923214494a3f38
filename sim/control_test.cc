// SPDX-License-Identifier: Apache-2.0
#include "sim/control.h"

#include <cstring>
#include <vector>

#include "gtest/gtest.h"
#include "transport/packet/wire.h"

namespace argosy::sim::control {
namespace {

std::vector<uint8_t> Bytes(const Request& request) {
  std::vector<uint8_t> bytes(sizeof(request));
  std::memcpy(bytes.data(), &request, sizeof(request));
  return bytes;
}

Request Connect() {
  Request request;
  request.kind = Kind::kConnect;
  request.id = 5;
  request.cid = 3;
  request.port = 1234;
  request.type = VSOCK_TYPE_STREAM;
  return request;
}

bool Parses(const std::vector<uint8_t>& bytes) {
  Request request;
  absl::string_view why;
  const bool ok = ParseRequest(bytes, &request, &why);
  EXPECT_EQ(ok, why.empty());
  return ok;
}

TEST(ParseRequest, KeepsWhatWasSent) {
  Request request;
  absl::string_view why;
  ASSERT_TRUE(ParseRequest(Bytes(Connect()), &request, &why));
  EXPECT_EQ(request.kind, Kind::kConnect);
  EXPECT_EQ(request.id, 5u);
  EXPECT_EQ(request.cid, 3u);
  EXPECT_EQ(request.port, 1234u);
}

TEST(ParseRequest, RefusesEverySizeButItsOwn) {
  std::vector<uint8_t> bytes = Bytes(Connect());
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(Parses({bytes.begin(), bytes.begin() + size})) << size;
  }
  bytes.push_back(0);
  EXPECT_FALSE(Parses(bytes));
}

TEST(ParseRequest, RefusesUnknownKindsAndVerbs) {
  for (uint32_t number : {0u, 9u, 100u, 101u, 0xFFFFFFFFu}) {
    std::vector<uint8_t> bytes = Bytes(Connect());
    std::memcpy(bytes.data() + offsetof(Request, kind), &number, sizeof(number));
    EXPECT_FALSE(Parses(bytes)) << number;
    bytes = Bytes(Connect());
    std::memcpy(bytes.data() + offsetof(Request, verb), &number, sizeof(number));
    EXPECT_EQ(Parses(bytes), false) << number;
  }
}

TEST(ParseRequest, RefusesANameWithoutEnd) {
  Request request = Connect();
  std::memset(request.name, 'x', sizeof(request.name));
  EXPECT_FALSE(Parses(Bytes(request)));
  request.name[kNameSize - 1] = '\0';
  EXPECT_TRUE(Parses(Bytes(request)));
}

TEST(ParseRequest, RefusesUnknownTypesAndForeignIds) {
  Request request = Connect();
  request.type = VSOCK_TYPE_DGRAM;
  EXPECT_FALSE(Parses(Bytes(request)));
  request = Connect();
  request.id = kDaemonIds;
  EXPECT_FALSE(Parses(Bytes(request)));
  request.kind = Kind::kFinish;  // accepted sockets have such ids
  EXPECT_TRUE(Parses(Bytes(request)));
}

TEST(Text, IsCutAndTerminated) {
  char small[4];
  SetText(small, "abcdef");
  EXPECT_EQ(GetText(small), "abc");
  std::memset(small, 'x', sizeof(small));
  EXPECT_EQ(GetText(small), "xxxx");
}

}  // namespace
}  // namespace argosy::sim::control
