// SPDX-License-Identifier: Apache-2.0
// File: transport/packet/packet_meter.h
//
// How many packets a sender has under way that the peer's reader has not taken, in constant space.
//
// The peer tells bytes (fwd_cnt), never packets.  So packets with bytes are counted in two
// generations, divided by a mark in the byte stream: the older one retires as a whole when fwd_cnt
// reaches the mark.  Of these the answer is never too small.
//
// A zero-length message moves no byte.  A receiver sends one CREDIT_UPDATE for each one that it
// took, with fwd_cnt as told before (Linux does so for every message); such an update retires one,
// unless it answers a CREDIT_REQUEST.  A fwd_cnt beyond the last of them retires all.  The peer may
// answer several questions with one update, so they are not counted: each further answer is taken for
// a message, and the meter shows one too few.  Hence questions are repeated rarely.
#ifndef ARGOSY_TRANSPORT_PACKET_PACKET_METER_H_
#define ARGOSY_TRANSPORT_PACKET_PACKET_METER_H_

#include <algorithm>
#include <cstdint>

#include "transport/packet/limits.h"

namespace argosy::packet {

// Packets that may wait in a receive buffer of `buf_alloc` bytes: kMaxPacketsInFlight for the
// default, fewer for less, as Linux charges each queued packet's overhead to the buffer.
inline constexpr uint32_t PacketLimit(uint32_t buf_alloc) {
  return std::clamp(buf_alloc / (kDefaultBufAlloc / kMaxPacketsInFlight), uint32_t{1},
                    kMaxPacketsInFlight);
}

class PacketMeter {
 public:
  uint32_t in_flight() const { return older_ + newer_ + empty_; }

  // A packet with bytes went; tx_cnt counts them.  Half of `limit` makes a generation.
  void Sent(uint32_t tx_cnt, uint32_t limit) {
    ++newer_;
    if (older_ == 0 && newer_ >= limit / 2) Rotate(tx_cnt);
  }

  // A zero-length message went.
  void SentEmpty(uint32_t tx_cnt) {
    ++empty_;
    empty_at_ = tx_cnt;
  }

  // A CREDIT_REQUEST went.
  void Asked() { asked_ = true; }
  // Whether it has no answer yet.
  bool asked() const { return asked_; }

  // A packet came: fwd_cnt and tx_cnt as known now; `update`: it was a CREDIT_UPDATE; `moved`: it
  // moved fwd_cnt.
  void Heard(uint32_t fwd_cnt, uint32_t tx_cnt, bool update, bool moved) {
    if (fwd_cnt == tx_cnt) {
      older_ = newer_ = 0;
    } else if (older_ == 0 || static_cast<int32_t>(fwd_cnt - mark_) >= 0) {
      Rotate(tx_cnt);
    }
    if (empty_ > 0 && static_cast<int32_t>(fwd_cnt - empty_at_) > 0) empty_ = 0;
    if (!update) return;
    if (asked_) {
      asked_ = false;
    } else if (!moved && empty_ > 0) {
      --empty_;
    }
  }

 private:
  void Rotate(uint32_t tx_cnt) {
    older_ = newer_;
    newer_ = 0;
    mark_ = tx_cnt;
  }

  uint32_t older_ = 0;  // packets that end at or before mark_
  uint32_t newer_ = 0;
  uint32_t mark_ = 0;
  uint32_t empty_ = 0;     // zero-length messages
  uint32_t empty_at_ = 0;  // where in the byte stream the last of them stands
  bool asked_ = false;
};

}  // namespace argosy::packet

#endif  // ARGOSY_TRANSPORT_PACKET_PACKET_METER_H_
