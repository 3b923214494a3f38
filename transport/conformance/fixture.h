// SPDX-License-Identifier: Apache-2.0
// File: transport/conformance/fixture.h
//
// The suite: what every transport does alike, each case written once.  A case is a script at the near
// end; the far end is in its hand (far_end.h), whether that is a thread, a process or a machine.
//
//   TEST_P(ConnectionTest, HalfClose) {          // over STREAM and over SEQPACKET
//     ASSERT_OK_AND_ASSIGN(Pair pair, Connected());
//     ASSERT_OK(far().Shutdown(pair.far, SHUT_WR));
//     EXPECT_EQ(ReadSome(pair.near), "");
//   }
//
// A transport takes part in a file of a few lines:
//
//   INSTANTIATE_CONFORMANCE(Loopback, (Tested{"loopback:", &OpenTwoEnds}));
//
// What a carrier cannot do is a capability (transport.h), and its cases begin with NEEDS(name).
#ifndef ARGOSY_TRANSPORT_CONFORMANCE_FIXTURE_H_
#define ARGOSY_TRANSPORT_CONFORMANCE_FIXTURE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <tuple>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "transport/conformance/far_end.h"
#include "transport/conformance/pattern.h"
#include "transport/error.h"
#include "transport/transport.h"

namespace argosy::conformance {

// The two ends of one case.  What is declared last goes first.
struct Ends {
  std::shared_ptr<void> world;  // what they need (a directory, a daemon)
  std::unique_ptr<Transport> near;
  std::unique_ptr<FarEnd> far;
};

struct Tested {
  std::string column;  // in docs/behaviour.md
  std::function<absl::StatusOr<Ends>()> open;

  // Keeps the bytes of this struct out of the log.
  friend void PrintTo(const Tested& tested, std::ostream* out) { *out << tested.column; }
};

// Bytes that cases with "a lot" of data carry.  argosy-conformance makes it 1 GiB.
extern uint64_t a_lot;

// Raises this process's limit of descriptors to what it may have: cases with many connections take
// more than a login shell allows.
void RaiseDescriptorLimit();

class ConformanceTest : public testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;
  virtual const Tested& tested() const = 0;

  Transport& near() { return *ends_.near; }
  FarEnd& far() { return *ends_.far; }
  uint32_t near_cid() const { return near_cid_; }
  const Capabilities& capabilities() const { return capabilities_; }

  // The two ends of a connection.
  struct Pair {
    Socket near;
    FarSocket far;
  };
  enum class Opener { kNear, kFar };
  // A connection that this end, or the other, has opened.
  absl::StatusOr<Pair> Connected(SocketType type, Opener opener = Opener::kNear);
  // Connects from here, with patience (as the far end does): an emulated machine on a busy host may
  // answer after more than the 2 s that programs wait.
  absl::StatusOr<Socket> Connect(FarListener listener, SocketType type,
                                 const ConnectOptions& options = {});
  // A port at which nobody listened a moment ago, here or there.
  absl::StatusOr<uint32_t> FreePort();
  absl::StatusOr<uint32_t> FreeFarPort();

 private:
  Ends ends_;
  uint32_t near_cid_ = 0;
  Capabilities capabilities_;
};

// Cases that need no type of socket, or any.
class TransportTest : public ConformanceTest, public testing::WithParamInterface<Tested> {
 protected:
  const Tested& tested() const override { return GetParam(); }
};

// Cases over STREAM alone, SEQPACKET alone, datagrams.
class StreamTest : public TransportTest {
 protected:
  absl::StatusOr<Pair> Connected(Opener opener = Opener::kNear) {
    return ConformanceTest::Connected(SocketType::kStream, opener);
  }
};
class SeqpacketTest : public TransportTest {
 protected:
  void SetUp() override;
  absl::StatusOr<Pair> Connected(Opener opener = Opener::kNear) {
    return ConformanceTest::Connected(SocketType::kSeqpacket, opener);
  }
};
class DatagramTest : public TransportTest {
 protected:
  void SetUp() override;
};

// Cases over STREAM and over SEQPACKET.
class ConnectionTest : public ConformanceTest,
                       public testing::WithParamInterface<std::tuple<Tested, SocketType>> {
 protected:
  void SetUp() override;
  const Tested& tested() const override { return std::get<0>(GetParam()); }
  SocketType type() const { return std::get<1>(GetParam()); }
  absl::StatusOr<Pair> Connected(Opener opener = Opener::kNear) {
    return ConformanceTest::Connected(type(), opener);
  }
};

std::string NameOfType(const testing::TestParamInfo<std::tuple<Tested, SocketType>>& info);

#define INSTANTIATE_CONFORMANCE(name, tested)                                         \
  INSTANTIATE_TEST_SUITE_P(name, TransportTest, testing::Values(tested));             \
  INSTANTIATE_TEST_SUITE_P(name, StreamTest, testing::Values(tested));                \
  INSTANTIATE_TEST_SUITE_P(name, SeqpacketTest, testing::Values(tested));             \
  INSTANTIATE_TEST_SUITE_P(name, DatagramTest, testing::Values(tested));              \
  INSTANTIATE_TEST_SUITE_P(                                                           \
      name, ConnectionTest,                                                           \
      testing::Combine(testing::Values(tested),                                       \
                       testing::Values(SocketType::kStream, SocketType::kSeqpacket)), \
      NameOfType)

// Skips the case where the carrier lacks a capability.
#define NEEDS(capability)                                                      \
  if (!capabilities().capability) {                                            \
    RecordProperty("needs", #capability);                                      \
    GTEST_SKIP() << "this carrier has no " #capability " (docs/behaviour.md)"; \
  }                                                                            \
  static_assert(true, "")

// ---- what scripts are written with ----

// The status of either, for the macros below.
inline const absl::Status& StatusOf(const absl::Status& status) { return status; }
template <typename T>
const absl::Status& StatusOf(const absl::StatusOr<T>& result) {
  return result.status();
}

testing::AssertionResult HasErrno(const char* expression, const char* expected_expression,
                                  const absl::Status& status, int expected);
#define EXPECT_ERRNO(expression, expected) \
  EXPECT_PRED_FORMAT2(HasErrno, StatusOf(expression), expected)
#define EXPECT_OK(expression) EXPECT_ERRNO(expression, 0)
#define ASSERT_OK(expression) ASSERT_PRED_FORMAT2(HasErrno, StatusOf(expression), 0)
#define ASSERT_OK_AND_ASSIGN(declaration, expression) \
  ASSERT_OK_AND_ASSIGN_(declaration, expression, CONFORMANCE_NAME_(result_, __LINE__))
#define CONFORMANCE_NAME_(a, b) CONFORMANCE_JOIN_(a, b)
#define CONFORMANCE_JOIN_(a, b) a##b
#define ASSERT_OK_AND_ASSIGN_(declaration, expression, result) \
  auto result = expression;                                    \
  ASSERT_OK(result);                                           \
  declaration = *std::move(result)

// When a case that has waited so long has failed.
inline absl::Time Patience() { return absl::Now() + kPatience; }

// Sends all of it; false with a test failure if it cannot.
bool SendAll(const Socket& socket, absl::string_view text);
// One read, as text: "" at end-of-file; "errno N" if it failed.
std::string ReadSome(const Socket& socket);
// Closes the descriptor, as a program does that does not ask how it ended.
void CloseSocket(Socket socket);
// What came of `events` within `wait`: 0 if none did.
short PollFor(int fd, short events, absl::Duration wait = kPatience);

}  // namespace argosy::conformance

#endif  // ARGOSY_TRANSPORT_CONFORMANCE_FIXTURE_H_
