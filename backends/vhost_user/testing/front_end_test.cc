// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/testing/front_end.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "backends/vhost_user/testing/echo_bed.h"
#include "gtest/gtest.h"
#include "transport/error.h"
#include "transport/testing/listen_unix.h"
#include "transport/testing/temporary_directory.h"
#include "transport/unix_socket.h"

namespace argosy::vhost_user {
namespace {

TEST(GuestMemoryTest, AllocatesApartAndAligned) {
  auto memory = *GuestMemory::Create({{0x1000, 4096}, {0x100000, 8192}});
  ASSERT_EQ(memory->regions().size(), 2u);
  EXPECT_EQ(memory->regions()[1].file_offset, 4096u);
  const uint64_t one = memory->Allocate(10, 1);
  const uint64_t two = memory->Allocate(10, 64);
  EXPECT_EQ(one, 0x1000u);
  EXPECT_EQ(two, 0x1040u);
  EXPECT_EQ(memory->Allocate(8192, 16), 0x100000u);
  EXPECT_EQ(memory->Allocate(8, 8), 0x1050u);
  memory->Write(two, "text");
  EXPECT_EQ(memory->Read(two, 4), "text");
  EXPECT_EQ(memory->VmmAddress(two), memory->regions()[0].vmm_address + 0x40);
}

class DriverQueueTest : public testing::Test {
 protected:
  std::unique_ptr<GuestMemory> memory_ = *GuestMemory::Create({{0x1000, 1 << 20}});
};

TEST_F(DriverQueueTest, RunsOutOfDescriptors) {
  auto queue = *DriverQueue::Create(memory_.get(), 0, {.size = 4});
  EXPECT_FALSE(queue->Add(std::vector<Buffer>(5, {0x1000, 1})));
  EXPECT_TRUE(queue->Add({{0x1000, 1}, {0x1000, 1}, {0x1000, 1}}));
  EXPECT_FALSE(queue->Add({{0x1000, 1}, {0x1000, 1}}));
  EXPECT_TRUE(queue->Add({{0x1000, 1}}));
  EXPECT_FALSE(queue->Add({{0x1000, 1}}));
  EXPECT_EQ(queue->in_flight(), 2u);
}

TEST_F(DriverQueueTest, ADeviceThatGivesBackWhatItDoesNotHave) {
  for (const uint32_t id : {1u, 4u, ~0u}) {
    auto queue = *DriverQueue::Create(memory_.get(), 0, {.size = 4});
    ASSERT_EQ(queue->Add({{0x1000, 1}}), 0);
    Store32(queue->used() + kRingEntries, id);
    Store16(queue->used() + kRingIndex, 1);
    EXPECT_EQ(ErrnoOf(queue->Reap().status()), EPROTO);
  }
}

TEST_F(DriverQueueTest, WaitingEndsAtItsDeadline) {
  auto queue = *DriverQueue::Create(memory_.get(), 0, {.size = 4});
  EXPECT_EQ(ErrnoOf(queue->WaitUsed(absl::Now() + absl::Milliseconds(1))), ETIMEDOUT);
  int pumped = 0;
  EXPECT_EQ(ErrnoOf(queue->WaitUsed(absl::InfinitePast(), [&pumped] { ++pumped; })), ETIMEDOUT);
  EXPECT_EQ(pumped, 1);
}

TEST(FrontEndTest, ABackEndThatDoesNotAnswer) {
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  UniqueFd silent(pair[0]);
  FrontEnd vmm(UniqueFd(pair[1]), {.timeout = absl::Milliseconds(1)});
  EXPECT_EQ(ErrnoOf(vmm.Negotiate()), ETIMEDOUT);
  EXPECT_EQ(ErrnoOf(vmm.WaitHangUp()), ETIMEDOUT);
}

TEST(FrontEndTest, ABackEndThatHangsUp) {
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  close(pair[0]);
  FrontEnd vmm(UniqueFd(pair[1]), {});
  EXPECT_TRUE(vmm.WaitHangUp().ok());
  EXPECT_EQ(ErrnoOf(vmm.Query(Request::kGetFeatures).status()), EPIPE);
}

TEST(FrontEndTest, ABackEndThatTalksNonsense) {
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  FrontEnd nonsense(UniqueFd(pair[0]), {});
  FrontEnd vmm(UniqueFd(pair[1]), {});
  // A request where a reply should be.
  ASSERT_TRUE(nonsense.Send(Request::kGetFeatures, FrontEnd::BytesOf(uint64_t{1})).ok());
  EXPECT_EQ(ErrnoOf(vmm.Query(Request::kGetFeatures).status()), EPROTO);
  // A reply to something else.
  ASSERT_TRUE(
      nonsense
          .Send(Request::kGetFeatures, FrontEnd::BytesOf(uint64_t{1}), {}, kVersion | kReplyFlag)
          .ok());
  EXPECT_EQ(ErrnoOf(vmm.Query(Request::kGetQueueNum).status()), EPROTO);
}

// What the device of the Rust project negotiates: MQ and CONFIG, no INDIRECT.
TEST(FrontEndTest, LessThanEverything) {
  EchoBed bed({.features = kFeatureVersion1 | kFeatureEventIndex | kFeatureProtocolFeatures,
               .protocol_features = kProtocolMq | kProtocolConfig});
  ASSERT_TRUE(bed.vmm().Negotiate().ok());
  EXPECT_EQ(bed.vmm().protocol_features(), kProtocolMq | kProtocolConfig);
  const DriverQueue::Options options = bed.vmm().QueueOptions(32);
  EXPECT_TRUE(options.event_index);
  EXPECT_EQ(options.indirect_entries, 0u);
}

// The other side on another thread, as in a daemon: no pump, interrupts and kicks by eventfd.
TEST(FrontEndTest, ADaemonOnAnotherThread) {
  TemporaryDirectory directory;
  const std::string path = directory.path() + "/vm.sock";
  const UniqueFd listener = ListenUnix(path, SOCK_STREAM);
  absl::Status ended;
  std::thread daemon([&] {
    EchoDevice device;
    Server server(UniqueFd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC)), &device);
    for (;;) {
      std::vector<pollfd> wanted = {{server.descriptor(), POLLIN, 0}};
      for (uint32_t i = 0; i < EchoDevice::kQueues; ++i) {
        if (server.running(i)) wanted.push_back({server.kick_descriptor(i), POLLIN, 0});
      }
      poll(wanted.data(), wanted.size(), -1);
      for (size_t i = 1; i < wanted.size(); ++i) {
        uint64_t kicks;
        if (wanted[i].revents != 0) (void)!read(wanted[i].fd, &kicks, sizeof(kicks));
      }
      absl::StatusOr<bool> more = server.OnReadable();
      if (!more.ok()) {
        ended = more.status();
        return;
      }
      device.Serve(server);
    }
  });
  auto memory = *GuestMemory::Create({{0x1000, 1 << 20}, {0x40000000, 1 << 20}});
  {
    absl::StatusOr<UniqueFd> socket = ConnectUnix(path, SOCK_STREAM);
    ASSERT_TRUE(socket.ok()) << socket.status();
    FrontEnd vmm(*std::move(socket), {});
    ASSERT_TRUE(vmm.Negotiate().ok());
    ASSERT_TRUE(vmm.ShareMemory(*memory).ok());
    auto queue = *DriverQueue::Create(memory.get(), 1, vmm.QueueOptions(16));
    ASSERT_TRUE(vmm.Start(*queue).ok());
    const uint64_t data = memory->Allocate(64, 1);
    memory->Write(data, "ping");
    int sent = 0, received = 0;
    while (received < 5000) {
      while (sent < 5000 && queue->Add({{data, 4}, {data + 32, 4, true}})) ++sent;
      queue->Publish();
      ASSERT_TRUE(queue->WaitUsed(vmm.Deadline()).ok());
      for (;;) {
        absl::StatusOr<std::optional<DriverQueue::Used>> used = queue->Reap();
        ASSERT_TRUE(used.ok()) << used.status();
        if (!used->has_value()) break;
        ASSERT_EQ((*used)->length, 4u);
        ++received;
      }
    }
    EXPECT_EQ(memory->Read(data + 32, 4), "ping");
    absl::StatusOr<uint16_t> base = vmm.Stop(*queue);
    ASSERT_TRUE(base.ok()) << base.status();
    EXPECT_EQ(*base, 5000);
  }
  daemon.join();
  EXPECT_EQ(ErrnoOf(ended), ECONNRESET) << ended;
}

}  // namespace
}  // namespace argosy::vhost_user
