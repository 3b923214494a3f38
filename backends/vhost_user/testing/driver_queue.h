// SPDX-License-Identifier: Apache-2.0
// File: backends/vhost_user/testing/driver_queue.h
//
// The driver's side of a split virtqueue (virtio 1.3, 2.7) in the memory of a made-up VM.  For
// tests, fuzzers and benchmarks, against any device.
//
//   auto queue = *DriverQueue::Create(memory.get(), 1, {.size = 128});
//   queue->Add({{header, 44}, {payload, 4096}});
//   queue->Publish();                                     // kicks if the device wants that
//   queue->WaitUsed(deadline, pump);
//   absl::StatusOr<std::optional<DriverQueue::Used>> used = queue->Reap();
//
// A test that means harm writes to descriptors(), available() and used() itself, with the offsets
// and stores of ring_layout.h, or with the Set functions.
//
// One thread at a time.
#ifndef ARGOSY_BACKENDS_VHOST_USER_TESTING_DRIVER_QUEUE_H_
#define ARGOSY_BACKENDS_VHOST_USER_TESTING_DRIVER_QUEUE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "backends/vhost_user/protocol.h"
#include "backends/vhost_user/ring_layout.h"
#include "backends/vhost_user/testing/guest_memory.h"
#include "backends/vhost_user/testing/wait.h"
#include "transport/unique_fd.h"

namespace argosy::vhost_user {

// A piece of guest memory in a chain.
struct Buffer {
  uint64_t address = 0;
  uint32_t length = 0;
  bool device_writes = false;
};

class DriverQueue {
 public:
  struct Options {
    uint32_t size = 128;
    // What was negotiated: FrontEnd::features() has it.
    bool event_index = false;
    // Chains of two buffers and more go into tables of their own, of this many descriptors at most.
    uint32_t indirect_entries = 0;
    // Number of the first chain, for tests that let the indices wrap.
    uint16_t first = 0;
  };

  struct Used {
    uint16_t head;
    uint32_t length;  // bytes that the device wrote
  };

  // Queue number `index` of its device, with its rings taken from `memory`, which outlives it.
  // The system's error if there are no eventfds left.
  static absl::StatusOr<std::unique_ptr<DriverQueue>> Create(GuestMemory* memory, uint32_t index,
                                                             const Options& options);

  // Makes a chain of these buffers, in this order, of which the device learns with Publish().
  // Returns its head, or nothing if there are not enough free descriptors.
  std::optional<uint16_t> Add(absl::Span<const Buffer> buffers);
  // Shows the device what was added since.  Kicks if the device asked for it, and says so.
  bool Publish();
  // Kicks, asked or not.
  void Kick();

  bool HasUsed() const { return Load16Acquire(used_ + kRingIndex) != next_used_; }
  // The next chain that the device gave back; nothing if there is none.  EPROTO if the device
  // breaks a rule: it gave back what it does not have.
  absl::StatusOr<std::optional<Used>> Reap();
  // Asks to be interrupted for the next chain given back.  True if there is one already.
  bool EnableInterrupts();
  void DisableInterrupts();
  // Waits for a chain to be given back, by interrupt.  ETIMEDOUT.
  absl::Status WaitUsed(absl::Time deadline, const Pump& pump = nullptr);
  // Forgets an interrupt that is pending, and says whether there was one.
  bool TakeInterrupt();

  uint32_t index() const { return index_; }
  uint32_t size() const { return size_; }
  uint16_t first() const { return first_; }
  uint32_t free_descriptors() const { return free_count_; }
  uint32_t in_flight() const { return in_flight_; }
  // For SET_VRING_ADDR.
  VringAddress address() const;
  int kick_descriptor() const { return kick_.get(); }
  int call_descriptor() const { return call_.get(); }

  // The rings themselves.
  uint8_t* descriptors() { return descriptors_; }
  uint8_t* available() { return available_; }
  uint8_t* used() { return used_; }
  void SetDescriptor(uint16_t index, const Descriptor& descriptor);
  // What the chain number `number` (of the running index) begins with.
  void SetAvailable(uint16_t number, uint16_t head);
  void SetAvailableIndex(uint16_t index);

 private:
  DriverQueue(GuestMemory* memory, uint32_t index, const Options& options);

  GuestMemory* const memory_;
  const uint32_t index_;
  const uint32_t size_;
  const bool event_index_;
  const uint32_t indirect_entries_;
  const uint16_t first_;
  UniqueFd kick_;
  UniqueFd call_;
  uint64_t descriptors_address_;
  uint64_t available_address_;
  uint64_t used_address_;
  uint8_t* descriptors_;
  uint8_t* available_;
  uint8_t* used_;

  // The driver's own memory of what it did: the device could write over the rings.
  std::vector<uint16_t> next_free_;        // of each free descriptor, and of each chain
  std::vector<uint16_t> chain_length_;     // of each head in flight, in descriptors; 0: none
  std::vector<uint64_t> indirect_tables_;  // guest address for each head; 0: none yet
  uint16_t free_head_ = 0;
  uint32_t free_count_;
  uint32_t in_flight_ = 0;
  uint16_t next_available_;
  uint16_t published_;
  uint16_t next_used_;
};

}  // namespace argosy::vhost_user

#endif  // ARGOSY_BACKENDS_VHOST_USER_TESTING_DRIVER_QUEUE_H_
