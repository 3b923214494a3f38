// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/virtqueue.h"

#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "backends/vhost_user/testing/driver_queue.h"
#include "backends/vhost_user/testing/guest_memory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "transport/error.h"

namespace argosy::vhost_user {
namespace {

using PopResult = Virtqueue::PopResult;
using ::testing::HasSubstr;

constexpr uint32_t kSize = 16;
// Two regions of guest addresses that adjoin, and one apart.
constexpr uint64_t kFirst = 0x100000;
constexpr uint64_t kSecond = kFirst + 0x200000;
constexpr uint64_t kApart = 0x10000000;
constexpr uint64_t kRingBits = kFeatureEventIndex | kFeatureIndirectDescriptors;

class VirtqueueTest : public testing::Test {
 protected:
  void SetUp() override { Make(0, {.size = kSize}); }

  // A driver and a device that agreed on these features.
  void Make(uint64_t features, DriverQueue::Options options) {
    options.event_index = (features & kFeatureEventIndex) != 0;
    memory_ = *GuestMemory::Create({{kFirst, 0x200000}, {kSecond, 0x1000}, {kApart, 0x1000}});
    table_ = MemoryTable();
    for (const MemoryRegion& region : memory_->regions()) {
      ASSERT_TRUE(table_.Add(region, memory_->descriptor()).ok());
    }
    driver_ = *DriverQueue::Create(memory_.get(), 0, options);
    ASSERT_TRUE(queue_.Configure(table_, Layout(), options.first, features).ok());
    buffer_ = memory_->Allocate(4096, 16);
  }

  Virtqueue::Layout Layout() const {
    const VringAddress address = driver_->address();
    return {driver_->size(), address.descriptors, address.available, address.used};
  }

  PopResult Pop() {
    absl::StatusOr<PopResult> got = queue_.Pop(absl::MakeSpan(room_), &chain_);
    EXPECT_TRUE(got.ok()) << got.status();
    return got.ok() ? *got : PopResult::kEmpty;
  }
  // What Pop() complains about; everything stays as it was.
  std::string PopError() {
    const uint16_t before = queue_.next_available();
    absl::StatusOr<PopResult> got = queue_.Pop(absl::MakeSpan(room_), &chain_);
    EXPECT_EQ(ErrnoOf(got.status()), EPROTO);
    EXPECT_EQ(queue_.next_available(), before);
    return std::string(got.status().message());
  }
  // Makes available what a test wrote to the descriptor table.
  void Offer(uint16_t head) {
    driver_->SetAvailable(offered_, head);
    driver_->SetAvailableIndex(++offered_);
  }
  std::string PopErrorOf(std::vector<Descriptor> descriptors) {
    for (size_t i = 0; i < descriptors.size(); ++i) {
      driver_->SetDescriptor(static_cast<uint16_t>(i), descriptors[i]);
    }
    Offer(0);
    return PopError();
  }

  std::unique_ptr<GuestMemory> memory_;
  MemoryTable table_;
  std::unique_ptr<DriverQueue> driver_;
  Virtqueue queue_;
  uint64_t buffer_ = 0;
  std::array<iovec, Virtqueue::kMaxPieces> room_;
  Chain chain_;
  uint16_t offered_ = 0;
};

// Configure().

TEST_F(VirtqueueTest, SizesThatAreNone) {
  for (const uint32_t size : {0u, 3u, 100u, 65536u, 0x80000000u, ~0u}) {
    Virtqueue::Layout layout = Layout();
    layout.size = size;
    EXPECT_EQ(ErrnoOf(queue_.Configure(table_, layout, 0, 0)), EINVAL) << size;
  }
}

TEST_F(VirtqueueTest, SizesFromOneToTheLargest) {
  for (uint32_t size = 1; size <= kMaxQueueSize; size *= 2) {
    Make(kFeatureEventIndex, {.size = size});
    ASSERT_TRUE(driver_->Add({{buffer_, 4}}).has_value());
    driver_->Publish();
    EXPECT_EQ(Pop(), PopResult::kChain);
    EXPECT_EQ(Pop(), PopResult::kEmpty);
  }
}

TEST_F(VirtqueueTest, AddressesThatAreNotAligned) {
  for (uint64_t Virtqueue::Layout::*part :
       {&Virtqueue::Layout::descriptors, &Virtqueue::Layout::available, &Virtqueue::Layout::used}) {
    Virtqueue::Layout layout = Layout();
    layout.*part += 1;
    const absl::Status status = queue_.Configure(table_, layout, 0, 0);
    EXPECT_EQ(ErrnoOf(status), EINVAL);
    EXPECT_THAT(status.message(), HasSubstr("aligned"));
  }
}

TEST_F(VirtqueueTest, AddressesThatAreNoMemory) {
  for (uint64_t Virtqueue::Layout::*part :
       {&Virtqueue::Layout::descriptors, &Virtqueue::Layout::available, &Virtqueue::Layout::used}) {
    Virtqueue::Layout layout = Layout();
    layout.*part = 0x1000;
    EXPECT_EQ(ErrnoOf(queue_.Configure(table_, layout, 0, 0)), EFAULT);
    layout.*part = ~uint64_t{0xFF};
    EXPECT_EQ(ErrnoOf(queue_.Configure(table_, layout, 0, 0)), EFAULT);
    // Begins in memory, and does not end there.
    layout.*part = memory_->VmmAddress(kApart + 0xFF0);
    EXPECT_EQ(ErrnoOf(queue_.Configure(table_, layout, 0, 0)), EFAULT);
  }
}

// A region may lie in its file in a way that makes aligned addresses unaligned here.
TEST_F(VirtqueueTest, AlignmentIsJudgedHereToo) {
  MemoryTable table;
  ASSERT_TRUE(table.Add({0x10000, 0x8000, 0x10000, 1}, memory_->descriptor()).ok());
  EXPECT_EQ(ErrnoOf(queue_.Configure(table, {kSize, 0x10000, 0x11000, 0x12000}, 0, 0)), EINVAL);
}

TEST_F(VirtqueueTest, EventsNeedTheirBytes) {
  // The used ring ends with the region, if there is no event behind it.
  Virtqueue::Layout layout = Layout();
  layout.used = memory_->VmmAddress(kApart + 0x1000 - UsedBytes(kSize, false));
  EXPECT_TRUE(queue_.Configure(table_, layout, 0, 0).ok());
  EXPECT_EQ(ErrnoOf(queue_.Configure(table_, layout, 0, kFeatureEventIndex)), EFAULT);
}

// Pop().

TEST_F(VirtqueueTest, NothingIsAvailable) {
  EXPECT_EQ(Pop(), PopResult::kEmpty);
  ASSERT_TRUE(driver_->Add({{buffer_, 4}}).has_value());
  // Not published yet.
  EXPECT_EQ(Pop(), PopResult::kEmpty);
}

TEST_F(VirtqueueTest, AChainHasItsBuffersInOrder) {
  memory_->Write(buffer_, "headpayload");
  const std::optional<uint16_t> head = driver_->Add(
      {{buffer_, 4}, {buffer_ + 4, 7}, {buffer_ + 100, 50, true}, {buffer_ + 200, 60, true}});
  ASSERT_TRUE(head.has_value());
  driver_->Publish();
  ASSERT_EQ(Pop(), PopResult::kChain);
  EXPECT_EQ(chain_.head, *head);
  ASSERT_EQ(chain_.readable.size(), 2u);
  EXPECT_EQ(chain_.readable_bytes, 11u);
  EXPECT_EQ(std::memcmp(chain_.readable[0].iov_base, "head", 4), 0);
  EXPECT_EQ(std::memcmp(chain_.readable[1].iov_base, "payload", 7), 0);
  ASSERT_EQ(chain_.writable.size(), 2u);
  EXPECT_EQ(chain_.writable_bytes, 110u);
  EXPECT_EQ(chain_.writable[0].iov_len, 50u);
  std::memcpy(chain_.writable[1].iov_base, "answer", 6);
  queue_.PushUsed(chain_.head, 56);
  EXPECT_FALSE(driver_->HasUsed());
  queue_.Flush();
  absl::StatusOr<std::optional<DriverQueue::Used>> used = driver_->Reap();
  ASSERT_TRUE(used.ok() && used->has_value());
  EXPECT_EQ((*used)->head, *head);
  EXPECT_EQ((*used)->length, 56u);
  EXPECT_EQ(memory_->Read(buffer_ + 200, 6), "answer");
}

TEST_F(VirtqueueTest, OnlyReadableOrOnlyWritable) {
  driver_->Add({{buffer_, 4}, {buffer_, 5}});
  driver_->Add({{buffer_, 6, true}});
  driver_->Publish();
  ASSERT_EQ(Pop(), PopResult::kChain);
  EXPECT_EQ(chain_.readable.size(), 2u);
  EXPECT_TRUE(chain_.writable.empty());
  ASSERT_EQ(Pop(), PopResult::kChain);
  EXPECT_TRUE(chain_.readable.empty());
  EXPECT_EQ(chain_.readable_bytes, 0u);
  EXPECT_EQ(chain_.writable.size(), 1u);
  EXPECT_EQ(chain_.writable_bytes, 6u);
}

TEST_F(VirtqueueTest, BuffersWithoutBytesLeaveNoPiece) {
  driver_->Add({{0xDEAD0000, 0}, {buffer_, 4}, {buffer_, 0, true}});
  driver_->Publish();
  ASSERT_EQ(Pop(), PopResult::kChain);
  EXPECT_EQ(chain_.readable.size(), 1u);
  EXPECT_TRUE(chain_.writable.empty());
}

TEST_F(VirtqueueTest, ABufferOverAdjoiningRegionsIsTwoPieces) {
  driver_->Add({{kSecond - 8, 24, true}});
  driver_->Publish();
  ASSERT_EQ(Pop(), PopResult::kChain);
  ASSERT_EQ(chain_.writable.size(), 2u);
  EXPECT_EQ(chain_.writable[0].iov_len, 8u);
  EXPECT_EQ(chain_.writable[1].iov_len, 16u);
  EXPECT_EQ(chain_.writable_bytes, 24u);
}

TEST_F(VirtqueueTest, TheLongestChain) {
  const std::vector<Buffer> buffers(kSize, {buffer_, 1});
  ASSERT_TRUE(driver_->Add(buffers).has_value());
  driver_->Publish();
  ASSERT_EQ(Pop(), PopResult::kChain);
  EXPECT_EQ(chain_.readable.size(), kSize);
}

TEST_F(VirtqueueTest, AChainThatHasNoRoomStays) {
  driver_->Add({{buffer_, 1}, {buffer_, 2}, {buffer_, 3}});
  driver_->Publish();
  iovec small[2];
  absl::StatusOr<PopResult> got = queue_.Pop(absl::MakeSpan(small), &chain_);
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(*got, PopResult::kNoRoom);
  EXPECT_EQ(queue_.outstanding(), 0u);
  EXPECT_EQ(queue_.seen(), 1u);
  ASSERT_EQ(Pop(), PopResult::kChain);
  EXPECT_EQ(chain_.readable_bytes, 6u);
}

TEST_F(VirtqueueTest, AChainOfMorePiecesThanAnyRoom) {
  Make(0, {.size = 4096});
  driver_->Add(std::vector<Buffer>(Virtqueue::kMaxPieces, {buffer_, 1}));
  driver_->Publish();
  EXPECT_EQ(Pop(), PopResult::kChain);
  driver_->Add(std::vector<Buffer>(Virtqueue::kMaxPieces + 1, {buffer_, 1}));
  driver_->Publish();
  EXPECT_THAT(PopError(), HasSubstr("1024 pieces"));
}

TEST_F(VirtqueueTest, TheIndicesWrap) {
  Make(kRingBits, {.size = kSize, .first = 0xFFFA});
  for (int round = 0; round < 40; ++round) {
    for (int i = 0; i < 7; ++i) ASSERT_TRUE(driver_->Add({{buffer_, 8}}).has_value());
    EXPECT_TRUE(driver_->Publish());
    for (int i = 0; i < 7; ++i) {
      ASSERT_EQ(Pop(), PopResult::kChain);
      queue_.PushUsed(chain_.head, 0);
    }
    ASSERT_EQ(Pop(), PopResult::kEmpty);
    EXPECT_FALSE(queue_.EnableKicks());
    EXPECT_TRUE(queue_.Flush());
    for (int i = 0; i < 7; ++i) {
      absl::StatusOr<std::optional<DriverQueue::Used>> used = driver_->Reap();
      ASSERT_TRUE(used.ok() && used->has_value());
    }
    EXPECT_FALSE(driver_->EnableInterrupts());
  }
}

// A driver that breaks the rules.

TEST_F(VirtqueueTest, TheAvailableIndexRunsAway) {
  driver_->SetAvailableIndex(kSize);
  EXPECT_EQ(Pop(), PopResult::kChain);
  Make(0, {.size = kSize});
  driver_->SetAvailableIndex(kSize + 1);
  EXPECT_THAT(PopError(), HasSubstr("available index went from 0 to 17"));
  driver_->SetAvailableIndex(0xFFFF);
  EXPECT_THAT(PopError(), HasSubstr("to 65535"));
}

TEST_F(VirtqueueTest, TheAvailableIndexGoesBack) {
  Offer(0);
  Offer(1);
  EXPECT_EQ(Pop(), PopResult::kChain);
  EXPECT_EQ(Pop(), PopResult::kChain);
  driver_->SetAvailableIndex(1);
  EXPECT_THAT(PopError(), HasSubstr("from 2 to 1"));
}

TEST_F(VirtqueueTest, TheHeadIsOutOfRange) {
  Offer(kSize);
  EXPECT_THAT(PopError(), HasSubstr("chain 16 in a queue of 16"));
}

TEST_F(VirtqueueTest, TheNextIsOutOfRange) {
  EXPECT_THAT(PopErrorOf({{buffer_, 1, kDescriptorNext, kSize}}), HasSubstr("descriptor 16 of 16"));
}

TEST_F(VirtqueueTest, ALoop) {
  EXPECT_THAT(PopErrorOf({{buffer_, 1, kDescriptorNext, 0}}), HasSubstr("loop"));
}

TEST_F(VirtqueueTest, ALongLoop) {
  EXPECT_THAT(PopErrorOf({{buffer_, 1, kDescriptorNext, 1},
                          {buffer_, 1, kDescriptorNext, 2},
                          {buffer_, 0, kDescriptorNext, 1}}),
              HasSubstr("loop"));
}

TEST_F(VirtqueueTest, ABufferThatIsNoMemory) {
  for (const auto& [address, length] : std::vector<std::pair<uint64_t, uint32_t>>{
           {0, 1},
           {kFirst - 1, 2},
           {kSecond + 0xFFF, 2},
           {kApart, 0x1001},
           {kApart, ~0u},
           {~uint64_t{0}, 1},
           {~uint64_t{0} - 3, 8},
       }) {
    Make(0, {.size = kSize});
    offered_ = 0;
    EXPECT_THAT(PopErrorOf({{address, length, 0, 0}}), HasSubstr("no memory"));
  }
}

TEST_F(VirtqueueTest, AChainOfMoreThan4GiB) {
  // Many buffers over the same memory.
  MemoryTable table;
  auto big = *GuestMemory::Create({{0, uint64_t{1} << 32}});
  ASSERT_TRUE(table.Add(big->regions()[0], big->descriptor()).ok());
  driver_ = *DriverQueue::Create(big.get(), 0, {.size = kSize});
  ASSERT_TRUE(queue_.Configure(table, Layout(), 0, 0).ok());
  EXPECT_THAT(
      PopErrorOf(
          {{0, 0x80000000, kDescriptorNext, 1}, {0, 0x80000000, kDescriptorNext, 2}, {0, 1, 0, 0}}),
      HasSubstr("4 GiB"));
}

TEST_F(VirtqueueTest, ReadableBehindWritable) {
  EXPECT_THAT(PopErrorOf({{buffer_, 1, kDescriptorNext | kDescriptorWrite, 1}, {buffer_, 1, 0, 0}}),
              HasSubstr("behind one to write"));
}

// Indirect tables.

class IndirectTest : public VirtqueueTest {
 protected:
  void SetUp() override {
    Make(kFeatureIndirectDescriptors, {.size = kSize, .indirect_entries = kSize});
    table_address_ = memory_->Allocate(4096, 16);
  }
  void PutTable(uint64_t address, std::vector<Descriptor> descriptors) {
    for (const Descriptor& descriptor : descriptors) {
      // One byte after the other: it may cross regions.
      const auto* bytes = reinterpret_cast<const uint8_t*>(&descriptor);
      for (size_t i = 0; i < sizeof(descriptor); ++i) *memory_->At(address++) = bytes[i];
    }
  }
  Descriptor Indirect(uint64_t address, uint32_t entries) {
    return {address, static_cast<uint32_t>(entries * sizeof(Descriptor)), kDescriptorIndirect, 0};
  }

  uint64_t table_address_ = 0;
};

TEST_F(IndirectTest, AChainInATable) {
  const std::optional<uint16_t> head =
      driver_->Add({{buffer_, 4}, {buffer_ + 4, 7}, {buffer_ + 100, 50, true}});
  ASSERT_TRUE(head.has_value());
  EXPECT_EQ(driver_->free_descriptors(), kSize - 1);
  driver_->Publish();
  ASSERT_EQ(Pop(), PopResult::kChain);
  EXPECT_EQ(chain_.head, *head);
  EXPECT_EQ(chain_.readable_bytes, 11u);
  EXPECT_EQ(chain_.writable_bytes, 50u);
}

TEST_F(IndirectTest, ATableBehindOtherBuffers) {
  PutTable(table_address_, {{buffer_, 2, kDescriptorNext, 1}, {buffer_, 3, kDescriptorWrite, 0}});
  // A write flag of the table itself means nothing.
  Descriptor table = Indirect(table_address_, 2);
  table.flags |= kDescriptorWrite;
  driver_->SetDescriptor(5, {buffer_, 1, kDescriptorNext, 6});
  driver_->SetDescriptor(6, table);
  Offer(5);
  ASSERT_EQ(Pop(), PopResult::kChain);
  EXPECT_EQ(chain_.head, 5);
  EXPECT_EQ(chain_.readable_bytes, 3u);
  EXPECT_EQ(chain_.writable_bytes, 3u);
}

TEST_F(IndirectTest, ATableThatIsNotAligned) {
  PutTable(table_address_ + 1, {{buffer_, 2, kDescriptorNext, 1}, {buffer_, 3, 0, 0}});
  driver_->SetDescriptor(0, Indirect(table_address_ + 1, 2));
  Offer(0);
  ASSERT_EQ(Pop(), PopResult::kChain);
  EXPECT_EQ(chain_.readable_bytes, 5u);
}

TEST_F(IndirectTest, ATableOverAdjoiningRegions) {
  // The second descriptor lies in both.
  const uint64_t address = kSecond - 24;
  PutTable(address, {{buffer_, 2, kDescriptorNext, 1},
                     {buffer_ + 9, 3, kDescriptorNext, 2},
                     {buffer_, 4, kDescriptorWrite, 0}});
  driver_->SetDescriptor(0, Indirect(address, 3));
  Offer(0);
  ASSERT_EQ(Pop(), PopResult::kChain);
  ASSERT_EQ(chain_.readable.size(), 2u);
  EXPECT_EQ(chain_.readable[1].iov_base, table_.Piece(buffer_ + 9, 1).data());
  EXPECT_EQ(chain_.readable_bytes, 5u);
  EXPECT_EQ(chain_.writable_bytes, 4u);
}

TEST_F(IndirectTest, ATableOfTheQueuesSizeAndNoMore) {
  std::vector<Descriptor> descriptors;
  for (uint32_t i = 0; i < kSize; ++i) {
    descriptors.push_back(
        {buffer_, 1, i + 1 < kSize ? kDescriptorNext : uint16_t{0}, static_cast<uint16_t>(i + 1)});
  }
  PutTable(table_address_, descriptors);
  driver_->SetDescriptor(0, Indirect(table_address_, kSize));
  Offer(0);
  ASSERT_EQ(Pop(), PopResult::kChain);
  EXPECT_EQ(chain_.readable_bytes, kSize);
  EXPECT_THAT(PopErrorOf({Indirect(table_address_, kSize + 1)}), HasSubstr("table of 17"));
}

TEST_F(IndirectTest, ATableAndAChainBeforeItAreOneLength) {
  std::vector<Descriptor> descriptors;
  for (uint32_t i = 0; i < kSize; ++i) {
    descriptors.push_back(
        {buffer_, 1, i + 1 < kSize ? kDescriptorNext : uint16_t{0}, static_cast<uint16_t>(i + 1)});
  }
  PutTable(table_address_, descriptors);
  EXPECT_THAT(PopErrorOf({{buffer_, 1, kDescriptorNext, 1}, Indirect(table_address_, kSize)}),
              HasSubstr("more descriptors than the queue"));
}

TEST_F(IndirectTest, NotNegotiated) {
  ASSERT_TRUE(queue_.Configure(table_, Layout(), 0, 0).ok());
  EXPECT_THAT(PopErrorOf({Indirect(table_address_, 2)}), HasSubstr("not negotiated"));
}

TEST_F(IndirectTest, Nested) {
  PutTable(table_address_, {Indirect(table_address_, 1)});
  EXPECT_THAT(PopErrorOf({Indirect(table_address_, 1)}), HasSubstr("within an indirect table"));
}

TEST_F(IndirectTest, WithANext) {
  Descriptor table = Indirect(table_address_, 2);
  table.flags |= kDescriptorNext;
  EXPECT_THAT(PopErrorOf({table}), HasSubstr("next"));
}

TEST_F(IndirectTest, OddLengths) {
  for (const uint32_t length : {0u, 1u, 15u, 17u, 31u}) {
    SetUp();
    offered_ = 0;
    EXPECT_THAT(PopErrorOf({{table_address_, length, kDescriptorIndirect, 0}}),
                HasSubstr("table of"));
  }
}

TEST_F(IndirectTest, OutsideMemory) {
  for (const uint64_t address :
       {uint64_t{0}, kSecond + 0xFF0, kApart - 16, kApart + 0xFF8, ~uint64_t{15}}) {
    SetUp();
    offered_ = 0;
    EXPECT_THAT(PopErrorOf({Indirect(address, 2)}), HasSubstr("no memory"));
  }
}

TEST_F(IndirectTest, ALoopInATable) {
  PutTable(table_address_, {{buffer_, 0, kDescriptorNext, 1}, {buffer_, 0, kDescriptorNext, 0}});
  EXPECT_THAT(PopErrorOf({Indirect(table_address_, 2)}), HasSubstr("loop"));
}

TEST_F(IndirectTest, NextOutOfTheTable) {
  PutTable(table_address_, {{buffer_, 1, kDescriptorNext, 2}, {}, {buffer_, 1, 0, 0}});
  EXPECT_THAT(PopErrorOf({Indirect(table_address_, 2)}), HasSubstr("descriptor 2 of 2"));
}

// Rewind().

TEST_F(VirtqueueTest, RewoundChainsComeAgain) {
  for (uint32_t i = 1; i <= 4; ++i) driver_->Add({{buffer_, i}});
  driver_->Publish();
  for (int i = 0; i < 4; ++i) ASSERT_EQ(Pop(), PopResult::kChain);
  EXPECT_EQ(queue_.outstanding(), 4u);
  queue_.Rewind(3);
  EXPECT_EQ(queue_.outstanding(), 1u);
  EXPECT_EQ(queue_.seen(), 3u);
  EXPECT_EQ(queue_.next_available(), 1u);
  for (uint32_t i = 2; i <= 4; ++i) {
    ASSERT_EQ(Pop(), PopResult::kChain);
    EXPECT_EQ(chain_.readable_bytes, i);
  }
  EXPECT_EQ(Pop(), PopResult::kEmpty);
}

TEST_F(VirtqueueTest, SomeAreUsedAndTheRestRewound) {
  Make(0, {.size = kSize, .first = 0xFFFE});
  for (uint32_t i = 1; i <= 4; ++i) driver_->Add({{buffer_, i, true}});
  driver_->Publish();
  for (int i = 0; i < 4; ++i) {
    ASSERT_EQ(Pop(), PopResult::kChain);
    if (i == 0) queue_.PushUsed(chain_.head, 1);
  }
  queue_.Rewind(3);
  EXPECT_TRUE(queue_.Flush());
  absl::StatusOr<std::optional<DriverQueue::Used>> used = driver_->Reap();
  ASSERT_TRUE(used.ok() && used->has_value());
  EXPECT_FALSE(driver_->HasUsed());
  EXPECT_EQ(queue_.next_available(), 0xFFFF);
  ASSERT_EQ(Pop(), PopResult::kChain);
  EXPECT_EQ(chain_.writable_bytes, 2u);
}

// A rewound chain is judged again, as the driver may have changed it meanwhile.
TEST_F(VirtqueueTest, RewoundChainsAreCheckedAgain) {
  driver_->SetDescriptor(0, {buffer_, 1, 0, 0});
  Offer(0);
  ASSERT_EQ(Pop(), PopResult::kChain);
  queue_.Rewind(1);
  driver_->SetDescriptor(0, {0, 1, 0, 0});
  EXPECT_THAT(PopError(), HasSubstr("no memory"));
}

// Several chains into one room, for one readv().
TEST_F(VirtqueueTest, ChainsBehindEachOtherInOneRoom) {
  for (uint32_t i = 1; i <= 3; ++i) driver_->Add({{buffer_, i, true}, {buffer_ + 64, i, true}});
  driver_->Publish();
  absl::Span<iovec> left = absl::MakeSpan(room_);
  for (int i = 0; i < 3; ++i) {
    absl::StatusOr<PopResult> got = queue_.Pop(left, &chain_);
    ASSERT_TRUE(got.ok() && *got == PopResult::kChain);
    EXPECT_EQ(chain_.writable.data(), left.data());
    left.remove_prefix(chain_.writable.size());
  }
  EXPECT_EQ(left.data() - room_.data(), 6);
}

// Notifications.

TEST_F(VirtqueueTest, TheFirstFlushNotifiesAlways) {
  Make(kRingBits, {.size = kSize});
  driver_->DisableInterrupts();
  driver_->Add({{buffer_, 1}});
  driver_->Publish();
  ASSERT_EQ(Pop(), PopResult::kChain);
  EXPECT_FALSE(queue_.Flush());
  queue_.PushUsed(chain_.head, 0);
  EXPECT_TRUE(queue_.Flush());
  EXPECT_FALSE(queue_.Flush());
}

TEST_F(VirtqueueTest, FlagsSilenceBothSides) {
  const auto echo = [this] {
    EXPECT_EQ(Pop(), PopResult::kChain);
    queue_.PushUsed(chain_.head, 0);
    return queue_.Flush();
  };
  const auto add = [this] {
    driver_->Add({{buffer_, 1}});
    return driver_->Publish();
  };
  EXPECT_TRUE(add());
  EXPECT_TRUE(echo());
  queue_.DisableKicks();
  EXPECT_FALSE(add());
  EXPECT_TRUE(echo());
  driver_->DisableInterrupts();
  EXPECT_FALSE(add());
  EXPECT_FALSE(echo());
  EXPECT_TRUE(driver_->EnableInterrupts());
  EXPECT_FALSE(queue_.EnableKicks());
  EXPECT_TRUE(add());
  EXPECT_TRUE(queue_.EnableKicks());
  EXPECT_TRUE(echo());
}

TEST_F(VirtqueueTest, EventsSilenceBothSides) {
  Make(kRingBits, {.size = kSize});
  const auto echo = [this] {
    EXPECT_EQ(Pop(), PopResult::kChain);
    queue_.PushUsed(chain_.head, 0);
    return queue_.Flush();
  };
  const auto add = [this] {
    driver_->Add({{buffer_, 1}});
    return driver_->Publish();
  };
  const auto reap = [this] {
    absl::StatusOr<std::optional<DriverQueue::Used>> used = driver_->Reap();
    EXPECT_TRUE(used.ok() && used->has_value());
  };
  EXPECT_TRUE(add());
  EXPECT_FALSE(add());  // one kick for what was asked
  EXPECT_TRUE(echo());
  EXPECT_FALSE(echo());  // one interrupt
  EXPECT_FALSE(queue_.EnableKicks());
  EXPECT_TRUE(driver_->EnableInterrupts());
  reap();
  reap();
  EXPECT_FALSE(driver_->EnableInterrupts());
  EXPECT_TRUE(add());
  EXPECT_TRUE(queue_.EnableKicks());
  EXPECT_TRUE(echo());
  reap();
  driver_->DisableInterrupts();
  EXPECT_FALSE(queue_.EnableKicks());
  EXPECT_TRUE(add());
  EXPECT_FALSE(echo());
  reap();
}

// The event may be any within a batch.
TEST_F(VirtqueueTest, ABatchThatPassesTheEventNotifiesOnce) {
  Make(kRingBits, {.size = kSize});
  const auto batch = [this](int chains) {
    for (int i = 0; i < chains; ++i) driver_->Add({{buffer_, 1}});
    driver_->Publish();
    for (int i = 0; i < chains; ++i) {
      EXPECT_EQ(Pop(), PopResult::kChain);
      queue_.PushUsed(chain_.head, 0);
    }
    const bool wanted = queue_.Flush();
    for (int i = 0; i < chains; ++i) EXPECT_TRUE(driver_->Reap().ok());
    return wanted;
  };
  EXPECT_TRUE(batch(1));
  const auto expect_event = [this](uint16_t event) {
    Store16(driver_->available() + kRingEntries + 2 * kSize, event);
  };
  expect_event(4);
  EXPECT_FALSE(batch(3));  // 1..3
  EXPECT_TRUE(batch(3));   // 4..6
  EXPECT_FALSE(batch(3));
}

TEST_F(VirtqueueTest, LiesInTheUsedRingHarmNobodyElse) {
  Store16(driver_->used() + kRingIndex, 0xBEEF);
  ASSERT_TRUE(queue_.Configure(table_, Layout(), 0, 0).ok());
  driver_->Add({{buffer_, 1}});
  driver_->Publish();
  ASSERT_EQ(Pop(), PopResult::kChain);
  queue_.PushUsed(chain_.head, 7);
  queue_.Flush();
  EXPECT_EQ(Load16(driver_->used() + kRingIndex), 0xBEF0);
  EXPECT_EQ(Load32(driver_->used() + kRingEntries + 8 * (0xBEEF % kSize) + 4), 7u);
}

// A driver and a device do anything in any order, and no chain is lost, doubled or swapped.
TEST_F(VirtqueueTest, RandomWalk) {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    std::mt19937 random(seed);
    const auto pick = [&random](uint32_t n) { return static_cast<uint32_t>(random() % n); };
    const uint64_t features = pick(2) * kFeatureEventIndex + pick(2) * kFeatureIndirectDescriptors;
    Make(features, {.size = kSize,
                    .indirect_entries = (features & kFeatureIndirectDescriptors) != 0 ? 8u : 0u,
                    .first = static_cast<uint16_t>(random())});
    std::vector<std::pair<uint16_t, uint32_t>> added;   // head, bytes; not popped
    std::vector<std::pair<uint16_t, uint32_t>> popped;  // not pushed
    std::vector<std::pair<uint16_t, uint32_t>> pushed;  // not reaped
    for (int step = 0; step < 2000; ++step) {
      switch (pick(6)) {
        case 0: {
          std::vector<Buffer> buffers(1 + pick(4));
          uint32_t bytes = 0;
          for (Buffer& buffer : buffers) {
            buffer = {buffer_ + pick(1000), 1 + pick(1000), true};
            bytes += buffer.length;
          }
          const std::optional<uint16_t> head = driver_->Add(buffers);
          if (head.has_value()) added.emplace_back(*head, bytes);
          break;
        }
        case 1:
          driver_->Publish();
          break;
        case 2:
          if (Pop() == PopResult::kChain) {
            ASSERT_FALSE(added.empty());
            ASSERT_EQ(chain_.head, added.front().first);
            ASSERT_EQ(chain_.writable_bytes, added.front().second);
            popped.push_back(added.front());
            added.erase(added.begin());
          } else {
            queue_.EnableKicks();
          }
          break;
        case 3:
          if (!popped.empty()) {
            queue_.PushUsed(popped.front().first, popped.front().second);
            pushed.push_back(popped.front());
            popped.erase(popped.begin());
          }
          break;
        case 4: {
          const uint32_t back = pick(static_cast<uint32_t>(popped.size()) + 1);
          queue_.Rewind(back);
          for (uint32_t i = 0; i < back; ++i) {
            added.insert(added.begin(), popped.back());
            popped.pop_back();
          }
          break;
        }
        case 5:
          queue_.Flush();
          while (!pushed.empty()) {
            absl::StatusOr<std::optional<DriverQueue::Used>> used = driver_->Reap();
            ASSERT_TRUE(used.ok() && used->has_value());
            ASSERT_EQ((*used)->head, pushed.front().first);
            ASSERT_EQ((*used)->length, pushed.front().second);
            pushed.erase(pushed.begin());
          }
          ASSERT_FALSE(driver_->HasUsed());
          break;
      }
      ASSERT_EQ(queue_.outstanding(), popped.size());
    }
  }
}

}  // namespace
}  // namespace argosy::vhost_user
