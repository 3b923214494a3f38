// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/server.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backends/vhost_user/testing/driver_queue.h"
#include "backends/vhost_user/testing/echo_bed.h"
#include "backends/vhost_user/testing/echo_device.h"
#include "backends/vhost_user/testing/front_end.h"
#include "backends/vhost_user/testing/guest_memory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "transport/error.h"

namespace argosy::vhost_user {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint64_t kMemory = 0x100000;
constexpr uint32_t kSize = 64;

class ServerTest : public testing::Test {
 protected:
  ServerTest() { Make({}); }

  void Make(FrontEnd::Options options) {
    bed_ = std::make_unique<EchoBed>(std::move(options));
    memory_ = *GuestMemory::Create({{kMemory, 1 << 20}});
  }
  FrontEnd& vmm() { return bed_->vmm(); }
  std::vector<std::string> Events() { return bed_->device().TakeEvents(); }

  // Up to two rings that run, as QEMU has them.
  void StartAll() {
    ASSERT_TRUE(vmm().Negotiate().ok());
    ASSERT_TRUE(vmm().ShareMemory(*memory_).ok());
    for (uint32_t i = 0; i < 2; ++i) {
      queues_[i] = *DriverQueue::Create(memory_.get(), i, vmm().QueueOptions(kSize));
      absl::Status status = vmm().Start(*queues_[i]);
      ASSERT_TRUE(status.ok()) << status;
    }
    EXPECT_THAT(Events(), ElementsAre("memory", "enabled 0", "enabled 1"));
  }

  // One chain there and back.
  void Echo(DriverQueue& queue, const std::string& text = "hello") {
    const uint64_t address = memory_->Allocate(128, 16);
    memory_->Write(address, text);
    ASSERT_TRUE(
        queue.Add({{address, static_cast<uint32_t>(text.size())}, {address + 64, 64, true}}));
    queue.Publish();
    absl::Status status = queue.WaitUsed(vmm().Deadline(), vmm().options().pump);
    ASSERT_TRUE(status.ok()) << status;
    absl::StatusOr<std::optional<DriverQueue::Used>> used = queue.Reap();
    ASSERT_TRUE(used.ok() && used->has_value());
    EXPECT_EQ((*used)->length, text.size());
    EXPECT_EQ(memory_->Read(address + 64, text.size()), text);
  }

  // The connection ended, with this in the reason.
  void ExpectEnded(int err, const std::string& why) {
    bed_->Pump();
    EXPECT_EQ(bed_->server(), nullptr);
    EXPECT_EQ(ErrnoOf(bed_->ended()), err) << bed_->ended();
    EXPECT_THAT(std::string(bed_->ended().message()), HasSubstr(why));
  }
  // The request was refused, the connection goes on.
  void ExpectRefused(const absl::Status& status, const std::string& why) {
    EXPECT_EQ(ErrnoOf(status), EINVAL) << status;
    EXPECT_THAT(bed_->device().last_refusal(), HasSubstr(why));
    EXPECT_NE(bed_->server(), nullptr);
  }

  std::unique_ptr<EchoBed> bed_;
  std::unique_ptr<GuestMemory> memory_;
  std::unique_ptr<DriverQueue> queues_[2];
};

constexpr absl::Span<const uint8_t> kNothing;

// Negotiation.

TEST_F(ServerTest, OffersWhatItHas) {
  ASSERT_TRUE(vmm().Negotiate().ok());
  EXPECT_EQ(vmm().offered_features(),
            EchoDevice::kFeature | Server::kRingFeatures | kFeatureProtocolFeatures);
  EXPECT_EQ(vmm().offered_protocol_features(), Server::kProtocolFeatures);
  EXPECT_EQ(bed_->server()->features(), vmm().offered_features());
  EXPECT_EQ(bed_->server()->protocol_features(), Server::kProtocolFeatures);
  EXPECT_EQ(*vmm().Query(Request::kGetQueueNum), EchoDevice::kQueues);
  EXPECT_EQ(*vmm().Query(Request::kGetMaxMemSlots), kMaxRegions);
}

TEST_F(ServerTest, FeaturesThatWereNotOffered) {
  ASSERT_TRUE(vmm().Negotiate().ok());
  ExpectRefused(vmm().Command(Request::kSetFeatures, uint64_t{1} << 40), "0x10000000000");
  ExpectRefused(vmm().Command(Request::kSetProtocolFeatures, uint64_t{1} << 1), "0x2");
  EXPECT_EQ(bed_->server()->features(), vmm().features());
}

TEST_F(ServerTest, AFewFeatures) {
  Make({.features = kFeatureVersion1 | kFeatureProtocolFeatures});
  StartAll();
  EXPECT_EQ(bed_->server()->features(), kFeatureVersion1 | kFeatureProtocolFeatures);
  Echo(*queues_[0]);
}

TEST_F(ServerTest, NewFeaturesWhileARingRuns) {
  StartAll();
  ExpectRefused(vmm().Command(Request::kSetFeatures, kFeatureVersion1), "while a ring runs");
  EXPECT_TRUE(vmm().Command(Request::kSetFeatures, vmm().features()).ok());
  Echo(*queues_[0]);
}

// Without protocol features there is no SET_VRING_ENABLE: the kick is enough.
TEST_F(ServerTest, WithoutProtocolFeatures) {
  Make({.features = kFeatureVersion1 | kFeatureEventIndex});
  StartAll();
  Echo(*queues_[1]);
  absl::Status status = vmm().Command(Request::kSetVringEnable, VringState{0, 1});
  ExpectEnded(EINVAL, "not negotiated");
}

TEST_F(ServerTest, WithoutAcknowledgements) {
  Make({.protocol_features = kProtocolMq | kProtocolConfig});
  StartAll();
  Echo(*queues_[0]);
  EXPECT_TRUE(vmm().Stop(*queues_[0]).ok());
}

// Configuration.

TEST_F(ServerTest, Configuration) {
  ASSERT_TRUE(vmm().Negotiate().ok());
  EXPECT_THAT(*vmm().GetConfig(0, 8), ElementsAre(0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88));
  EXPECT_THAT(*vmm().GetConfig(3, 2), ElementsAre(0x44, 0x55));
  EXPECT_THAT(*vmm().GetConfig(8, 0), IsEmpty());
  EXPECT_THAT(Events(), IsEmpty());
}

TEST_F(ServerTest, ConfigurationThatIsNotThere) {
  ASSERT_TRUE(vmm().Negotiate().ok());
  EXPECT_EQ(ErrnoOf(vmm().GetConfig(0, 9).status()), EINVAL);
  EXPECT_EQ(ErrnoOf(vmm().GetConfig(9, 0).status()), EINVAL);
  EXPECT_EQ(ErrnoOf(vmm().GetConfig(~0u, 2).status()), EINVAL);
  EXPECT_THAT(Events(), ElementsAre("refused", "refused", "refused"));
}

TEST_F(ServerTest, ConfigurationOfAWrongSize) {
  ASSERT_TRUE(vmm().Negotiate().ok());
  ASSERT_TRUE(vmm().Send(Request::kGetConfig, FrontEnd::BytesOf(ConfigHeader{0, 8, 0})).ok());
  ExpectEnded(EINVAL, "request 24: 12 bytes of payload, not 20");
}

TEST_F(ServerTest, ConfigurationOfAnAbsurdSize) {
  ASSERT_TRUE(vmm().Negotiate().ok());
  ASSERT_TRUE(vmm().Send(Request::kGetConfig, FrontEnd::BytesOf(ConfigHeader{0, 257, 0})).ok());
  ExpectEnded(EINVAL, "257 bytes");
}

// A driver's write to the configuration does not end its device.
TEST_F(ServerTest, ConfigurationIsReadOnly) {
  StartAll();
  const std::vector<uint8_t> payload(sizeof(ConfigHeader) + 8);
  ExpectRefused(vmm().Command(Request::kSetConfig, absl::MakeConstSpan(payload)), "read-only");
  ASSERT_TRUE(vmm().Send(Request::kSetConfig, payload).ok());
  Echo(*queues_[0]);
}

// Memory.

TEST_F(ServerTest, MemoryTableReplacedUnderRunningRings) {
  StartAll();
  Echo(*queues_[0]);
  // The same file again, at other guest addresses of which the rings know nothing: they are named
  // by the VMM's.
  ASSERT_TRUE(vmm().ShareMemory(*memory_).ok());
  EXPECT_THAT(Events(), ElementsAre("stopped 0", "stopped 1", "memory", "enabled 0", "enabled 1"));
  Echo(*queues_[0]);
  Echo(*queues_[1]);
}

TEST_F(ServerTest, MemoryTableWithoutTheRunningRings) {
  StartAll();
  auto other = *GuestMemory::Create({{kMemory, 1 << 20}});
  EXPECT_EQ(ErrnoOf(vmm().ShareMemory(*other)), EINVAL);
  EXPECT_THAT(Events(), ElementsAre("stopped 0", "stopped 1", "memory"));
  ExpectEnded(EFAULT, "ring 0: virtqueue: its descriptors");
  EXPECT_TRUE(vmm().WaitHangUp().ok());
}

TEST_F(ServerTest, MemoryTablesThatMakeNoSense) {
  ASSERT_TRUE(vmm().Negotiate().ok());
  ASSERT_TRUE(vmm().ShareMemory(*memory_).ok());
  const int file = memory_->descriptor();
  const struct Table {
    MemoryTableHeader header;
    MemoryRegion regions[2];
  } overlapping = {{2, 0}, {memory_->regions()[0], memory_->regions()[0]}};
  const absl::Span<const uint8_t> bytes = FrontEnd::BytesOf(overlapping);
  ExpectRefused(vmm().Command(Request::kSetMemTable, bytes, {file, file}), "overlaps");
  ExpectRefused(vmm().Command(Request::kSetMemTable, bytes, {file}), "1 descriptors, not 2");
  ExpectRefused(vmm().Command(Request::kSetMemTable, bytes, {file, file, file}), "3 descriptors");
  ExpectRefused(vmm().Command(Request::kSetMemTable, bytes.subspan(0, 71), {file, file}),
                "71 bytes of payload, not 72");
  ExpectRefused(vmm().Command(Request::kSetMemTable, bytes.subspan(0, 7), {file, file}),
                "no memory table");
  ExpectRefused(vmm().Command(Request::kSetMemTable, MemoryTableHeader{33, 0}),
                "33 memory regions");
  ExpectRefused(vmm().Command(Request::kSetMemTable, MemoryTableHeader{~0u, 0}), "memory regions");
  // What was there stays.
  EXPECT_FALSE(bed_->server()->memory().Piece(kMemory, 1).empty());
  EXPECT_EQ(bed_->server()->memory().size(), 1u);
}

TEST_F(ServerTest, ABadMemoryTableDisturbsNoRing) {
  StartAll();
  ExpectRefused(vmm().Command(Request::kSetMemTable, MemoryTableHeader{1, 0}), "bytes of payload");
  EXPECT_THAT(Events(), ElementsAre("refused"));
  Echo(*queues_[0]);
}

TEST_F(ServerTest, AnEmptyMemoryTable) {
  ASSERT_TRUE(vmm().Negotiate().ok());
  ASSERT_TRUE(vmm().ShareMemory(*memory_).ok());
  ASSERT_TRUE(vmm().Command(Request::kSetMemTable, MemoryTableHeader{0, 0}).ok());
  EXPECT_EQ(bed_->server()->memory().size(), 0u);
}

TEST_F(ServerTest, RegionsComeAndGo) {
  StartAll();
  auto more = *GuestMemory::Create({{0x40000000, 0x10000}});
  const MemoryRegion region = more->regions()[0];
  ASSERT_TRUE(vmm().AddRegion(region, more->descriptor()).ok());
  // Nothing moved, so nothing stops.
  EXPECT_THAT(Events(), IsEmpty());
  EXPECT_FALSE(bed_->server()->memory().Piece(0x40000000, 1).empty());
  Echo(*queues_[0]);
  ASSERT_TRUE(vmm().RemoveRegion(region).ok());
  EXPECT_THAT(Events(), ElementsAre("stopped 0", "stopped 1", "memory", "enabled 0", "enabled 1"));
  EXPECT_TRUE(bed_->server()->memory().Piece(0x40000000, 1).empty());
  Echo(*queues_[1]);
  ExpectRefused(vmm().RemoveRegion(region), "there is no memory region");
  EXPECT_THAT(Events(), ElementsAre("refused"));
}

TEST_F(ServerTest, ARegionIsRemovedWithItsDescriptorSentAlong) {
  ASSERT_TRUE(vmm().Negotiate().ok());
  ASSERT_TRUE(vmm().ShareMemory(*memory_).ok());
  const SingleRegion region = {0, memory_->regions()[0]};
  EXPECT_TRUE(vmm().Command(Request::kRemMemReg, region, {memory_->descriptor()}).ok());
}

TEST_F(ServerTest, TheRegionOfARunningRingIsRemoved) {
  StartAll();
  EXPECT_EQ(ErrnoOf(vmm().RemoveRegion(memory_->regions()[0])), EINVAL);
  ExpectEnded(EFAULT, "ring 0");
}

TEST_F(ServerTest, RegionsThatMakeNoSense) {
  ASSERT_TRUE(vmm().Negotiate().ok());
  ASSERT_TRUE(vmm().ShareMemory(*memory_).ok());
  MemoryRegion region = memory_->regions()[0];
  const int file = memory_->descriptor();
  ExpectRefused(vmm().AddRegion(region, file), "overlaps");
  region.guest_address += 1 << 20;
  ExpectRefused(vmm().Command(Request::kAddMemReg, SingleRegion{0, region}),
                "0 descriptors, not 1");
  ExpectRefused(vmm().Command(Request::kAddMemReg, region, {file}), "32 bytes of payload, not 40");
  ExpectRefused(vmm().Command(Request::kRemMemReg, region), "32 bytes of payload, not 40");
  region.size += 1;
  ExpectRefused(vmm().AddRegion(region, file), "of a file of");
}

TEST_F(ServerTest, MoreRegionsThanSlots) {
  ASSERT_TRUE(vmm().Negotiate().ok());
  auto page = *GuestMemory::Create({{0, 4096}});
  for (uint64_t i = 0; i < kMaxRegions; ++i) {
    ASSERT_TRUE(vmm().AddRegion({i * 4096, 4096, i * 4096, 0}, page->descriptor()).ok());
  }
  ExpectRefused(vmm().AddRegion({kMaxRegions * 4096, 4096, 0, 0}, page->descriptor()),
                "more than 32");
}

TEST_F(ServerTest, RegionsNeedTheirProtocolFeature) {
  Make({.protocol_features = kProtocolReplyAck});
  ASSERT_TRUE(vmm().Negotiate().ok());
  const MemoryRegion region = memory_->regions()[0];
  ExpectRefused(vmm().AddRegion(region, memory_->descriptor()), "not negotiated");
  ExpectRefused(vmm().RemoveRegion(region), "not negotiated");
  ExpectRefused(vmm().Command(Request::kResetDevice, kNothing), "not negotiated");
}

TEST_F(ServerTest, AVmmThatShortensItsMemory) {
  StartAll();
  // All but the first page, in which the rings are.
  const uint64_t address = memory_->Allocate(4096, 4096);
  ASSERT_GT(address, kMemory);
  ASSERT_TRUE(queues_[0]->Add({{address, 8}, {address + 64, 8, true}}));
  ASSERT_EQ(ftruncate(memory_->descriptor(), static_cast<off_t>(address - kMemory)), 0);
  queues_[0]->Publish();
  ExpectEnded(EFAULT, "shortened the file");
}

// Rings.

TEST_F(ServerTest, EchoOverBothRings) {
  StartAll();
  for (int i = 0; i < 200; ++i) {
    Echo(*queues_[0], "one");
    Echo(*queues_[1], "two");
  }
  EXPECT_EQ(bed_->device().chains(), 400u);
}

TEST_F(ServerTest, ARingStartsWhenItHasAllItNeeds) {
  ASSERT_TRUE(vmm().Negotiate().ok());
  ASSERT_TRUE(vmm().ShareMemory(*memory_).ok());
  EXPECT_THAT(Events(), ElementsAre("memory"));
  auto queue = *DriverQueue::Create(memory_.get(), 2, vmm().QueueOptions(kSize));
  // In the order that is least expected.
  ASSERT_TRUE(vmm().Command(Request::kSetVringEnable, VringState{2, 1}).ok());
  ASSERT_TRUE(vmm().Command(Request::kSetVringKick, uint64_t{2}, {queue->kick_descriptor()}).ok());
  ASSERT_TRUE(vmm().Command(Request::kSetVringCall, uint64_t{2}, {queue->call_descriptor()}).ok());
  ASSERT_TRUE(vmm().Command(Request::kSetVringAddr, queue->address()).ok());
  EXPECT_THAT(Events(), IsEmpty());
  ASSERT_TRUE(vmm().Command(Request::kSetVringNum, VringState{2, kSize}).ok());
  EXPECT_THAT(Events(), ElementsAre("enabled 2"));
  Echo(*queue);
}

TEST_F(ServerTest, DisabledAndEnabledAgain) {
  StartAll();
  Echo(*queues_[0]);
  ASSERT_TRUE(vmm().Command(Request::kSetVringEnable, VringState{0, 0}).ok());
  ASSERT_TRUE(vmm().Command(Request::kSetVringEnable, VringState{0, 0}).ok());
  EXPECT_THAT(Events(), ElementsAre("stopped 0"));
  const uint64_t address = memory_->Allocate(16, 16);
  queues_[0]->Add({{address, 8}, {address + 8, 8, true}});
  queues_[0]->Publish();
  bed_->Pump();
  EXPECT_FALSE(queues_[0]->HasUsed());
  ASSERT_TRUE(vmm().Command(Request::kSetVringEnable, VringState{0, 1}).ok());
  EXPECT_THAT(Events(), ElementsAre("enabled 0"));
  bed_->Pump();
  EXPECT_TRUE(queues_[0]->HasUsed());
}

TEST_F(ServerTest, AStoppedRingGoesOnWhereItWas) {
  StartAll();
  for (int i = 0; i < 5; ++i) Echo(*queues_[0]);
  absl::StatusOr<uint16_t> base = vmm().Stop(*queues_[0]);
  ASSERT_TRUE(base.ok()) << base.status();
  EXPECT_EQ(*base, 5);
  EXPECT_THAT(Events(), ElementsAre("stopped 0"));
  // A ring that does not run says the same.
  EXPECT_EQ(*vmm().Stop(*queues_[0]), 5);
  ASSERT_TRUE(vmm().Start(*queues_[0], *base).ok());
  EXPECT_THAT(Events(), ElementsAre("enabled 0"));
  Echo(*queues_[0]);
  EXPECT_EQ(*vmm().Stop(*queues_[0]), 6);
}

// GET_VRING_BASE takes the kick away: enabling is not enough to start again.
TEST_F(ServerTest, AStoppedRingNeedsANewKick) {
  StartAll();
  ASSERT_TRUE(vmm().Stop(*queues_[0]).ok());
  ASSERT_TRUE(vmm().Command(Request::kSetVringEnable, VringState{0, 1}).ok());
  EXPECT_THAT(Events(), ElementsAre("stopped 0"));
  EXPECT_FALSE(bed_->server()->running(0));
}

TEST_F(ServerTest, AnotherKickDescriptor) {
  StartAll();
  const UniqueFd kick(eventfd(0, EFD_CLOEXEC));  // blocking
  ASSERT_TRUE(vmm().Command(Request::kSetVringKick, uint64_t{0}, {kick.get()}).ok());
  EXPECT_THAT(Events(), ElementsAre("stopped 0", "enabled 0"));
  EXPECT_NE(fcntl(bed_->server()->kick_descriptor(0), F_GETFL) & O_NONBLOCK, 0);
  Echo(*queues_[0]);
}

// What the old call descriptor was told in the meantime may be lost, so the new one is told too.
TEST_F(ServerTest, AnotherCallDescriptor) {
  StartAll();
  const UniqueFd call(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  ASSERT_TRUE(vmm().Command(Request::kSetVringCall, uint64_t{0}, {call.get()}).ok());
  uint64_t count = 0;
  EXPECT_EQ(read(call.get(), &count, sizeof(count)), 8);
  EXPECT_THAT(Events(), IsEmpty());
  // And a driver that polls has none.
  ASSERT_TRUE(vmm().Command(Request::kSetVringCall, kVringNoDescriptor).ok());
  const uint64_t address = memory_->Allocate(16, 16);
  queues_[0]->Add({{address, 8}, {address + 8, 8, true}});
  queues_[0]->Publish();
  bed_->Pump();
  EXPECT_TRUE(queues_[0]->HasUsed());
  EXPECT_FALSE(queues_[0]->TakeInterrupt());
}

TEST_F(ServerTest, IndicesOutOfRange) {
  ASSERT_TRUE(vmm().Negotiate().ok());
  const UniqueFd event(eventfd(0, EFD_CLOEXEC));
  for (const uint32_t index : {3u, 255u}) {
    for (const Request request :
         {Request::kSetVringNum, Request::kSetVringBase, Request::kSetVringEnable}) {
      ExpectRefused(vmm().Command(request, VringState{index, 1}), "of 3");
    }
    ExpectRefused(vmm().Command(Request::kSetVringAddr, VringAddress{index, 0, 0, 0, 0, 0}),
                  "of 3");
    for (const Request request :
         {Request::kSetVringKick, Request::kSetVringCall, Request::kSetVringErr}) {
      ExpectRefused(vmm().Command(request, uint64_t{index}, {event.get()}), "of 3");
    }
  }
  ExpectRefused(vmm().Command(Request::kSetVringCall, uint64_t{1} << 9, {event.get()}),
                "index 0x200");
  ASSERT_TRUE(vmm().Send(Request::kGetVringBase, FrontEnd::BytesOf(VringState{3, 0})).ok());
  ExpectEnded(EINVAL, "ring 3 of 3");
}

TEST_F(ServerTest, NumbersOutOfRange) {
  ASSERT_TRUE(vmm().Negotiate().ok());
  for (const uint32_t size : {0u, 3u, 2048u, 65536u, ~0u}) {
    ExpectRefused(vmm().Command(Request::kSetVringNum, VringState{0, size}), "power of two");
  }
  ExpectRefused(vmm().Command(Request::kSetVringBase, VringState{0, 0x10000}), "a base of 65536");
  ExpectRefused(vmm().Command(Request::kSetVringEnable, VringState{0, 2}), "enable: 2");
}

TEST_F(ServerTest, ARunningRingIsNotChanged) {
  StartAll();
  ExpectRefused(vmm().Command(Request::kSetVringNum, VringState{0, 8}), "ring 0 runs");
  ExpectRefused(vmm().Command(Request::kSetVringBase, VringState{0, 8}), "ring 0 runs");
  ExpectRefused(vmm().Command(Request::kSetVringAddr, queues_[1]->address()), "ring 1 runs");
  Echo(*queues_[0]);
}

TEST_F(ServerTest, DescriptorsMissingOrTooMany) {
  ASSERT_TRUE(vmm().Negotiate().ok());
  const UniqueFd event(eventfd(0, EFD_CLOEXEC));
  const int fd = event.get();
  ExpectRefused(vmm().Command(Request::kSetVringKick, uint64_t{0}), "0 descriptors, not 1");
  ExpectRefused(vmm().Command(Request::kSetVringKick, uint64_t{0}, {fd, fd}), "2 descriptors");
  ExpectRefused(vmm().Command(Request::kSetVringCall, kVringNoDescriptor, {fd}),
                "1 descriptors, not 0");
  ExpectRefused(vmm().Command(Request::kSetVringKick, kVringNoDescriptor), "polled");
  ExpectRefused(vmm().Command(Request::kSetOwner, kNothing, {fd}), "1 descriptors, not 0");
}

TEST_F(ServerTest, DescriptorsThatAreNoEvents) {
  ASSERT_TRUE(vmm().Negotiate().ok());
  int pipe_ends[2];
  ASSERT_EQ(pipe2(pipe_ends, O_CLOEXEC), 0);
  const UniqueFd out(pipe_ends[0]), in(pipe_ends[1]);
  const UniqueFd file(memfd_create("file", MFD_CLOEXEC));
  for (const int fd : {in.get(), file.get()}) {
    ExpectRefused(vmm().Command(Request::kSetVringCall, uint64_t{0}, {fd}), "no eventfd");
  }
}

TEST_F(ServerTest, PayloadsOfAWrongSize) {
  ASSERT_TRUE(vmm().Negotiate().ok());
  const std::vector<uint8_t> bytes(100);
  for (const Request request :
       {Request::kSetFeatures, Request::kSetOwner, Request::kResetOwner, Request::kSetVringNum,
        Request::kSetVringAddr, Request::kSetVringBase, Request::kSetVringKick,
        Request::kSetVringCall, Request::kSetVringErr, Request::kSetProtocolFeatures,
        Request::kSetVringEnable, Request::kResetDevice}) {
    for (const size_t size : {size_t{1}, size_t{7}, size_t{9}, size_t{39}, size_t{100}}) {
      ExpectRefused(vmm().Command(request, absl::MakeConstSpan(bytes).subspan(0, size)),
                    "bytes of payload, not");
    }
  }
}

TEST_F(ServerTest, QuestionsOfAWrongSizeCannotBeAnswered) {
  for (const Request request :
       {Request::kGetFeatures, Request::kGetProtocolFeatures, Request::kGetQueueNum,
        Request::kGetMaxMemSlots, Request::kGetVringBase, Request::kGetConfig}) {
    Make({});
    ASSERT_TRUE(vmm().Negotiate().ok());
    ASSERT_TRUE(
        vmm().Send(request, FrontEnd::BytesOf(uint8_t{0}), {}, kVersion | kNeedReplyFlag).ok());
    ExpectEnded(EINVAL, "");
    EXPECT_TRUE(vmm().WaitHangUp().ok());
  }
}

TEST_F(ServerTest, RingsThatAreNoMemory) {
  ASSERT_TRUE(vmm().Negotiate().ok());
  auto queue = *DriverQueue::Create(memory_.get(), 0, vmm().QueueOptions(kSize));
  // No memory was shared.  It shows when the ring starts, with its enabling.
  EXPECT_EQ(ErrnoOf(vmm().Start(*queue)), EINVAL);
  EXPECT_THAT(Events(), IsEmpty());
  ExpectEnded(EFAULT, "not in one region");
}

TEST_F(ServerTest, ADeviceThatCannotStartARing) {
  bed_->device().FailToEnable();
  ASSERT_TRUE(vmm().Negotiate().ok());
  ASSERT_TRUE(vmm().ShareMemory(*memory_).ok());
  auto queue = *DriverQueue::Create(memory_.get(), 0, vmm().QueueOptions(kSize));
  EXPECT_EQ(ErrnoOf(vmm().Start(*queue)), EINVAL);
  EXPECT_THAT(Events(), ElementsAre("memory", "enabled 0"));
  ExpectEnded(EPERM, "ring 0: the device does not want");
}

// The VM's connection ends; the VMM learns by the error descriptor and the hang-up.
TEST_F(ServerTest, ABrokenRing) {
  StartAll();
  const UniqueFd error(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  ASSERT_TRUE(vmm().Command(Request::kSetVringErr, uint64_t{0}, {error.get()}).ok());
  queues_[0]->SetAvailableIndex(kSize + 1);
  ExpectEnded(EPROTO, "queue 0: virtqueue: the available index");
  EXPECT_THAT(Events(), ElementsAre("stopped 0", "stopped 1"));
  uint64_t count = 0;
  EXPECT_EQ(read(error.get(), &count, sizeof(count)), 8);
  EXPECT_TRUE(vmm().WaitHangUp().ok());
}

// Resets.

TEST_F(ServerTest, ResetDevice) {
  StartAll();
  Echo(*queues_[0]);
  ASSERT_TRUE(vmm().Command(Request::kResetDevice, kNothing).ok());
  EXPECT_THAT(Events(), ElementsAre("stopped 0", "stopped 1", "reset"));
  EXPECT_EQ(bed_->server()->features(), 0u);
  // The memory stays, and the protocol features.
  ASSERT_TRUE(vmm().Command(Request::kSetFeatures, vmm().features()).ok());
  auto fresh = *DriverQueue::Create(memory_.get(), 0, vmm().QueueOptions(kSize));
  ASSERT_TRUE(vmm().Start(*fresh).ok());
  Echo(*fresh);
}

TEST_F(ServerTest, ResetOwner) {
  StartAll();
  ASSERT_TRUE(vmm().Command(Request::kResetOwner, kNothing).ok());
  EXPECT_THAT(Events(), ElementsAre("stopped 0", "stopped 1"));
  ASSERT_TRUE(vmm().Command(Request::kSetVringEnable, VringState{0, 1}).ok());
  EXPECT_FALSE(bed_->server()->running(0));
}

// Requests that make no sense.

TEST_F(ServerTest, UnknownRequests) {
  ASSERT_TRUE(vmm().Negotiate().ok());
  for (const uint32_t number : {0u, 6u, 19u, 31u, 39u, 41u, ~0u}) {
    ExpectRefused(vmm().Command(static_cast<Request>(number), kNothing), "unknown");
  }
  ASSERT_TRUE(vmm().Send(static_cast<Request>(31), {}).ok());
  ExpectEnded(EINVAL, "vhost-user request 31: unknown");
}

// An acknowledgement that was not agreed on is not waited for.
TEST_F(ServerTest, UnknownRequestBeforeReplyAck) {
  ASSERT_TRUE(vmm().Send(static_cast<Request>(31), {}, {}, kVersion | kNeedReplyFlag).ok());
  ExpectEnded(EINVAL, "unknown");
}

TEST_F(ServerTest, ARefusalWithoutAcknowledgementEndsTheConnection) {
  StartAll();
  ASSERT_TRUE(vmm().Send(Request::kSetVringBase, FrontEnd::BytesOf(VringState{7, 0})).ok());
  ExpectEnded(EINVAL, "request 10: ring 7 of 3");
  EXPECT_THAT(Events(), ElementsAre("stopped 0", "stopped 1"));
}

TEST_F(ServerTest, BrokenFramingEndsTheConnection) {
  StartAll();
  ASSERT_TRUE(vmm().Send(Request::kSetOwner, {}, {}, 0).ok());
  ExpectEnded(EPROTO, "version 0");
}

TEST_F(ServerTest, TheVmmEnds) {
  StartAll();
  bed_->HangUp();
  EXPECT_EQ(bed_->server(), nullptr);
  EXPECT_EQ(ErrnoOf(bed_->ended()), ECONNRESET);
  EXPECT_THAT(Events(), ElementsAre("stopped 0", "stopped 1"));
}

TEST_F(ServerTest, ItEndsOnce) {
  StartAll();
  Server& server = *bed_->server();
  server.Stop(ErrnoError(EPROTO, "first"));
  server.Stop(ErrnoError(EINVAL, "second"));
  EXPECT_THAT(Events(), ElementsAre("stopped 0", "stopped 1"));
  EXPECT_EQ(server.OnReadable().status().message(), "first");
  EXPECT_FALSE(server.running(0));
}

TEST_F(ServerTest, ATurnHasAnEnd) {
  ASSERT_TRUE(vmm().Negotiate().ok());
  for (int i = 0; i < Server::kMessagesPerTurn; ++i) {
    ASSERT_TRUE(vmm().Send(Request::kSetOwner, {}).ok());
  }
  EXPECT_TRUE(*bed_->server()->OnReadable());
  EXPECT_FALSE(*bed_->server()->OnReadable());
}

TEST_F(ServerTest, AVmmThatReadsNoReplies) {
  absl::StatusOr<bool> more = true;
  for (int i = 0; i < 100'000 && more.ok(); ++i) {
    ASSERT_TRUE(vmm().Send(Request::kGetFeatures, {}).ok());
    more = bed_->server()->OnReadable();
  }
  EXPECT_EQ(ErrnoOf(more.status()), ENOBUFS);
}

}  // namespace
}  // namespace argosy::vhost_user
