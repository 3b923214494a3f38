// SPDX-License-Identifier: Apache-2.0
// File: backends/vhost_user/testing/vsock_guest.h
//
// A guest with a vsock driver and nothing behind it: packets go out as a test makes them, and come in
// as the device sent them.
//
//   auto guest = *VsockGuest::Start(std::move(socket), {.pump = [&] { loop.RunOnce(absl::Now()); }});
//   guest->Send({.src_port = 5000, .dst_port = 1234, .type = 1, .op = VSOCK_OP_REQUEST});
//   VsockGuest::Packet answer = *guest->Receive();
//
// One thread at a time.
#ifndef ARGOSY_BACKENDS_VHOST_USER_TESTING_VSOCK_GUEST_H_
#define ARGOSY_BACKENDS_VHOST_USER_TESTING_VSOCK_GUEST_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "backends/vhost_user/testing/driver_queue.h"
#include "backends/vhost_user/testing/front_end.h"
#include "backends/vhost_user/testing/guest_memory.h"
#include "backends/vhost_user/testing/wait.h"
#include "transport/packet/link.h"
#include "transport/unique_fd.h"

namespace argosy::vhost_user {

class VsockGuest {
 public:
  struct Options {
    uint64_t features = ~uint64_t{0};
    uint32_t queue_size = 128;
    // Of each receive buffer; Linux's are of 4096 bytes.
    uint32_t rx_buffer = 4096;
    // As Linux before 6.2: the header has a buffer of its own.
    bool rx_two_buffers = false;
    // Buffers of the same size that each receive buffer is cut into, unless it is two.
    uint32_t rx_pieces = 1;
    // Buffers that are given to the device; 0: as many as fit.
    uint32_t rx_buffers = 0;
    // Whether the VMM leaves the event queue to the device.
    bool event_queue = false;
    // Receive buffer that the guest's packets announce.
    uint32_t buf_alloc = 262144;
    // For each answer, packet and free descriptor.
    absl::Duration timeout = absl::Seconds(10);
    Pump pump = nullptr;
  };

  struct Packet {
    packet::Header header;
    std::string payload;
  };

  // Negotiates, and starts both rings.  Errors of FrontEnd.
  static absl::StatusOr<std::unique_ptr<VsockGuest>> Start(UniqueFd socket, Options options);

  // As config space says.
  uint32_t cid() const { return cid_; }
  FrontEnd& vmm() { return *vmm_; }
  GuestMemory& memory() { return *memory_; }
  DriverQueue& rx() { return *rx_; }
  DriverQueue& tx() { return *tx_; }

  // Sends a packet to the host, its payload in so many buffers behind the header's.  Fills in the
  // CIDs, len, and, unless they are set, the type (STREAM) and buf_alloc.  If the device does not
  // give packets back as it should, nothing is sent any more, and Receive() says why.
  void Send(packet::Header header, absl::string_view payload = "", uint32_t pieces = 1);
  // As it is told.
  void SendRaw(const packet::Header& header, absl::string_view payload, uint32_t pieces = 1);
  // Packets that the device has not taken yet, after it had its turn.
  uint32_t Untaken();
  // The next packet from the host.  ETIMEDOUT, and what Send() met.
  absl::StatusOr<Packet> Receive();
  // Whether one is there, after the device had its turn.
  bool HasPacket();

  // Stops the rings, as a VMM that pauses its VM does, and starts them where they were.
  absl::Status Pause();
  absl::Status Resume();
  // The VMM's connection ends and is made anew, without a word to the guest, as to a daemon that was
  // restarted.  Between the two only Reconnect() may be called.
  absl::Status Disconnect();
  absl::Status Reconnect(UniqueFd socket);
  // The next event.  ETIMEDOUT.
  absl::StatusOr<uint32_t> ReceiveEvent();
  // Stops them, and starts new ones, as after a reset of the driver.
  absl::Status Reboot();

 private:
  explicit VsockGuest(Options options) : options_(std::move(options)) {}
  absl::Status Init(UniqueFd socket);
  absl::Status Connect(UniqueFd socket);
  absl::Status StartRings();
  // Takes back the buffer of a packet that went; false if there is none.
  absl::StatusOr<bool> ReapTx();
  // Waits until there is a buffer and descriptors for a packet in so many pieces.
  absl::Status MakeRoom(uint32_t pieces);
  // Gives the device a receive buffer.
  void Post(uint64_t address);

  Options options_;
  uint32_t cid_ = 0;
  absl::Status tx_status_;
  std::unique_ptr<GuestMemory> memory_;
  std::unique_ptr<FrontEnd> vmm_;
  std::unique_ptr<DriverQueue> rx_, tx_, event_;
  uint64_t event_address_ = 0;
  std::vector<uint64_t> rx_address_;    // by head
  std::vector<uint64_t> tx_buffers_;    // of a largest packet each
  std::vector<uint64_t> tx_free_;       // of those
  std::vector<uint64_t> tx_address_;    // by head
  uint16_t rx_base_ = 0, tx_base_ = 0;  // of a pause
};

}  // namespace argosy::vhost_user

#endif  // ARGOSY_BACKENDS_VHOST_USER_TESTING_VSOCK_GUEST_H_
