// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
// File: backends/argo/core/link_test_util.h
//
// What the tests of the link share.
#ifndef ARGOSY_BACKENDS_ARGO_CORE_LINK_TEST_UTIL_H_
#define ARGOSY_BACKENDS_ARGO_CORE_LINK_TEST_UTIL_H_

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "backends/argo/core/fake_xen.h"
#include "gtest/gtest.h"

namespace argosy::argo {

using Events = std::vector<std::string>;

inline std::vector<uint8_t> Bytes(size_t count) { return std::vector<uint8_t>(count, 0x5A); }

inline argo_link_greeting Greeting(uint64_t incarnation, uint64_t heard) {
  argo_link_greeting greeting = {};
  greeting.version_min = greeting.version_max = ARGO_LINK_VERSION;
  greeting.max_payload = ARGO_LINK_MAX_PAYLOAD;
  greeting.incarnation = incarnation;
  greeting.heard = heard;
  return greeting;
}

inline std::vector<uint8_t> AsBytes(const argo_link_greeting& greeting) {
  std::vector<uint8_t> bytes(sizeof(greeting));
  std::memcpy(bytes.data(), &greeting, sizeof(greeting));
  return bytes;
}

inline bool AreReady(const FakeDomain& a, const FakeDomain& b) {
  return a.State(b.domid) == ARGO_PEER_READY && b.State(a.domid) == ARGO_PEER_READY;
}

inline void Connect(FakeXen& xen, FakeDomain& a, FakeDomain& b) {
  ASSERT_EQ(a.AddPeer(b.domid), 0);
  ASSERT_EQ(b.AddPeer(a.domid), 0);
  xen.Run();
  ASSERT_TRUE(AreReady(a, b));
}

// Sends packets with the tags 1000, 1001, ... until one had to wait.  Returns how many the ring
// took.
inline uint32_t Fill(FakeDomain& from, uint16_t dst, uint32_t size = 100) {
  uint32_t sent = 0;
  while (from.Send(dst, 1000 + sent, size) == 0) ++sent;
  EXPECT_EQ(from.State(dst), ARGO_PEER_BLOCKED);
  return sent;
}

}  // namespace argosy::argo

#endif  // ARGOSY_BACKENDS_ARGO_CORE_LINK_TEST_UTIL_H_
