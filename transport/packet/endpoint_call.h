// SPDX-License-Identifier: Apache-2.0
// File: transport/packet/endpoint_call.h
//
// The frame of every call into the engine.  Users call back from inside; so what ended is destroyed
// only when the outermost call returns, and the connections of a lost peer end only in a call that
// comes from the carrier or the clock: no program sees OnEnded() from inside its own Send().
#ifndef ARGOSY_TRANSPORT_PACKET_ENDPOINT_CALL_H_
#define ARGOSY_TRANSPORT_PACKET_ENDPOINT_CALL_H_

#include <list>

#include "transport/packet/endpoint.h"

namespace argosy::packet {

class Endpoint::Call {
 public:
  explicit Call(Endpoint& endpoint) : endpoint_(endpoint) { ++endpoint_.depth_; }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  ~Call() {
    if (--endpoint_.depth_ == 0) endpoint_.graveyard_.clear();
  }

 private:
  Endpoint& endpoint_;
};

class Endpoint::CarrierCall {
 public:
  explicit CarrierCall(Endpoint& endpoint) : endpoint_(endpoint), call_(endpoint) {
    if (endpoint_.depth_ == 1) endpoint_.EndLost();
  }
  ~CarrierCall() {
    if (endpoint_.depth_ == 1) endpoint_.EndLost();
  }

 private:
  Endpoint& endpoint_;
  Call call_;
};

}  // namespace argosy::packet

#endif  // ARGOSY_TRANSPORT_PACKET_ENDPOINT_CALL_H_
