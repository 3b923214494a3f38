// SPDX-License-Identifier: Apache-2.0
// Many connections at once.
#include <string>
#include <vector>

#include "transport/conformance/fixture.h"

namespace argosy::conformance {
namespace {

TEST_P(ConnectionTest, AThousandConnectionsAtOnce) {
  constexpr int kConnections = 1000;
  ASSERT_OK_AND_ASSIGN(const FarListener listener, far().Listen(type()));
  std::vector<Socket> sockets;
  std::vector<FarSocket> accepted;
  for (int i = 0; i < kConnections; ++i) {
    ASSERT_OK_AND_ASSIGN(Socket socket, Connect(listener, type()));
    sockets.push_back(std::move(socket));
    ASSERT_OK_AND_ASSIGN(const FarSocket far_socket, far().Accept(listener));
    accepted.push_back(far_socket);
  }
  for (int i = 0; i < kConnections; ++i) ASSERT_TRUE(SendAll(sockets[i], std::to_string(i)));
  for (int i = kConnections - 1; i >= 0; --i) {
    ASSERT_EQ(far().ReadSome(accepted[i]), std::to_string(i));
  }
}

}  // namespace
}  // namespace argosy::conformance
