// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/bus_error.h"

#include <signal.h>
#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <cstdint>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "transport/error.h"

namespace argosy::vhost_user {
namespace {

// What the handler reads, so neither locks nor memory that moves.
struct Slot {
  std::atomic<bool> taken{false};
  std::atomic<bool> hit{false};
  std::atomic<uintptr_t> begin{0};
  std::atomic<uintptr_t> end{0};  // 0: not in use; written last, cleared first
  std::atomic<uintptr_t> page_size{0};
};
static_assert(std::atomic<uintptr_t>::is_always_lock_free);

constinit Slot slots[BusErrorWatch::kMaxWatches];
constinit std::atomic<size_t> slots_touched{0};  // slots behind it were never used
struct sigaction previous;

// Puts a zeroed page where one is missing.  Only async-signal-safe calls: mmap is none by POSIX,
// but on Linux it is a bare system call.
bool Mend(uintptr_t address) {
  const size_t count = slots_touched.load(std::memory_order_acquire);
  for (size_t i = 0; i < count; ++i) {
    Slot& slot = slots[i];
    if (address >= slot.end.load(std::memory_order_acquire)) continue;
    if (address < slot.begin.load(std::memory_order_relaxed)) continue;
    const uintptr_t page_size = slot.page_size.load(std::memory_order_relaxed);
    void* const page = reinterpret_cast<void*>(address & ~(page_size - 1));
    if (mmap(page, page_size, PROT_READ | PROT_WRITE,
             MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) == MAP_FAILED) {
      return false;
    }
    slot.hit.store(true, std::memory_order_relaxed);
    return true;
  }
  return false;
}

void OnBusError(int number, siginfo_t* info, void*) {
  const int saved = errno;
  // A signal that somebody sent has no address.
  const bool mended =
      info->si_code == BUS_ADRERR && Mend(reinterpret_cast<uintptr_t>(info->si_addr));
  if (!mended) {
    // As if we had never been here: the access is repeated, or the signal sent again, and meets
    // the handler of before.
    sigaction(SIGBUS, &previous, nullptr);
    if (info->si_code <= 0) raise(number);
  }
  errno = saved;
}

int Install() {
  struct sigaction action = {};
  action.sa_sigaction = OnBusError;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  return sigaction(SIGBUS, &action, &previous) == 0 ? 0 : errno;
}

}  // namespace

absl::StatusOr<std::unique_ptr<BusErrorWatch>> BusErrorWatch::Begin(void* begin, size_t size,
                                                                    size_t page_size) {
  static const int install_error = Install();
  if (install_error != 0) return SystemError(install_error, "handling SIGBUS");
  for (size_t i = 0; i < kMaxWatches; ++i) {
    Slot& slot = slots[i];
    if (slot.taken.exchange(true, std::memory_order_acquire)) continue;
    const auto address = reinterpret_cast<uintptr_t>(begin);
    slot.hit.store(false, std::memory_order_relaxed);
    slot.page_size.store(page_size, std::memory_order_relaxed);
    slot.begin.store(address, std::memory_order_relaxed);
    slot.end.store(address + size, std::memory_order_release);
    size_t touched = slots_touched.load(std::memory_order_relaxed);
    while (touched <= i && !slots_touched.compare_exchange_weak(touched, i + 1)) {
    }
    return absl::WrapUnique(new BusErrorWatch(i));
  }
  return ErrnoError(ENOBUFS, absl::StrCat("more than ", kMaxWatches, " memory regions"));
}

BusErrorWatch::~BusErrorWatch() {
  Slot& slot = slots[slot_];
  slot.end.store(0, std::memory_order_release);
  slot.taken.store(false, std::memory_order_release);
}

bool BusErrorWatch::hit() const { return slots[slot_].hit.load(std::memory_order_relaxed); }

}  // namespace argosy::vhost_user
