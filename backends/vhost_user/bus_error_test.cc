// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/bus_error.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "transport/error.h"
#include "transport/unique_fd.h"

namespace argosy::vhost_user {
namespace {

const size_t kPage = static_cast<size_t>(sysconf(_SC_PAGESIZE));

// A mapped file that can be made shorter.
class File {
 public:
  explicit File(size_t pages) : size_(pages * kPage), fd_(memfd_create("bus", MFD_CLOEXEC)) {
    EXPECT_EQ(ftruncate(fd_.get(), static_cast<off_t>(size_)), 0);
    data_ = static_cast<volatile uint8_t*>(
        mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0));
  }
  ~File() { munmap(begin(), size_); }

  void Shorten(size_t pages) {
    EXPECT_EQ(ftruncate(fd_.get(), static_cast<off_t>(pages * kPage)), 0);
  }
  std::unique_ptr<BusErrorWatch> Watch() { return *BusErrorWatch::Begin(begin(), size_, kPage); }
  void* begin() { return const_cast<uint8_t*>(data_); }
  volatile uint8_t* data() { return data_; }

 private:
  const size_t size_;
  UniqueFd fd_;
  volatile uint8_t* data_;
};

TEST(BusError, AMissingPageReadsAsZero) {
  File file(3);
  file.data()[0] = 1;
  file.data()[kPage] = 2;
  const auto watch = file.Watch();
  EXPECT_FALSE(watch->hit());
  file.Shorten(1);
  EXPECT_EQ(file.data()[0], 1);
  EXPECT_FALSE(watch->hit());
  EXPECT_EQ(file.data()[kPage], 0);
  EXPECT_TRUE(watch->hit());
  // The last byte, in a page of its own; and the replacement can be written.
  file.data()[3 * kPage - 1] = 3;
  EXPECT_EQ(file.data()[3 * kPage - 1], 3);
}

TEST(BusError, OnlyTheRangeThatWasHitSaysSo) {
  File one(1), other(1);
  const auto watch = one.Watch();
  const auto other_watch = other.Watch();
  other.Shorten(0);
  EXPECT_EQ(other.data()[0], 0);
  EXPECT_FALSE(watch->hit());
  EXPECT_TRUE(other_watch->hit());
}

TEST(BusError, AWatchBeginsWithoutTheHitOfTheLast) {
  {
    File file(1);
    const auto watch = file.Watch();
    file.Shorten(0);
    EXPECT_EQ(file.data()[0], 0);
    EXPECT_TRUE(watch->hit());
  }
  File file(1);
  EXPECT_FALSE(file.Watch()->hit());
}

TEST(BusError, ErrnoIsKept) {
  File file(1);
  const auto watch = file.Watch();
  file.Shorten(0);
  errno = 1234;
  (void)file.data()[0];
  EXPECT_EQ(errno, 1234);
}

TEST(BusError, ManyWatches) {
  File file(1);
  std::vector<std::unique_ptr<BusErrorWatch>> watches;
  for (size_t i = 0; i < BusErrorWatch::kMaxWatches; ++i) watches.push_back(file.Watch());
  EXPECT_EQ(ErrnoOf(BusErrorWatch::Begin(file.begin(), kPage, kPage).status()), ENOBUFS);
  watches.pop_back();
  EXPECT_TRUE(BusErrorWatch::Begin(file.begin(), kPage, kPage).ok());
}

// Under a sanitizer it is the sanitizer that ends the process, with a report of its own.
bool EndedByBusError(int status) {
  return (WIFSIGNALED(status) && (WTERMSIG(status) == SIGBUS || WTERMSIG(status) == SIGABRT)) ||
         (WIFEXITED(status) && WEXITSTATUS(status) != 0);
}

void TouchElsewhere() {
  File watched(1), other(1);
  const auto watch = watched.Watch();
  other.Shorten(0);
  other.data()[0] = 1;
  exit(0);
}

void TouchAfterTheWatch() {
  File file(1);
  file.Watch().reset();
  file.Shorten(0);
  file.data()[0] = 1;
  exit(0);
}

void SendTheSignal() {
  File file(1);
  const auto watch = file.Watch();
  kill(getpid(), SIGBUS);
  exit(0);
}

TEST(BusErrorDeathTest, ElsewhereTheProcessEnds) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(TouchElsewhere(), EndedByBusError, "");
}

TEST(BusErrorDeathTest, AfterTheWatchTheProcessEnds) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(TouchAfterTheWatch(), EndedByBusError, "");
}

TEST(BusErrorDeathTest, ASignalThatWasSentEndsTheProcess) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(SendTheSignal(), EndedByBusError, "");
}

}  // namespace
}  // namespace argosy::vhost_user
