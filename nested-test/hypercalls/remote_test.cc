// SPDX-License-Identifier: Apache-2.0
#include "nested-test/hypercalls/remote.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <string.h>
#include <sys/socket.h>

#include <string>

#include "transport/error.h"
#include "transport/unique_fd.h"

namespace argosy::nested {
namespace {

constexpr size_t kPage = SharedPages::kPageSize;

// Two pages.  Here both ends would share them, so each test has one end and plays the other.
class SharedPagesTest : public testing::Test {
 protected:
  SharedPagesTest() {
    pages_.Add(Address(0), 2);
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    ours_.reset(ends[0]);
    theirs_.reset(ends[1]);
  }
  uint64_t Address(size_t offset) { return reinterpret_cast<uintptr_t>(memory_) + offset; }
  absl::Status Receive(uint64_t address, char fill) {
    const std::string page(kPage, fill);
    EXPECT_TRUE(WriteAll(theirs_.get(), &address, sizeof(address)).ok());
    EXPECT_TRUE(WriteAll(theirs_.get(), page.data(), page.size()).ok());
    return pages_.Apply(ours_.get(), 1);
  }

  alignas(kPage) char memory_[2 * kPage] = {};
  SharedPages pages_;
  UniqueFd ours_, theirs_;
};

TEST_F(SharedPagesTest, AChangedPageIsTakenOnceAndWhole) {
  std::string out;
  EXPECT_EQ(pages_.TakeChanges(&out), 0u);
  EXPECT_EQ(out, "");
  memory_[kPage + 7] = 'x';
  EXPECT_EQ(pages_.TakeChanges(&out), 1u);
  ASSERT_EQ(out.size(), sizeof(uint64_t) + kPage);
  uint64_t address;
  memcpy(&address, out.data(), sizeof(address));
  EXPECT_EQ(address, Address(kPage));
  EXPECT_EQ(memcmp(out.data() + sizeof(address), &memory_[kPage], kPage), 0);
  EXPECT_EQ(pages_.TakeChanges(&out), 0u);
}

TEST_F(SharedPagesTest, WhatTheOtherSideChangedIsNoChangeOfOurs) {
  ASSERT_TRUE(Receive(Address(kPage), 'y').ok());
  EXPECT_EQ(memory_[0], 0);
  EXPECT_EQ(memory_[kPage], 'y');
  EXPECT_EQ(memory_[2 * kPage - 1], 'y');
  std::string out;
  EXPECT_EQ(pages_.TakeChanges(&out), 0u);
}

TEST_F(SharedPagesTest, PagesOfNobodyAreRefused) {
  for (uint64_t address : {Address(2 * kPage), Address(0) - kPage, Address(1)}) {
    EXPECT_EQ(ErrnoOf(Receive(address, 'z')), EPROTO);
    char rest[kPage];
    ASSERT_TRUE(ReadAll(ours_.get(), rest, sizeof(rest)).ok());
  }
  EXPECT_EQ(std::string(memory_, sizeof(memory_)), std::string(2 * kPage, 0));
}

TEST_F(SharedPagesTest, TheEndOfTheConnectionIsAnError) {
  theirs_.reset();
  EXPECT_EQ(ErrnoOf(pages_.Apply(ours_.get(), 1)), ECONNRESET);
}

}  // namespace
}  // namespace argosy::nested
