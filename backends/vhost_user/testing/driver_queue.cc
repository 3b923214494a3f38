// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/testing/driver_queue.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "transport/error.h"

namespace argosy::vhost_user {

absl::StatusOr<std::unique_ptr<DriverQueue>> DriverQueue::Create(GuestMemory* memory,
                                                                 uint32_t index,
                                                                 const Options& options) {
  auto queue = absl::WrapUnique(new DriverQueue(memory, index, options));
  if (!queue->kick_.valid() || !queue->call_.valid()) return SystemError(errno, "eventfd");
  return queue;
}

DriverQueue::DriverQueue(GuestMemory* memory, uint32_t index, const Options& options)
    : memory_(memory),
      index_(index),
      size_(options.size),
      event_index_(options.event_index),
      indirect_entries_(options.indirect_entries),
      first_(options.first),
      kick_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
      call_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
      descriptors_address_(memory->Allocate(DescriptorsBytes(size_), 16)),
      // Room for the events always; and no cache line that both sides write.
      available_address_(memory->Allocate(AvailableBytes(size_, true), 64)),
      used_address_(memory->Allocate(UsedBytes(size_, true), 64)),
      descriptors_(memory->At(descriptors_address_)),
      available_(memory->At(available_address_)),
      used_(memory->At(used_address_)),
      next_free_(size_),
      chain_length_(size_),
      indirect_tables_(size_),
      free_count_(size_),
      next_available_(options.first),
      published_(options.first),
      next_used_(options.first) {
  for (uint32_t i = 0; i < size_; ++i) next_free_[i] = static_cast<uint16_t>(i + 1);
  Store16(available_ + kRingIndex, first_);
  Store16(used_ + kRingIndex, first_);
  if (event_index_) EnableInterrupts();
}

VringAddress DriverQueue::address() const {
  return {.index = index_,
          .flags = 0,
          .descriptors = memory_->VmmAddress(descriptors_address_),
          .used = memory_->VmmAddress(used_address_),
          .available = memory_->VmmAddress(available_address_),
          .log = 0};
}

void DriverQueue::SetDescriptor(uint16_t index, const Descriptor& descriptor) {
  std::memcpy(descriptors_ + sizeof(Descriptor) * index, &descriptor, sizeof(descriptor));
}

void DriverQueue::SetAvailable(uint16_t number, uint16_t head) {
  Store16(available_ + kRingEntries + size_t{2} * (number & (size_ - 1)), head);
}

void DriverQueue::SetAvailableIndex(uint16_t index) {
  Store16Release(available_ + kRingIndex, index);
}

std::optional<uint16_t> DriverQueue::Add(absl::Span<const Buffer> buffers) {
  const bool indirect = buffers.size() > 1 && buffers.size() <= indirect_entries_;
  const size_t needed = indirect ? 1 : buffers.size();
  if (needed == 0 || needed > free_count_) return std::nullopt;
  const uint16_t head = free_head_;
  uint64_t& table = indirect_tables_[head];
  if (indirect && table == 0) table = memory_->Allocate(DescriptorsBytes(indirect_entries_), 16);
  uint16_t index = head;
  for (size_t i = 0; i < buffers.size(); ++i) {
    Descriptor descriptor = {buffers[i].address, buffers[i].length, 0, 0};
    if (buffers[i].device_writes) descriptor.flags |= kDescriptorWrite;
    if (i + 1 < buffers.size()) {
      descriptor.flags |= kDescriptorNext;
      descriptor.next = indirect ? static_cast<uint16_t>(i + 1) : next_free_[index];
    }
    if (indirect) {
      std::memcpy(memory_->At(table + sizeof(Descriptor) * i), &descriptor, sizeof(descriptor));
    } else {
      SetDescriptor(index, descriptor);
      index = next_free_[index];
    }
  }
  if (indirect) {
    SetDescriptor(head, {table, static_cast<uint32_t>(DescriptorsBytes(buffers.size())),
                         kDescriptorIndirect, 0});
    index = next_free_[head];
  }
  free_head_ = index;
  free_count_ -= needed;
  ++in_flight_;
  chain_length_[head] = static_cast<uint16_t>(needed);
  SetAvailable(next_available_++, head);
  return head;
}

bool DriverQueue::Publish() {
  const uint16_t before = published_;
  if (next_available_ == before) return false;
  SetAvailableIndex(next_available_);
  published_ = next_available_;
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const bool wanted = event_index_ ? EventPassed(Load16(used_ + kRingEntries + size_t{8} * size_),
                                                 published_, before)
                                   : (Load16(used_ + kRingFlags) & kSilence) == 0;
  if (wanted) Kick();
  return wanted;
}

void DriverQueue::Kick() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = write(kick_.get(), &one, sizeof(one));
}

absl::StatusOr<std::optional<DriverQueue::Used>> DriverQueue::Reap() {
  if (!HasUsed()) return std::nullopt;
  const uint8_t* entry = used_ + kRingEntries + size_t{8} * (next_used_ & (size_ - 1));
  const uint32_t id = Load32(entry);
  const uint32_t length = Load32(entry + 4);
  if (id >= size_ || chain_length_[id] == 0) {
    return ErrnoError(EPROTO,
                      absl::StrCat("the device gave back chain ", id, ", which it does not have"));
  }
  const auto head = static_cast<uint16_t>(id);
  uint16_t last = head;
  for (uint16_t i = 1; i < chain_length_[head]; ++i) last = next_free_[last];
  next_free_[last] = free_head_;
  free_head_ = head;
  free_count_ += chain_length_[head];
  --in_flight_;
  chain_length_[head] = 0;
  ++next_used_;
  return Used{head, length};
}

bool DriverQueue::EnableInterrupts() {
  if (event_index_) {
    Store16(available_ + kRingEntries + size_t{2} * size_, next_used_);
  } else {
    Store16(available_ + kRingFlags, 0);
  }
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return HasUsed();
}

void DriverQueue::DisableInterrupts() {
  if (event_index_) {
    // One that has passed.
    Store16(available_ + kRingEntries + size_t{2} * size_, static_cast<uint16_t>(next_used_ - 1));
  } else {
    Store16(available_ + kRingFlags, kSilence);
  }
}

bool DriverQueue::TakeInterrupt() {
  uint64_t count;
  return read(call_.get(), &count, sizeof(count)) == sizeof(count);
}

absl::Status DriverQueue::WaitUsed(absl::Time deadline, const Pump& pump) {
  while (!EnableInterrupts()) {
    if (!WaitReadable(call_.get(), deadline, pump)) {
      return ErrnoError(ETIMEDOUT, absl::StrCat("queue ", index_, ": nothing was given back"));
    }
    TakeInterrupt();
  }
  return absl::OkStatus();
}

}  // namespace argosy::vhost_user
