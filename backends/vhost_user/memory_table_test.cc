// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/memory_table.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "transport/error.h"
#include "transport/unique_fd.h"

namespace argosy::vhost_user {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

UniqueFd File(uint64_t size) {
  UniqueFd fd(memfd_create("table", MFD_CLOEXEC));
  EXPECT_EQ(ftruncate(fd.get(), static_cast<off_t>(size)), 0);
  return fd;
}

TEST(MemoryTable, NothingIsMemoryAtFirst) {
  const MemoryTable table;
  EXPECT_TRUE(table.Piece(0, 1).empty());
  EXPECT_TRUE(table.Piece(kMax, 1).empty());
  EXPECT_EQ(table.AtVmmAddress(0, 1), nullptr);
  EXPECT_TRUE(table.Check().ok());
}

TEST(MemoryTable, TheFileIsSeenAtItsAddresses) {
  const UniqueFd file = File(3 * kPage);
  ASSERT_EQ(pwrite(file.get(), "abc", 3, kPage + 5), 3);
  MemoryTable table;
  ASSERT_TRUE(table.Add({0x100000, 2 * kPage, 0x7000'0000'0000, kPage}, file.get()).ok());
  const absl::Span<uint8_t> piece = table.Piece(0x100005, 3);
  ASSERT_EQ(piece.size(), 3u);
  EXPECT_EQ(std::memcmp(piece.data(), "abc", 3), 0);
  EXPECT_EQ(table.AtVmmAddress(0x7000'0000'0005, 3), piece.data());
  // It is shared, not a copy.
  piece[0] = 'x';
  char byte = 0;
  ASSERT_EQ(pread(file.get(), &byte, 1, kPage + 5), 1);
  EXPECT_EQ(byte, 'x');
}

TEST(MemoryTable, EdgesOfARegion) {
  const UniqueFd file = File(kPage);
  MemoryTable table;
  ASSERT_TRUE(table.Add({0x10000, kPage, 0x50000, 0}, file.get()).ok());
  EXPECT_EQ(table.Piece(0x10000, kPage).size(), kPage);
  EXPECT_EQ(table.Piece(0x10000, kPage + 1).size(), kPage);
  EXPECT_EQ(table.Piece(0x10000, kMax).size(), kPage);
  EXPECT_EQ(table.Piece(0x10FFF, 2).size(), 1u);
  EXPECT_TRUE(table.Piece(0x11000, 1).empty());
  EXPECT_TRUE(table.Piece(0x0FFFF, 2).empty());
  EXPECT_TRUE(table.Piece(0x10000, 0).empty());
  EXPECT_NE(table.AtVmmAddress(0x50000, kPage), nullptr);
  EXPECT_EQ(table.AtVmmAddress(0x50000, kPage + 1), nullptr);
  EXPECT_EQ(table.AtVmmAddress(0x50001, kPage), nullptr);
  EXPECT_EQ(table.AtVmmAddress(0x50001, kMax), nullptr);
  EXPECT_EQ(table.AtVmmAddress(0x4FFFF, 1), nullptr);
}

TEST(MemoryTable, ARegionMayEndAtTheLastAddress) {
  const UniqueFd file = File(kPage);
  MemoryTable table;
  ASSERT_TRUE(table.Add({kMax - kPage, kPage, kMax - kPage, 0}, file.get()).ok());
  EXPECT_EQ(table.Piece(kMax - 1, 100).size(), 1u);
  EXPECT_TRUE(table.Piece(kMax, 1).empty());
}

TEST(MemoryTable, ARangeOverAdjoiningRegionsComesInPieces) {
  const UniqueFd file = File(2 * kPage);
  MemoryTable table;
  // Added and lying in the file in the other order.
  ASSERT_TRUE(table.Add({0x11000, kPage, 0x90000, 0}, file.get()).ok());
  ASSERT_TRUE(table.Add({0x10000, kPage, 0x50000, kPage}, file.get()).ok());
  uint64_t address = 0x10F00;
  uint64_t left = 0x200;
  uint8_t value = 1;
  while (left > 0) {
    const absl::Span<uint8_t> piece = table.Piece(address, left);
    ASSERT_EQ(piece.size(), 0x100u);
    piece[0] = value++;
    address += piece.size();
    left -= piece.size();
  }
  uint8_t bytes[2];
  ASSERT_EQ(pread(file.get(), &bytes[0], 1, 2 * kPage - 0x100), 1);
  ASSERT_EQ(pread(file.get(), &bytes[1], 1, 0), 1);
  EXPECT_EQ(bytes[0], 1);
  EXPECT_EQ(bytes[1], 2);
  // A ring may not.
  EXPECT_EQ(table.AtVmmAddress(0x50F00, 0x200), nullptr);
}

TEST(MemoryTable, AddressesAreFoundInAnyOrder) {
  const UniqueFd file = File(8 * kPage);
  MemoryTable table;
  for (uint64_t i : {5, 1, 7, 3}) {
    ASSERT_TRUE(table.Add({i * 0x10000, kPage, i * 0x100000, i * kPage}, file.get()).ok());
    *table.Piece(i * 0x10000, 1).data() = static_cast<uint8_t>(i);
  }
  for (uint64_t i : {1, 7, 3, 5, 5, 1}) {
    EXPECT_EQ(table.Piece(i * 0x10000, 1)[0], i);
    EXPECT_TRUE(table.Piece(i * 0x10000 + kPage, 1).empty());
    EXPECT_TRUE(table.Piece(i * 0x10000 - 1, 1).empty());
    EXPECT_EQ(table.AtVmmAddress(i * 0x100000, 1)[0], i);
  }
}

TEST(MemoryTable, RefusesWhatCannotBe) {
  const UniqueFd file = File(4 * kPage);
  MemoryTable table;
  ASSERT_TRUE(table.Add({0x10000, kPage, 0x50000, 0}, file.get()).ok());
  const struct {
    MemoryRegion region;
    const char* why;
  } cases[] = {
      {{0x20000, 0, 0x60000, 0}, "no such addresses"},
      {{kMax - kPage + 1, kPage, 0x60000, 0}, "no such addresses"},
      {{0x20000, kPage, kMax - kPage + 1, 0}, "no such addresses"},
      {{0x10000, kPage, 0x60000, kPage}, "overlaps"},
      {{0x0F000, 2 * kPage, 0x60000, kPage}, "overlaps"},
      {{0x10FFF, kPage, 0x60000, kPage}, "overlaps"},
      {{0x0F001, kPage, 0x60000, kPage}, "overlaps"},
      {{0x20000, kPage + 1, 0x60000, 3 * kPage}, "of a file of"},
      {{0x20000, kPage, 0x60000, 4 * kPage}, "of a file of"},
      {{0x20000, kPage, 0x60000, kMax}, "beyond any file"},
      {{0x20000, kPage, 0x60000, kMax / 2}, "beyond any file"},
      {{0x20000, kMax / 2, 0x60000, kPage}, "beyond any file"},
      {{0, kMax, 0, 1}, "overlaps"},
  };
  for (const auto& one : cases) {
    const absl::Status status = table.Add(one.region, file.get());
    EXPECT_EQ(ErrnoOf(status), EINVAL) << one.region.guest_address;
    EXPECT_THAT(status.message(), HasSubstr(one.why));
  }
  EXPECT_EQ(table.size(), 1u);
  EXPECT_EQ(table.Piece(0x10000, kPage).size(), kPage);
}

TEST(MemoryTable, RefusesWhatIsNoFile) {
  MemoryTable table;
  const UniqueFd event(eventfd(0, EFD_CLOEXEC));
  EXPECT_EQ(ErrnoOf(table.Add({0, kPage, 0, 0}, event.get())), EINVAL);
  const UniqueFd zero(open("/dev/zero", O_RDWR | O_CLOEXEC));
  EXPECT_EQ(ErrnoOf(table.Add({0, kPage, 0, 0}, zero.get())), EINVAL);
  EXPECT_EQ(ErrnoOf(table.Add({0, kPage, 0, 0}, -1)), EBADF);
  const UniqueFd file = File(kPage);
  const std::string path = "/proc/self/fd/" + std::to_string(file.get());
  const UniqueFd read_only(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(ErrnoOf(table.Add({0, kPage, 0, 0}, read_only.get())), EACCES);
}

TEST(MemoryTable, VmmAddressesMayBeShared) {
  const UniqueFd file = File(kPage);
  MemoryTable table;
  ASSERT_TRUE(table.Add({0x10000, kPage, 0x50000, 0}, file.get()).ok());
  EXPECT_TRUE(table.Add({0x20000, kPage, 0x50000, 0}, file.get()).ok());
}

TEST(MemoryTable, OffsetsNeedNoAlignment) {
  const UniqueFd file = File(2 * kPage);
  ASSERT_EQ(pwrite(file.get(), "z", 1, kPage + 100), 1);
  MemoryTable table;
  ASSERT_TRUE(table.Add({0x10001, 100, 0x50003, kPage + 1}, file.get()).ok());
  EXPECT_EQ(table.Piece(0x10001 + 99, 1)[0], 'z');
}

TEST(MemoryTable, HasNoMoreRegionsThanItSays) {
  const UniqueFd file = File(kPage);
  MemoryTable table;
  for (uint64_t i = 0; i < kMaxRegions; ++i) {
    ASSERT_TRUE(table.Add({i * kPage, kPage, i * kPage, 0}, file.get()).ok());
  }
  EXPECT_EQ(ErrnoOf(table.Add({kMaxRegions * kPage, kPage, 0, 0}, file.get())), ENOBUFS);
}

TEST(MemoryTable, Removes) {
  const UniqueFd file = File(2 * kPage);
  MemoryTable table;
  ASSERT_TRUE(table.Add({0x10000, kPage, 0x50000, 0}, file.get()).ok());
  ASSERT_TRUE(table.Add({0x20000, kPage, 0x60000, kPage}, file.get()).ok());
  EXPECT_FALSE(table.Piece(0x20000, 1).empty());
  EXPECT_EQ(ErrnoOf(table.Remove({0x20000, kPage, 0x50000, kPage})), EINVAL);
  EXPECT_EQ(ErrnoOf(table.Remove({0x20000, kPage - 1, 0x60000, kPage})), EINVAL);
  EXPECT_EQ(ErrnoOf(table.Remove({0x20001, kPage, 0x60000, kPage})), EINVAL);
  EXPECT_FALSE(table.Contains({0x20001, kPage, 0x60000, kPage}));
  // The offset in the file does not name a region.
  EXPECT_TRUE(table.Contains({0x20000, kPage, 0x60000, 77}));
  EXPECT_TRUE(table.Remove({0x20000, kPage, 0x60000, 77}).ok());
  EXPECT_TRUE(table.Piece(0x20000, 1).empty());
  EXPECT_FALSE(table.Piece(0x10000, 1).empty());
  EXPECT_TRUE(table.Remove({0x10000, kPage, 0x50000, 0}).ok());
  EXPECT_TRUE(table.Piece(0x10000, 1).empty());
}

TEST(MemoryTable, MovesWithItsMappings) {
  const UniqueFd file = File(kPage);
  MemoryTable table;
  ASSERT_TRUE(table.Add({0x10000, kPage, 0x50000, 0}, file.get()).ok());
  uint8_t* const data = table.Piece(0x10000, 1).data();
  MemoryTable other = std::move(table);
  EXPECT_EQ(other.Piece(0x10000, 1).data(), data);
}

TEST(MemoryTable, AFileThatShrinksIsNoticedAndHarmless) {
  const UniqueFd file = File(2 * kPage);
  const UniqueFd other = File(kPage);
  MemoryTable table;
  ASSERT_TRUE(table.Add({0x10000, 2 * kPage, 0x50000, 0}, file.get()).ok());
  ASSERT_TRUE(table.Add({0x20000, kPage, 0x60000, 0}, other.get()).ok());
  table.Piece(0x11000, 1)[0] = 1;
  EXPECT_TRUE(table.Check().ok());
  ASSERT_EQ(ftruncate(file.get(), kPage), 0);
  EXPECT_TRUE(table.Check().ok());
  EXPECT_EQ(*static_cast<volatile uint8_t*>(table.Piece(0x11000, 1).data()), 0);
  const absl::Status status = table.Check();
  EXPECT_EQ(ErrnoOf(status), EFAULT);
  EXPECT_THAT(status.message(), HasSubstr("guest address 0x10000"));
}

// Mapping a file of huge pages makes it as long as need be; whether there are such pages shows when
// one is touched.
TEST(MemoryTable, HugePages) {
  constexpr uint64_t kHuge = 2 << 20;
  const UniqueFd file(memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB));
  if (!file.valid()) GTEST_SKIP() << "no huge pages in this kernel";
  MemoryTable table;
  ASSERT_TRUE(table.Add({0x10000, kHuge, 0x50000, kHuge + 4096}, file.get()).ok());
  volatile uint8_t* const last = table.Piece(0x10000 + kHuge - 1, 1).data();
  *last = 1;
  EXPECT_EQ(*last, 1);
  struct stat about;
  ASSERT_EQ(fstat(file.get(), &about), 0);
  const bool had_pages = about.st_blocks > 0;
  EXPECT_EQ(table.Check().ok(), had_pages);
}

}  // namespace
}  // namespace argosy::vhost_user
