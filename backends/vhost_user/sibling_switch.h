// SPDX-License-Identifier: Apache-2.0
// File: backends/vhost_user/sibling_switch.h
//
// Packets between guests of one daemon: siblings, if they have a group in common.
//
//   guest A --tx ring--> OnPacket() --rx ring--> guest B
//
// The switch is no end of a connection: packets pass as they are, and credit is between the guests.
// It knows which connections there are (flows), so that nothing passes that no REQUEST has opened,
// and so that both ends learn of it when one guest goes.
//
// B has buffers: a packet goes straight into them, one copy.  B has none: it waits in the queue of
// this pair, A to B.  A queue that is full stops A's tx ring, so nothing is lost and no memory grows;
// if B does not take half of it within kStall it is deaf: its flows that have packets waiting are
// reset on both sides, and A goes on.  When B has buffers again the queues to it have turns, kQuantum
// each.
//
// What the switch will not pass is answered by RST: no such sibling, no group in common, refused by a
// policy (A's for `out`, B's for `in`), too many flows, no flow.
//
// One thread.  Source: virtio 1.3, 5.10; defects 2 and 13 in vhost-device-vsock are not repeated.
#ifndef ARGOSY_BACKENDS_VHOST_USER_SIBLING_SWITCH_H_
#define ARGOSY_BACKENDS_VHOST_USER_SIBLING_SWITCH_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "backends/vhost_user/policy.h"
#include "backends/vhost_user/vsock_device.h"
#include "transport/packet/link.h"

namespace argosy::vhost_user {

class SiblingSwitch {
 public:
  // What waits for one guest from one other; a packet counts kPacketCost beside its payload.
  static constexpr size_t kQueueBytes = 256 * 1024;
  static constexpr size_t kPacketCost = 256;
  // Of one queue at its turn.
  static constexpr size_t kQuantum = 64 * 1024;
  // RSTs that are kept for a deaf guest, of one other.  Of older ones it learns when it sends.
  static constexpr size_t kMaxResets = kQueueBytes / kPacketCost / 2;
  static constexpr absl::Duration kStall = absl::Seconds(2);
  // Until a REQUEST is answered.
  static constexpr absl::Duration kAnswerTime = absl::Seconds(60);

  struct Vm {
    uint32_t cid = 0;
    std::set<std::string> groups;
    uint32_t max_flows = 0;
    // Both live until Remove().
    VsockDevice* device = nullptr;
    Policy* policy = nullptr;
  };

  // CIDs differ.
  void Add(Vm vm);
  void Remove(uint32_t cid);

  // A packet of the guest `src_cid` to anybody but the host.
  void OnPacket(uint32_t src_cid, const packet::Header& header, const packet::Payload& payload);
  // The guest's rx ring has room.
  void OnCanSend(uint32_t cid);
  // The guest is gone, or another one is behind the device.
  void OnPeerReset(uint32_t cid);

  // Tells the time, and does what is due.
  void Advance(absl::Time now);
  absl::Time NextDeadline() const;

  size_t flows() const { return flows_.size(); }

 private:
  // CID and port of the end with the lower CID, then of the other.
  using FlowKey = std::tuple<uint32_t, uint32_t, uint32_t, uint32_t>;
  struct Flow {
    uint16_t type = 0;
    uint32_t client = 0;                                  // who sent the REQUEST
    absl::Time answer_deadline = absl::InfiniteFuture();  // until the other end has said anything
  };
  struct Packet {
    packet::Header header;
    std::vector<uint8_t> payload;
  };
  // From one guest to one other.
  struct Queue {
    std::deque<Packet> packets;
    size_t cost = 0;
    bool full = false;                                   // the sender's tx ring stands still
    absl::Time stall_deadline = absl::InfiniteFuture();  // while it does
  };
  struct Port {
    Vm vm;
    uint32_t flows = 0;
    std::map<uint32_t, Queue> queues;  // to this guest, by the sender's CID; kSwitch: RSTs of ours
    uint32_t last_turn = 0;            // whose queue it was
    int stops = 0;                     // full queues that this guest has filled
    bool deaf = false;                 // takes nothing, and is not waited for
    uint64_t forged = 0;
  };
  static constexpr uint32_t kSwitch = 0;

  static FlowKey KeyOf(const packet::Header& header);
  static packet::Header ResetFor(uint16_t type, uint32_t src_cid, uint32_t src_port,
                                 uint32_t dst_cid, uint32_t dst_port);
  Port* Find(uint64_t cid);
  static bool MayOpen(const Port& from, const Port& to, const packet::Header& header);
  void Open(Port& from, Port& to, const packet::Header& header);
  // By value: the key may lie in what is erased.
  void Erase(FlowKey key);
  // Tells both ends that it is over.
  void Reset(FlowKey key);
  // RST for a packet that does not pass, to its sender.
  void Refuse(Port& from, const packet::Header& header);
  // Sends at once, or puts it into the queue of `sender`.
  void Send(Port& to, uint32_t sender, const packet::Header& header,
            const packet::Payload& payload);
  // One turn of the queue: what the guest has room for, at most kQuantum.
  void SendTurn(Port& to, uint32_t sender, Queue& queue);
  // Packets were added or taken: whether the sender may go on.
  void Balance(uint32_t sender, Queue& queue);
  static absl::Time StallDeadline(const Port& port);
  void GoDeaf(Port& to);

  absl::Time now_ = absl::UnixEpoch();
  std::map<uint32_t, Port> ports_;
  absl::flat_hash_map<FlowKey, Flow> flows_;
  absl::btree_set<std::pair<absl::Time, FlowKey>> unanswered_;
};

}  // namespace argosy::vhost_user

#endif  // ARGOSY_BACKENDS_VHOST_USER_SIBLING_SWITCH_H_
