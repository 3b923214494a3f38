// SPDX-License-Identifier: Apache-2.0
// File: nested-test/traffic/raw_link.h
//
// The portable Argo link on real hypercalls, out of a program: a packet::Link to one partner, over
// /dev/argo_raw.  What vsock_argo_transport is in the kernel, for tests.
#ifndef ARGOSY_NESTED_TEST_TRAFFIC_RAW_LINK_H_
#define ARGOSY_NESTED_TEST_TRAFFIC_RAW_LINK_H_

#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backends/argo/core/link.h"
#include "nested-test/hypercalls/device.h"
#include "transport/packet/link.h"

namespace argosy::nested {

class RawLink : public packet::Link {
 public:
  static constexpr uint32_t kCidOffset = 2;

  static absl::StatusOr<std::unique_ptr<RawLink>> Open(uint16_t partner);
  ~RawLink() override;

  uint32_t own_cid() const { return device_->domid() + kCidOffset; }
  const argo_peer& peer() const { return peer_; }

  // Who gets packets; set once before the first Turn().
  void set_user(packet::LinkUser* user) { user_ = user; }
  // Reads what has come, sends what waits, runs timers.  True if there is more to do at once.
  bool Turn();

  // packet::Link
  Reach Reaches(uint64_t cid) const override;
  bool CanSend(uint64_t cid) const override;
  void Send(const packet::Header& header, const packet::Payload& payload) override;
  uint32_t MaxPayload(uint64_t cid) const override;

 private:
  using Packet = std::vector<uint8_t>;
  struct Arguments;

  RawLink(std::unique_ptr<ArgoDevice> device, uint16_t partner);
  static argo_link_ops Ops();

  absl::Status Init();
  int Op(uint32_t command, const void* arg1, const void* arg2, uint64_t arg3, uint64_t arg4);
  int Sendv(uint16_t dst, uint32_t type, const argo_iov* iov, uint32_t niov);
  int Notify(argo_ring_data_ent* entries, uint32_t n);
  int RegisterRing(uint16_t partner);
  int OpenRing(uint16_t partner, argo_ring_reader* reader);
  void CloseRing(uint16_t partner);
  void Deliver(uint16_t src, const argo_ring_message& message);

  const std::unique_ptr<ArgoDevice> device_;
  const uint16_t partner_;
  packet::LinkUser* user_ = nullptr;
  std::mt19937_64 random_;
  Arguments* arguments_ = nullptr;
  uint8_t* ring_ = nullptr;
  argo_peer peer_;
  argo_link link_;
};

}  // namespace argosy::nested

#endif  // ARGOSY_NESTED_TEST_TRAFFIC_RAW_LINK_H_
