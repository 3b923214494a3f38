// SPDX-License-Identifier: Apache-2.0
#include "sim/simulation/attacker.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "backends/argo/abi/argo.h"
#include "backends/argo/core/link.h"

namespace argosy::sim {

using packet::Header;

struct Attacker::Scratch {
  argo_send_addr address;
  argo_iov iov;
};

Attacker::Attacker(Random& random, Journal& journal, Machine& machine, Domain& domain)
    : random_(random),
      journal_(journal),
      machine_(machine),
      domain_(domain),
      scratch_(static_cast<Scratch*>(domain.memory().Allocate(sizeof(Scratch)))),
      bytes_(static_cast<uint8_t*>(domain.memory().Allocate(kMaxBytes))) {}

bool Attacker::Send(uint16_t domid, uint32_t type, uint32_t size) {
  scratch_->address.src = {ARGO_LINK_PORT, domain_.domid(), 0};
  scratch_->address.dst = {ARGO_LINK_PORT, domid, 0};
  scratch_->iov = {reinterpret_cast<uint64_t>(bytes_), size, 0};
  const int rc = machine_.hypervisor().ArgoOp(domain_.domid(), ARGO_OP_SENDV, &scratch_->address,
                                              &scratch_->iov, 1, type);
  if (rc >= 0) sent_ = true;
  return rc >= 0;
}

void Attacker::SendPacket(const Target& target, Header header, uint32_t payload) {
  const auto wire = packet::SerializeHeader(header);
  std::memcpy(bytes_, wire.data(), wire.size());
  std::memset(bytes_ + wire.size(), 0xEE, payload);
  Send(target.domid, ARGO_LINK_TYPE_PACKET, static_cast<uint32_t>(wire.size()) + payload);
}

// A good header for something that the victim may have.
Header Attacker::HeaderFor(const Target& target) {
  Header header;
  header.src_cid = domain_.cid();
  header.dst_cid = target.domid + domain_.cid() - domain_.domid();
  header.type = random_.OneIn(2) ? VSOCK_TYPE_STREAM : VSOCK_TYPE_SEQPACKET;
  header.op = VSOCK_OP_RW;
  header.buf_alloc = packet::kDefaultBufAlloc;
  header.src_port = random_.Between(49152, 49300);
  header.dst_port = random_.Between(49152, 49300);
  if (!target.own.empty()) {
    const auto& [local, peer] = target.own[random_.Below(static_cast<uint32_t>(target.own.size()))];
    header.dst_port = local.port;
    header.src_port = peer.port;
  }
  return header;
}

void Attacker::SendGreeting(const Target& target, bool bad) {
  argo_link_greeting greeting = {};
  greeting.version_min = greeting.version_max = ARGO_LINK_VERSION;
  greeting.max_payload = ARGO_LINK_MAX_PAYLOAD;
  greeting.incarnation = random_.Next() | 1;
  greeting.heard = random_.OneIn(2) ? random_.Next() : 0;
  if (const argo_peer* peer = domain_.link().peer(target.domid); peer != nullptr) {
    if (random_.OneIn(2)) greeting.incarnation = peer->incarnation;
    if (random_.OneIn(2)) greeting.heard = peer->heard;
  }
  if (bad) {
    switch (random_.Below(4)) {
      case 0:
        greeting.version_min = static_cast<uint16_t>(random_.Between(2, 65535));
        greeting.version_max = greeting.version_min;
        break;
      case 1:
        greeting.version_min = greeting.version_max = 0;
        break;
      case 2:
        greeting.incarnation = 0;
        break;
      default:
        greeting.max_payload = random_.Below(ARGO_LINK_MIN_PAYLOAD);
    }
  }
  std::memcpy(bytes_, &greeting, sizeof(greeting));
  // Sometimes one of another length.
  const uint32_t size = bad && random_.OneIn(4) ? random_.Below(80) : sizeof(greeting);
  Send(target.domid, ARGO_LINK_TYPE_GREETING, size);
}

void Attacker::Attack(Fault kind, const Target& target) {
  sent_ = false;
  Header header = HeaderFor(target);
  switch (kind) {
    case Fault::kBadLength:
      switch (random_.Below(3)) {
        case 0:
          Send(target.domid, ARGO_LINK_TYPE_PACKET, random_.Below(VSOCK_HEADER_SIZE));
          break;
        case 1:
          Send(target.domid, ARGO_LINK_TYPE_PACKET,
               random_.Between(ARGO_LINK_MAX_MESSAGE + 1, kMaxBytes));
          break;
        default:
          header.len = static_cast<uint32_t>(random_.Next());
          SendPacket(target, header, random_.Below(200));
      }
      break;
    case Fault::kUnknownType:
      switch (random_.Below(3)) {
        case 0:
          header.op = static_cast<uint16_t>(random_.Next());  // the link's type
          Send(target.domid, header.op, random_.Below(200));
          break;
        case 1:
          header.type = static_cast<uint16_t>(random_.Next());
          SendPacket(target, header, 0);
          break;
        default:
          header.op = static_cast<uint16_t>(random_.OneIn(2) ? random_.Between(8, 65535) : 0);
          SendPacket(target, header, 0);
      }
      break;
    case Fault::kCreditLie: {
      header.fwd_cnt = static_cast<uint32_t>(random_.Next());
      header.buf_alloc = random_.Pick(std::array{0u, 1u, 4096u, 0xFFFFFFFFu});
      header.op = random_.OneIn(2) ? VSOCK_OP_CREDIT_UPDATE : VSOCK_OP_RW;
      header.len = header.op == VSOCK_OP_RW ? random_.Skewed(16) : 0;
      const uint32_t payload = header.len;
      SendPacket(target, header, payload);
      break;
    }
    case Fault::kForgedSource:
    case Fault::kForgedConnection:
      // A connection of others, as if it came from its peer, or with the attacker's own CID; or a
      // packet out of turn for one of its own.
      if (!target.others.empty() && (kind == Fault::kForgedSource || random_.OneIn(2))) {
        const auto& [local, peer] =
            target.others[random_.Below(static_cast<uint32_t>(target.others.size()))];
        header.src_port = peer.port;
        header.dst_port = local.port;
        if (kind == Fault::kForgedSource) header.src_cid = peer.cid;
      } else if (kind == Fault::kForgedSource) {
        header.src_cid = random_.OneIn(2) ? random_.Next() : random_.Below(10);
      }
      header.op = static_cast<uint16_t>(random_.Between(1, 7));
      header.flags = random_.Below(4);
      if (random_.OneIn(4)) {
        header.type = VSOCK_TYPE_DGRAM;
        header.op = VSOCK_OP_RW;
        header.src_port = header.dst_port = target.datagram_port;
      }
      header.len = header.op == VSOCK_OP_RW ? random_.Below(100) : 0;
      SendPacket(target, header, header.len);
      break;
    case Fault::kBadGreeting:
      SendGreeting(target, true);
      break;
    case Fault::kGreetingFlood:
      for (uint32_t n = random_.Between(5, 40); n > 0; --n) SendGreeting(target, random_.OneIn(3));
      break;
    case Fault::kRequestFlood: {
      header.op = VSOCK_OP_REQUEST;
      const bool again = random_.OneIn(2);
      for (uint32_t n = random_.Between(5, 80); n > 0; --n) {
        header.src_port = random_.Between(1, 100'000);
        header.dst_port =
            target.ports.empty() || random_.OneIn(4)
                ? random_.Between(1, 100'000)
                : target.ports[random_.Below(static_cast<uint32_t>(target.ports.size()))];
        SendPacket(target, header, 0);
        if (again) SendPacket(target, header, 0);  // on the live connection: a breach
      }
      break;
    }
    case Fault::kJunk: {
      const uint32_t size = random_.Skewed(12);
      for (uint32_t i = 0; i < size; ++i) bytes_[i] = static_cast<uint8_t>(random_.Next());
      Send(target.domid, random_.OneIn(2) ? ARGO_LINK_TYPE_PACKET : ARGO_LINK_TYPE_GREETING, size);
      break;
    }
    default:
      return;
  }
  if (sent_) {
    journal_.Note(kind,
                  [&] { return absl::StrCat("dom", domain_.domid(), " at dom", target.domid); });
  }
}

}  // namespace argosy::sim
