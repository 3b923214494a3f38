// SPDX-License-Identifier: Apache-2.0
#include "nested-test/traffic/raw_link.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace argosy::nested {
namespace {

using packet::Header;
using packet::Payload;

constexpr size_t kPage = 4096;
// Four of the largest packets fit.
constexpr size_t kRingPages = 65;
constexpr uint32_t kRingSize = kRingPages * kPage - ARGO_RING_HEADER_SIZE;
// Where nothing else is mapped.
constexpr uint64_t kMemory = 0x1000'0000'0000;

uint64_t NowMs() { return absl::ToUnixMillis(absl::Now()); }

}  // namespace

// What Xen reads, in pages that are always there: a page of the program's own may not have been
// touched yet.
struct RawLink::Arguments {
  argo_send_addr addr;
  argo_iov iov;
  argo_register_ring reg;
  argo_unregister_ring unreg;
  uint64_t gfns[kRingPages];
  struct {
    argo_ring_data data;
    argo_ring_data_ent entries[ARGO_MAX_NOTIFY_ENTRIES];
  } notify;
  uint8_t message[ARGO_LINK_MAX_MESSAGE];
};

argo_link_ops RawLink::Ops() {
  argo_link_ops ops = {};
  ops.sendv = [](void* ctx, uint16_t dst, uint32_t type, const argo_iov* iov, uint32_t niov) {
    return static_cast<RawLink*>(ctx)->Sendv(dst, type, iov, niov);
  };
  ops.notify = [](void* ctx, argo_ring_data_ent* entries, uint32_t n) {
    return static_cast<RawLink*>(ctx)->Notify(entries, n);
  };
  ops.ring_open = [](void* ctx, uint16_t partner, argo_ring_reader* reader) {
    return static_cast<RawLink*>(ctx)->OpenRing(partner, reader);
  };
  ops.ring_close = [](void* ctx, uint16_t partner, argo_ring_reader*) {
    static_cast<RawLink*>(ctx)->CloseRing(partner);
  };
  ops.ring_alive = [](void* ctx, uint16_t partner, argo_ring_reader*) {
    // Only success says that it was gone.
    return static_cast<RawLink*>(ctx)->RegisterRing(partner) == 0 ? 0 : 1;
  };
  ops.random = [](void* ctx) -> uint64_t { return static_cast<RawLink*>(ctx)->random_() | 1; };
  ops.describe = [](void*, void* cookie, argo_iov* iov) -> uint32_t {
    const Packet& packet = *static_cast<Packet*>(cookie);
    iov[0] = {reinterpret_cast<uintptr_t>(packet.data()), static_cast<uint32_t>(packet.size()), 0};
    return 1;
  };
  ops.done = [](void*, void* cookie, int) { absl::WrapUnique(static_cast<Packet*>(cookie)); };
  ops.deliver = [](void* ctx, uint16_t src, const argo_ring_message* message) {
    static_cast<RawLink*>(ctx)->Deliver(src, *message);
  };
  ops.peer_ready = [](void* ctx, uint16_t domid) {
    static_cast<RawLink*>(ctx)->user_->OnCanSend(domid + kCidOffset);
  };
  ops.peer_lost = [](void* ctx, uint16_t domid) {
    static_cast<RawLink*>(ctx)->user_->OnPeerReset(domid + kCidOffset);
  };
  ops.writable = ops.peer_ready;
  return ops;
}

RawLink::RawLink(std::unique_ptr<ArgoDevice> device, uint16_t partner)
    : device_(std::move(device)), partner_(partner), random_(std::random_device()()) {}

absl::StatusOr<std::unique_ptr<RawLink>> RawLink::Open(uint16_t partner) {
  absl::StatusOr<std::unique_ptr<ArgoDevice>> device = ArgoDevice::Open();
  if (!device.ok()) return device.status();
  auto link = absl::WrapUnique(new RawLink(*std::move(device), partner));
  if (absl::Status status = link->Init(); !status.ok()) return status;
  return link;
}

absl::Status RawLink::Init() {
  static const argo_link_ops kOps = Ops();
  const auto ring = device_->Allocate(kMemory, kRingPages);
  if (!ring.ok()) return ring.status();
  const auto arguments =
      device_->Allocate(kMemory + kRingPages * kPage, (sizeof(Arguments) + kPage - 1) / kPage);
  if (!arguments.ok()) return arguments.status();
  ring_ = reinterpret_cast<uint8_t*>(kMemory);
  arguments_ = reinterpret_cast<Arguments*>(kMemory + kRingPages * kPage);
  std::memcpy(arguments_->gfns, ring->data(), sizeof(arguments_->gfns));
  argo_link_init(&link_, &kOps, this, device_->domid(), &peer_, 1);
  return absl::OkStatus();
}

RawLink::~RawLink() {
  if (arguments_ != nullptr) argo_link_fini(&link_);
}

bool RawLink::Turn() {
  // The first time: the user is known now.
  if (peer_.state == ARGO_PEER_ABSENT) argo_link_add_peer(&link_, partner_, NowMs());
  const bool more = argo_link_interrupt(&link_, NowMs()) != 0;
  if (argo_link_due_ms(&link_) <= NowMs()) argo_link_timer(&link_, NowMs());
  return more;
}

// ---- hypercalls ----

int RawLink::Op(uint32_t command, const void* arg1, const void* arg2, uint64_t arg3,
                uint64_t arg4) {
  const absl::StatusOr<int> answer = device_->ArgoOp(
      {command, reinterpret_cast<uintptr_t>(arg1), reinterpret_cast<uintptr_t>(arg2), arg3, arg4});
  if (answer.ok()) return *answer;
  fprintf(stderr, "argosy-raw-endpoint: %s\n", std::string(answer.status().message()).c_str());
  exit(1);
}

int RawLink::Sendv(uint16_t dst, uint32_t type, const argo_iov* iov, uint32_t niov) {
  uint32_t size = 0;
  for (uint32_t i = 0; i < niov; ++i) {
    std::memcpy(arguments_->message + size, reinterpret_cast<const void*>(iov[i].base), iov[i].len);
    size += iov[i].len;
  }
  arguments_->addr.src = {ARGO_LINK_PORT, device_->domid(), 0};
  arguments_->addr.dst = {ARGO_LINK_PORT, dst, 0};
  arguments_->iov = {reinterpret_cast<uintptr_t>(arguments_->message), size, 0};
  return Op(ARGO_OP_SENDV, &arguments_->addr, &arguments_->iov, 1, type);
}

int RawLink::Notify(argo_ring_data_ent* entries, uint32_t n) {
  if (n == 0) return Op(ARGO_OP_NOTIFY, nullptr, nullptr, 0, 0);
  arguments_->notify.data = {n, 0};
  std::memcpy(arguments_->notify.entries, entries, n * sizeof(*entries));
  const int answer = Op(ARGO_OP_NOTIFY, &arguments_->notify, nullptr, 0, 0);
  std::memcpy(entries, arguments_->notify.entries, n * sizeof(*entries));
  return answer;
}

int RawLink::RegisterRing(uint16_t partner) {
  arguments_->reg = {ARGO_LINK_PORT, partner, 0, kRingSize};
  return Op(ARGO_OP_REGISTER_RING, &arguments_->reg, arguments_->gfns, kRingPages,
            ARGO_REGISTER_FLAG_FAIL_EXIST);
}

int RawLink::OpenRing(uint16_t partner, argo_ring_reader* reader) {
  std::memset(ring_, 0, kRingPages * kPage);
  const int answer = RegisterRing(partner);
  return answer != 0 ? answer : argo_ring_reader_init(reader, ring_, kRingSize);
}

void RawLink::CloseRing(uint16_t partner) {
  arguments_->unreg = {ARGO_LINK_PORT, partner, 0};
  Op(ARGO_OP_UNREGISTER_RING, &arguments_->unreg, nullptr, 0, 0);
}

// ---- packets ----

void RawLink::Deliver(uint16_t src, const argo_ring_message& message) {
  const Payload whole(absl::MakeConstSpan(message.seg[0].data, message.seg[0].len),
                      absl::MakeConstSpan(message.seg[1].data, message.seg[1].len));
  uint8_t bytes[VSOCK_HEADER_SIZE];
  Header header;
  whole.Prefix(sizeof(bytes)).CopyTo(bytes);
  if (!packet::ParseHeader(bytes, whole.size(), &header)) {
    // The kernel module sends no such packet.
    fprintf(stderr, "argosy-raw-endpoint: a packet of %zu bytes has a bad header\n", whole.size());
    exit(1);
  }
  user_->OnPacket(src + kCidOffset, header, whole.Skip(sizeof(bytes)));
}

packet::Link::Reach RawLink::Reaches(uint64_t cid) const {
  if (cid != partner_ + kCidOffset) return Reach::kNobody;
  return peer_.state >= ARGO_PEER_READY ? Reach::kUp : Reach::kStarting;
}

bool RawLink::CanSend(uint64_t cid) const {
  return cid == partner_ + kCidOffset && peer_.state == ARGO_PEER_READY;
}

uint32_t RawLink::MaxPayload(uint64_t) const {
  return peer_.max_payload == 0 ? 1 : peer_.max_payload;
}

void RawLink::Send(const Header& header, const Payload& payload) {
  const auto head = packet::SerializeHeader(header);
  auto packet = std::make_unique<Packet>(head.size() + payload.size());
  std::memcpy(packet->data(), head.data(), head.size());
  payload.CopyTo(packet->data() + head.size());
  const argo_iov iov = {reinterpret_cast<uintptr_t>(packet->data()),
                        static_cast<uint32_t>(packet->size()), 0};
  const argo_send_class send_class = header.op == VSOCK_OP_RW ? ARGO_SEND_DATA : ARGO_SEND_REPLY;
  const int answer = argo_link_send(&link_, partner_, send_class, &iov, 1, packet.get(), NowMs());
  if (answer == 1) packet.release();  // until done()
  // A packet that vanishes would be a hole in a stream.
  if (answer == -ARGO_ENOBUFS || answer == -ARGO_EMSGSIZE) {
    argo_link_peer_gone(&link_, partner_, NowMs());
  }
}

}  // namespace argosy::nested
