// SPDX-License-Identifier: Apache-2.0
// File: backends/vhost_user/testing/echo_device.h
//
// The simplest device: what a chain says in its readable part it says in its writable part.  It
// writes down what the server told it.
//
// One thread at a time.
#ifndef ARGOSY_BACKENDS_VHOST_USER_TESTING_ECHO_DEVICE_H_
#define ARGOSY_BACKENDS_VHOST_USER_TESTING_ECHO_DEVICE_H_

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "backends/vhost_user/server.h"

namespace argosy::vhost_user {

class EchoDevice : public DeviceOps {
 public:
  // A feature bit of the device type, as SEQPACKET is one.
  static constexpr uint64_t kFeature = 1 << 1;
  static constexpr uint32_t kQueues = 3;
  static constexpr uint32_t kMaxSize = 1024;

  uint64_t Features() const override { return kFeature; }
  uint32_t QueueCount() const override { return kQueues; }
  uint32_t MaxQueueSize() const override { return kMaxSize; }
  absl::Span<const uint8_t> ConfigSpace() const override { return config_; }
  absl::Status OnRingEnabled(uint32_t queue) override;
  void OnRingStopped(uint32_t queue) override;
  void OnMemoryChanged() override { events_.push_back("memory"); }
  void OnReset() override { events_.push_back("reset"); }
  void OnRefused(const absl::Status& reason) override;

  // Answers all chains of all rings that run.  A broken ring stops the server.
  void Serve(Server& server);

  // The next OnRingEnabled() fails.
  void FailToEnable() { fail_to_enable_ = true; }
  // What was called since: "enabled 0", "stopped 0", "memory", "reset", "refused".
  std::vector<std::string> TakeEvents() { return std::exchange(events_, {}); }
  const std::string& last_refusal() const { return last_refusal_; }
  uint64_t chains() const { return chains_; }

 private:
  absl::Status ServeQueue(Server& server, uint32_t index);

  const std::array<uint8_t, 8> config_ = {0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88};
  std::array<iovec, Virtqueue::kMaxPieces> room_;
  std::vector<std::string> events_;
  std::string last_refusal_;
  bool fail_to_enable_ = false;
  uint64_t chains_ = 0;
};

}  // namespace argosy::vhost_user

#endif  // ARGOSY_BACKENDS_VHOST_USER_TESTING_ECHO_DEVICE_H_
