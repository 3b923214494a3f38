// SPDX-License-Identifier: Apache-2.0
// File: backends/vhost_user/vsock_device.h
//
// The virtio-vsock device of one VM (virtio 1.3, 5.10): packets of its rings on one side, a
// packet::LinkUser (the host's Endpoint) on the other.
//
//   guest --tx ring--> OnPacket()           host to guest: Send() --rx ring--> guest
//
// The way of a byte to the guest: a host socket asks for Room() and reads straight into the guest's
// buffers behind the places of the headers; SendRoom() makes packets of what came.  Other packets
// (control, and what an Endpoint had kept) are copied into the next buffer.
//
// The way of a byte from the guest: a pass over the tx ring hands each packet to the LinkUser with
// its payload still in guest memory, and gives the chains back when the pass ends.  Until then a
// user may keep pointers into the payload, if it is a PassUser and lets go of them in
// OnPassEnded(): so one system call can write many packets.
//
// A guest or VMM that breaks a rule ends its connection (Server::Stop()) with a reason, and nothing
// else.
//
// A guest that was running when its VMM came (to a daemon that was restarted, say) has connections that
// nobody here knows: it is told so by a TRANSPORT_RESET event, where the VMM leaves the event queue to
// us.
//
// One thread.  The event loop calls the ring's handlers; the guest is notified once for each round.
#ifndef ARGOSY_BACKENDS_VHOST_USER_VSOCK_DEVICE_H_
#define ARGOSY_BACKENDS_VHOST_USER_VSOCK_DEVICE_H_

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "backends/vhost_user/server.h"
#include "backends/vhost_user/virtqueue.h"
#include "transport/event_loop.h"
#include "transport/packet/connection.h"
#include "transport/packet/link.h"

namespace argosy::vhost_user {

class VsockDevice : public DeviceOps, public packet::Link {
 public:
  // Virtio's numbers of the queues.
  static constexpr uint32_t kRx = 0;  // to the guest
  static constexpr uint32_t kTx = 1;  // from it
  static constexpr uint32_t kEvent = 2;

  struct Options {
    uint32_t guest_cid = 3;
    uint32_t queue_size = 1024;
  };

  // Keeps pointers into guest memory for a pass over the tx ring.
  class PassUser {
   public:
    virtual ~PassUser() = default;
    virtual void OnPassEnded() = 0;
  };

  // `loop` and `user` outlive the device.
  VsockDevice(EventLoop& loop, packet::LinkUser& user, const Options& options);
  ~VsockDevice() override;

  uint32_t guest_cid() const { return options_.guest_cid; }
  // Whether the guest's driver runs.
  bool up() const { return rx_running_ && tx_running_; }

  // The VMM's connection: at most one at a time, whose DeviceOps is this; it outlives Detach().
  // `broken` is called when this has stopped it: Server::OnReadable() says why.
  void Attach(Server* server, std::function<void()> broken);
  // The VMM is gone, and the guest's connections with it.  The rings have been stopped.
  void Detach();

  // ---- to the guest, without a copy ----

  // Room for the payload of `bytes` bytes or less, in the guest's buffers; empty if it has none
  // (LinkUser::OnCanSend() follows).  The caller reads into it from the start, and calls SendRoom()
  // before anything else is done with the device.
  absl::Span<const iovec> Room(size_t bytes);
  // Sends the first `bytes` bytes of the room, at most connection.SendCapacity(); gives the rest of
  // the room back.
  void SendRoom(packet::Connection& connection, size_t bytes);

  // ---- from the guest ----

  // Takes no more packets of the guest, after the one that is being handed out, until ResumeTx().
  void PauseTx() { tx_paused_ = true; }
  void ResumeTx();

  // Calls `user` at the end of the pass over the tx ring that is under way; false if none is, and
  // payload is valid in its own call only.
  bool KeepForPass(PassUser* user);
  // It is gone.
  void ForgetPassUser(PassUser* user);

  // DeviceOps
  uint64_t Features() const override;
  uint32_t QueueCount() const override { return 3; }
  uint32_t MaxQueueSize() const override { return options_.queue_size; }
  absl::Span<const uint8_t> ConfigSpace() const override { return config_; }
  absl::Status OnRingEnabled(uint32_t queue) override;
  void OnRingStopped(uint32_t queue) override;
  void OnReset() override;

  // packet::Link
  Reach Reaches(uint64_t cid) const override;
  bool CanSend(uint64_t cid) const override;
  void Send(const packet::Header& header, const packet::Payload& payload) override;
  uint32_t MaxPayload(uint64_t cid) const override;

 private:
  class Kick;
  class Turn;

  // A buffer of the guest's that waits for a packet.
  struct RxChain {
    uint16_t head = 0;
    uint32_t capacity = 0;  // payload bytes, 1 to VSOCK_MAX_PAYLOAD
    absl::InlinedVector<iovec, 2> pieces;
  };

  void OnKick(uint32_t queue);
  absl::Status WatchKicks(uint32_t queue);
  // Tells the guest that its connections are gone, if that is due and it has a buffer for it.
  void OfferEvent();
  // The end of a round.
  void OnTurn();
  // Pops rx chains until `chains` are ready or the ring is empty; then a kick will tell of more.
  void TakeRx(size_t chains);
  // Uses up the first ready chain: writes the header there; `length` bytes of payload are there.
  void UseRx(const packet::Header& header, uint32_t length);
  // Copies a packet into as many ready chains as it needs; what finds none waits.
  void Deliver(packet::Header header, packet::Payload payload);
  // What waited for buffers; then the user's, if there is room left.
  void OfferRx();
  void ProcessTx();
  // The packet in a chain of the tx ring.  EPROTO if it is none.
  absl::Status Receive(const Chain& chain);
  void EndPass();
  // A VMM may have cut off memory that was used.
  void CheckMemory();
  // The guest broke a rule: ends the VMM's connection.
  void Break(const absl::Status& reason);

  EventLoop& loop_;
  packet::LinkUser& user_;
  const Options options_;
  std::array<uint8_t, 8> config_ = {};  // the guest's CID
  Server* server_ = nullptr;
  std::function<void()> broken_;
  std::array<std::unique_ptr<Kick>, 3> kicks_;
  std::unique_ptr<Turn> turn_;
  bool rx_running_ = false;
  bool tx_running_ = false;
  bool event_running_ = false;  // a VMM may keep this one for itself, as QEMU does
  bool rx_dirty_ = false;       // used chains that the guest was not told of
  bool look_ = false;           // a ring has started
  bool tx_more_ = false;        // the last pass ended at its budget
  bool tx_paused_ = false;
  bool attached_anew_ = false;  // the tx ring has not run since Attach()
  bool reset_event_due_ = false;
  uint16_t last_tx_ = 0;  // next_available() when the tx ring stopped
  // Of the chain that is being popped.  Not one for both rings: while the user has a packet of the tx
  // ring it may send, which pops from the other one.
  std::vector<iovec> rx_pieces_, tx_pieces_;

  // Rx chains popped and not used, in order.  While the ring has one, one is here.
  std::deque<RxChain> ready_;
  std::vector<iovec> room_;
  const uint8_t* in_place_ = nullptr;  // the payload of the next Send() lies at its place already
  // Packets of a burst that found no buffer: at most one burst of a LinkUser, see Link::Send.
  std::deque<std::pair<packet::Header, std::vector<uint8_t>>> waiting_;

  bool in_pass_ = false;
  std::vector<uint16_t> pass_chains_;
  std::vector<PassUser*> pass_users_;
};

}  // namespace argosy::vhost_user

#endif  // ARGOSY_BACKENDS_VHOST_USER_VSOCK_DEVICE_H_
