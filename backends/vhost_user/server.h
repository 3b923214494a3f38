// SPDX-License-Identifier: Apache-2.0
// File: backends/vhost_user/server.h
//
// The back end's half of the vhost-user protocol for one VMM: features, the memory table, and when
// a ring runs.  Which device it is, DeviceOps says.
//
//   Server server(std::move(accepted), &device);
//   // when server.descriptor() is readable:
//   absl::StatusOr<bool> more = server.OnReadable();
//
// A ring runs while it has a kick descriptor, a size and addresses, and is enabled (SET_VRING_ENABLE;
// always so where the VMM did not accept the protocol features).  Between OnRingEnabled() and
// OnRingStopped() the device works on queue(i); outside it must not touch it.
//
// A VMM that asks for what cannot be is told so if it waits for an answer (REPLY_ACK), with all as
// before; else, and for breaches of the protocol itself, its connection ends with the reason.
//
// No log of migration, in-flight log, packed rings, polling or back-end requests: QEMU's front end
// of vsock uses none of them.
//
// One thread at a time; callbacks come from within OnReadable() and Stop(), and may not destroy the
// server.  Source: "Vhost-user Protocol".
#ifndef ARGOSY_BACKENDS_VHOST_USER_SERVER_H_
#define ARGOSY_BACKENDS_VHOST_USER_SERVER_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "backends/vhost_user/channel.h"
#include "backends/vhost_user/memory_table.h"
#include "backends/vhost_user/protocol.h"
#include "backends/vhost_user/virtqueue.h"
#include "transport/unique_fd.h"

namespace argosy::vhost_user {

// The device behind a server.
class DeviceOps {
 public:
  virtual ~DeviceOps() = default;

  // Feature bits of the device type (virtio 1.3, 5).  The server adds those of the ring:
  // kRingFeatures.
  virtual uint64_t Features() const = 0;
  // At most 256, as the protocol has a byte for it; does not change.
  virtual uint32_t QueueCount() const = 0;
  // A power of two up to kMaxQueueSize.
  virtual uint32_t MaxQueueSize() const { return kMaxQueueSize; }
  // At most kMaxConfigSize bytes, valid until the next call.
  virtual absl::Span<const uint8_t> ConfigSpace() const = 0;

  // The ring runs.  There may be chains for which no kick comes any more, so look at it once; and
  // watch its kick_descriptor(), which may have been replaced since.  After an error the ring does
  // not run, and the connection ends.
  virtual absl::Status OnRingEnabled(uint32_t queue) = 0;
  // The ring is about to stop: hand back what was popped (PushUsed() and Flush(), or Rewind()), and
  // watch its kick descriptor no longer.  A ring stops for a moment when the VM's memory changes or
  // the VM is paused, so connections stay.
  virtual void OnRingStopped(uint32_t queue) = 0;
  // Other memory is behind guest addresses; every pointer into it is void.  All rings are stopped.
  // Of memory that is merely added (ADD_MEM_REG, QEMU's way where it is offered) nobody hears.
  virtual void OnMemoryChanged() {}
  // The VMM resets the device: it is as new.  All rings are stopped.
  virtual void OnReset() = 0;
  // A request was refused, and the VMM told so: for the log.
  virtual void OnRefused(const absl::Status& /*reason*/) {}
};

class Server {
 public:
  // What the virtqueue can do for any device.
  static constexpr uint64_t kRingFeatures =
      kFeatureVersion1 | kFeatureEventIndex | kFeatureIndirectDescriptors;
  static constexpr uint64_t kProtocolFeatures = kProtocolMq | kProtocolReplyAck | kProtocolConfig |
                                                kProtocolResetDevice | kProtocolConfigureMemSlots;
  // Messages handled in one turn: other VMs have theirs.
  static constexpr int kMessagesPerTurn = 64;

  // `connection`: an accepted AF_UNIX stream.  `device` outlives the server.
  Server(UniqueFd connection, DeviceOps* device);
  // Calls nothing of the device: Stop() first if it shall hear of it.
  ~Server() = default;
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  int descriptor() const { return channel_.descriptor(); }

  // Handles the messages that are there.  True: there may be more, come again even if the
  // descriptor says nothing new.  An error ends the connection: the rings have been stopped, and
  // each later call says the same.  ECONNRESET: the VMM hung up, as it does when it ends; else the
  // reason for the log.
  absl::StatusOr<bool> OnReadable();

  // Ends the connection for a reason of the device's, such as a broken ring: rings that run stop,
  // and the VMM hears of it by their error descriptors and by the hang-up when the server is
  // destroyed.  Does nothing the second time.
  void Stop(absl::Status reason);

  // What the VMM, for its driver, has accepted of the features.
  uint64_t features() const { return features_; }
  uint64_t protocol_features() const { return protocol_features_; }
  const MemoryTable& memory() const { return memory_; }

  bool running(uint32_t queue) const { return rings_[queue].running; }
  // Of a ring that runs.
  Virtqueue& queue(uint32_t index) { return rings_[index].queue; }
  // Of a ring that runs: an eventfd, non-blocking, readable when the driver kicked.  Watched
  // edge-triggered it need not be read at all, as each write to it is an edge.
  int kick_descriptor(uint32_t queue) const { return rings_[queue].kick.get(); }
  // Interrupts the driver: after Flush() said so.  A VMM that polls has no descriptor for it.
  void Notify(uint32_t queue);

 private:
  struct Ring {
    uint32_t size = 0;
    std::optional<VringAddress> address;
    uint16_t base = 0;  // while it does not run
    bool enabled = false;
    bool running = false;
    UniqueFd kick;
    UniqueFd call;
    UniqueFd error;
    Virtqueue queue;
  };

  // One request.  An error is the end of the connection.
  absl::Status Process(Message& message);
  // The status says whether the request was carried out.  `replied` tells that its answer is out.
  absl::Status Dispatch(Message& message, bool* replied);
  absl::Status ReplyU64(const Message& message, uint64_t value);
  // An error that no acknowledgement makes good.
  absl::Status Fatal(absl::Status reason);

  absl::Status SetFeatures(uint64_t features);
  absl::Status SetProtocolFeatures(uint64_t features);
  absl::Status SetMemTable(const Message& message);
  absl::Status AddRegion(const Message& message);
  absl::Status RemoveRegion(const Message& message);
  absl::Status SetVringNum(const VringState& state);
  absl::Status SetVringAddr(const VringAddress& address);
  absl::Status SetVringBase(const VringState& state);
  absl::Status SetVringEnable(const VringState& state);
  absl::Status SetVringDescriptor(Message& message);
  absl::Status GetVringBase(const Message& message);
  absl::Status GetConfig(const Message& message);
  void Reset();

  // Whether the ring of this index is there, and, for what a running ring cannot change, stopped.
  absl::Status CheckRing(uint32_t index, bool must_be_stopped) const;
  bool ShouldRun(const Ring& ring) const;
  // Starts or stops a ring, by what is known of it now.
  absl::Status Adjust(uint32_t index);
  void StopRing(uint32_t index);
  // Stops the rings, lets `change` replace the memory, and starts them again.
  template <typename Change>
  absl::Status ChangeMemory(Change change);

  Channel channel_;
  DeviceOps* const device_;
  MemoryTable memory_;
  std::vector<Ring> rings_;
  uint64_t features_ = 0;
  uint64_t protocol_features_ = 0;
  bool fatal_ = false;
  absl::Status ended_;  // not OK: for this reason
};

}  // namespace argosy::vhost_user

#endif  // ARGOSY_BACKENDS_VHOST_USER_SERVER_H_
