// SPDX-License-Identifier: Apache-2.0
// File: backends/vhost_user/testing/front_end.h
//
// The VMM's half of vhost-user, in the order in which QEMU speaks it, against any back end: one in
// this process over a socketpair, or a daemon over its socket.
//
//   auto memory = *GuestMemory::Create({{0x100000, 16 << 20}});
//   FrontEnd vmm(*ConnectUnix("/run/vm4.sock", SOCK_STREAM), {});
//   vmm.Negotiate();
//   vmm.ShareMemory(*memory);
//   auto tx = *DriverQueue::Create(memory.get(), 1, vmm.QueueOptions(128));
//   vmm.Start(*tx);
//   tx->Add({{header, 44}});  tx->Publish();
//
// It waits in poll() with a deadline and never sleeps.  A back end in this process needs a pump,
// which is called while an answer is awaited.  For harm there are Send() and SendRaw().
//
// One thread at a time.
#ifndef ARGOSY_BACKENDS_VHOST_USER_TESTING_FRONT_END_H_
#define ARGOSY_BACKENDS_VHOST_USER_TESTING_FRONT_END_H_

#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "backends/vhost_user/protocol.h"
#include "backends/vhost_user/testing/driver_queue.h"
#include "backends/vhost_user/testing/guest_memory.h"
#include "backends/vhost_user/testing/wait.h"
#include "transport/unique_fd.h"

namespace argosy::vhost_user {

class FrontEnd {
 public:
  struct Options {
    // Accepted as far as they are offered.  The protocol features come with theirs.
    uint64_t features = ~uint64_t{0};
    uint64_t protocol_features = kProtocolMq | kProtocolReplyAck | kProtocolConfig |
                                 kProtocolResetDevice | kProtocolConfigureMemSlots;
    // For each answer.
    absl::Duration timeout = absl::Seconds(10);
    Pump pump = nullptr;
  };

  struct Reply {
    Request request;
    std::vector<uint8_t> payload;
  };

  FrontEnd(UniqueFd socket, Options options)
      : socket_(std::move(socket)), options_(std::move(options)) {}

  // Up to SET_FEATURES.  Errors as in Command().
  absl::Status Negotiate();
  // What was agreed.
  uint64_t features() const { return features_; }
  uint64_t protocol_features() const { return protocol_features_; }
  // What was offered.
  uint64_t offered_features() const { return offered_; }
  uint64_t offered_protocol_features() const { return offered_protocol_; }
  // For DriverQueue::Create(), by what was agreed.
  DriverQueue::Options QueueOptions(uint32_t size) const;

  // SET_MEM_TABLE with all of it.
  absl::Status ShareMemory(const GuestMemory& memory);
  absl::Status AddRegion(const MemoryRegion& region, int file);
  absl::Status RemoveRegion(const MemoryRegion& region);

  // NUM, BASE, ADDR, KICK, CALL, ENABLE.  The base is queue.first() unless another is given.
  absl::Status Start(const DriverQueue& queue);
  absl::Status Start(const DriverQueue& queue, uint16_t base);
  // ENABLE 0 and GET_VRING_BASE: the number of the first chain that the device did not take.
  absl::StatusOr<uint16_t> Stop(const DriverQueue& queue);
  absl::StatusOr<std::vector<uint8_t>> GetConfig(uint32_t offset, uint32_t size);

  // Sends a request, and waits for its acknowledgement if REPLY_ACK was agreed.  EINVAL if the back
  // end refuses; without REPLY_ACK a refusal looks like a hang-up, later.  ECONNRESET or EPIPE if
  // it hung up, ETIMEDOUT if it does not answer, EPROTO if it answers nonsense.
  absl::Status Command(Request request, absl::Span<const uint8_t> payload,
                       absl::Span<const int> descriptors = {});
  template <typename T>
  absl::Status Command(Request request, const T& payload, absl::Span<const int> descriptors = {}) {
    return Command(request, BytesOf(payload), descriptors);
  }
  // Sends a request and returns the u64 that answers it.
  absl::StatusOr<uint64_t> Query(Request request);

  // One message as it is told, no answer awaited.
  absl::Status Send(Request request, absl::Span<const uint8_t> payload,
                    absl::Span<const int> descriptors = {}, uint32_t flags = kVersion);
  // Any bytes.
  absl::Status SendRaw(absl::Span<const uint8_t> bytes, absl::Span<const int> descriptors = {});
  // The next message from the back end.
  absl::StatusOr<Reply> Receive();
  // Waits for the back end to hang up; ETIMEDOUT if it does not, EPROTO if it says something.
  absl::Status WaitHangUp();

  template <typename T>
  static absl::Span<const uint8_t> BytesOf(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    return absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(&value), sizeof(value));
  }

  int descriptor() const { return socket_.get(); }
  const Options& options() const { return options_; }
  absl::Time Deadline() const;

 private:
  absl::Status ReadAll(uint8_t* to, size_t size, absl::Time deadline);
  absl::StatusOr<Reply> Ask(Request request, absl::Span<const uint8_t> payload);

  UniqueFd socket_;
  Options options_;
  uint64_t offered_ = 0;
  uint64_t offered_protocol_ = 0;
  uint64_t features_ = 0;
  uint64_t protocol_features_ = 0;
};

}  // namespace argosy::vhost_user

#endif  // ARGOSY_BACKENDS_VHOST_USER_TESTING_FRONT_END_H_
