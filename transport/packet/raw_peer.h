// SPDX-License-Identifier: Apache-2.0
// File: transport/packet/raw_peer.h
//
// An endpoint (CID 3) whose peer (CID 4) is the test, packet by packet.
#ifndef ARGOSY_TRANSPORT_PACKET_RAW_PEER_H_
#define ARGOSY_TRANSPORT_PACKET_RAW_PEER_H_

#include <string>
#include <vector>

#include "transport/packet/endpoint.h"
#include "transport/packet/test_users.h"

namespace argosy::packet {

class RawPeer {
 public:
  static constexpr uint32_t kCid = 3;
  static constexpr uint32_t kPeerCid = 4;
  static constexpr uint32_t kPort = 1234;      // of the peer, in connections that Connect() makes
  static constexpr uint32_t kListenPort = 80;  // of the endpoint

  explicit RawPeer(const Endpoint::Options& options = {.cid = kCid}) : endpoint(link, options) {
    Advance(absl::Seconds(1));
  }

  void Advance(absl::Duration by) {
    now += by;
    endpoint.Advance(now);
  }

  // A packet of the peer from its port to a port of the endpoint; the test changes what it wants.
  Header Packet(uint16_t op, uint32_t flags = 0) const {
    Header header;
    header.src_cid = kPeerCid;
    header.dst_cid = kCid;
    header.src_port = peer_port;
    header.dst_port = local_port;
    header.type = type;
    header.op = op;
    header.flags = flags;
    header.buf_alloc = buf_alloc;
    header.fwd_cnt = fwd_cnt;
    return header;
  }
  void In(Header header, const std::string& payload = "") {
    header.len = static_cast<uint32_t>(payload.size());
    endpoint.OnPacket(kPeerCid, header, Bytes(payload));
  }
  void In(uint16_t op, uint32_t flags = 0, const std::string& payload = "") {
    In(Packet(op, flags), payload);
  }

  // A connection that the endpoint's program makes: established; `user` has it.
  Connection* Connect(TestUser& user, uint16_t with_type = VSOCK_TYPE_STREAM) {
    type = with_type;
    auto made = endpoint.Connect(kPortAny, {kPeerCid, kPort}, type, kConnectTimeout, &user);
    if (!made.ok()) return nullptr;
    local_port = (*made)->local().port;
    peer_port = kPort;
    In(VSOCK_OP_RESPONSE);
    link.Take();
    return *made;
  }

  // The operations of what was sent since the last call, and their flags: "RW", "SHUTDOWN:3".  A
  // header that tells another length than its payload's is "RW!".
  std::vector<std::string> Ops() {
    static const char* const kNames[] = {"INVALID",  "REQUEST", "RESPONSE",      "RST",
                                         "SHUTDOWN", "RW",      "CREDIT_UPDATE", "CREDIT_REQUEST"};
    std::vector<std::string> ops;
    for (const RawLink::Sent& sent : link.Take()) {
      last = sent.header;
      std::string name = sent.header.op < 8 ? kNames[sent.header.op] : "?";
      if (sent.header.flags != 0) name += ":" + std::to_string(sent.header.flags);
      if (sent.header.len != sent.payload.size()) name += "!";
      ops.push_back(std::move(name));
    }
    return ops;
  }

  absl::Time now = absl::UnixEpoch();
  RawLink link;
  Endpoint endpoint;
  uint16_t type = VSOCK_TYPE_STREAM;
  uint32_t peer_port = kPort;
  uint32_t local_port = kListenPort;
  uint32_t buf_alloc = kDefaultBufAlloc;
  uint32_t fwd_cnt = 0;
  Header last;  // of the last packet that Ops() saw
};

using Ops = std::vector<std::string>;

}  // namespace argosy::packet

#endif  // ARGOSY_TRANSPORT_PACKET_RAW_PEER_H_
