// SPDX-License-Identifier: Apache-2.0
#include "sim/guest_memory.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <string.h>

#include <algorithm>

#include "transport/error.h"

namespace argosy::sim {
namespace {

constexpr size_t kPage = GuestMemory::kPageSize;

TEST(GuestMemory, SizesOutOfRange) {
  EXPECT_EQ(ErrnoOf(GuestMemory::Create(0).status()), EINVAL);
  EXPECT_EQ(ErrnoOf(GuestMemory::Create(kPage).status()), EINVAL);
  EXPECT_EQ(ErrnoOf(GuestMemory::Create(GuestMemory::kMaxBytes + 1).status()), EINVAL);
  EXPECT_TRUE(GuestMemory::Create(kPage + 1).ok());
}

TEST(GuestMemory, PagesAreTheirFrames) {
  auto memory = *GuestMemory::Create(16 * kPage);
  Pages a = *memory->AllocatePages(3);
  Pages b = *memory->AllocatePages(1);
  ASSERT_EQ(a.gfns.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(memory->At(a.gfns[i]), a.memory + i * kPage);
    EXPECT_EQ(memory->FrameAt(a.gfns[i]), GuestMemory::Frame::kMemory);
  }
  EXPECT_TRUE(b.memory >= a.memory + 3 * kPage || b.memory + kPage <= a.memory);
  EXPECT_EQ(memory->FrameAt(0), GuestMemory::Frame::kNothing);
  EXPECT_EQ(memory->FrameAt(15), GuestMemory::Frame::kMemory);
  EXPECT_EQ(memory->FrameAt(16), GuestMemory::Frame::kNothing);
  EXPECT_EQ(memory->FrameAt(~uint64_t{0}), GuestMemory::Frame::kNothing);
  EXPECT_EQ(memory->FrameAt(memory->InvalidGfn()), GuestMemory::Frame::kNothing);
  EXPECT_EQ(memory->FrameAt(memory->MmioGfn()), GuestMemory::Frame::kDevice);
}

TEST(GuestMemory, ContainsOnlyItsOwn) {
  auto memory = *GuestMemory::Create(4 * kPage);
  uint8_t* first = memory->At(1);
  EXPECT_TRUE(memory->Contains(first, 3 * kPage));
  EXPECT_FALSE(memory->Contains(first, 3 * kPage + 1));
  EXPECT_FALSE(memory->Contains(first - 1, 1));
  EXPECT_TRUE(memory->Contains(first + 3 * kPage - 1, 1));
  EXPECT_FALSE(memory->Contains(memory->BadPointer(), 1));
  EXPECT_FALSE(memory->Contains(nullptr, 1));
  EXPECT_FALSE(memory->Contains(first, ~size_t{0}));
  EXPECT_FALSE(memory->Contains(reinterpret_cast<void*>(~uintptr_t{0}), 2));
  EXPECT_TRUE(memory->Contains(nullptr, 0));
}

TEST(GuestMemory, FreedPagesComeBackEmpty) {
  auto memory = *GuestMemory::Create(11 * kPage);
  Pages all[5];
  for (Pages& pages : all) {
    pages = *memory->AllocatePages(2);
    memset(pages.memory, 0xEE, 2 * kPage);
  }
  EXPECT_EQ(ErrnoOf(memory->AllocatePages(1).status()), ENOMEM);
  EXPECT_EQ(ErrnoOf(memory->AllocatePages(0).status()), EINVAL);
  EXPECT_EQ(memory->Allocate(1), nullptr);
  // In an order that joins runs behind, before and on both sides.
  for (int i : {1, 3, 0, 4, 2}) memory->FreePages(all[i]);
  Pages again = *memory->AllocatePages(10);
  EXPECT_TRUE(
      std::all_of(again.memory, again.memory + 10 * kPage, [](uint8_t b) { return b == 0; }));
}

TEST(GuestMemory, SmallAllocationsAreAlignedAndApart) {
  auto memory = *GuestMemory::Create(8 * kPage);
  auto* a = static_cast<uint8_t*>(memory->Allocate(1));
  auto* b = static_cast<uint8_t*>(memory->Allocate(17));
  auto* c = static_cast<uint8_t*>(memory->Allocate(2 * kPage));
  for (uint8_t* p : {a, b, c}) {
    ASSERT_NE(p, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 16, 0u);
  }
  EXPECT_GE(b, a + 16);
  EXPECT_TRUE(memory->Contains(c, 2 * kPage));
  EXPECT_TRUE(c >= b + 32 || c + 2 * kPage <= a);
  EXPECT_EQ(memory->Allocate(~size_t{0}), nullptr);
}

}  // namespace
}  // namespace argosy::sim
