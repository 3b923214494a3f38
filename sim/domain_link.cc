// SPDX-License-Identifier: Apache-2.0
#include "sim/domain_link.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "transport/error.h"

namespace argosy::sim {

using packet::Header;
using packet::Payload;

struct DomainLink::Scratch {
  argo_send_addr addr;
  argo_iov iov[ARGO_MAX_IOV];
  argo_register_ring reg;
  argo_unregister_ring unreg;
  struct {
    argo_ring_data data;
    argo_ring_data_ent entries[ARGO_MAX_NOTIFY_ENTRIES];
  } notify;
  uint8_t header[VSOCK_HEADER_SIZE];
  // The portable link builds greetings on its stack; Xen would read them there, the simulator reads
  // guest memory only.
  uint8_t small[sizeof(argo_link_greeting)];
};

argo_link_ops DomainLink::Ops() {
  argo_link_ops ops = {};
  ops.sendv = [](void* ctx, uint16_t dst, uint32_t type, const argo_iov* iov, uint32_t niov) {
    return static_cast<DomainLink*>(ctx)->Sendv(dst, type, iov, niov);
  };
  ops.notify = [](void* ctx, argo_ring_data_ent* entries, uint32_t n) {
    return static_cast<DomainLink*>(ctx)->Notify(entries, n);
  };
  ops.ring_open = [](void* ctx, uint16_t partner, argo_ring_reader* reader) {
    return static_cast<DomainLink*>(ctx)->OpenRing(partner, reader);
  };
  ops.ring_close = [](void* ctx, uint16_t partner, argo_ring_reader*) {
    static_cast<DomainLink*>(ctx)->CloseRing(partner);
  };
  ops.ring_alive = [](void* ctx, uint16_t partner, argo_ring_reader*) {
    auto* self = static_cast<DomainLink*>(ctx);
    // Only success says that it was gone; every refusal leaves things as they are.
    return self->RegisterRing(partner, self->rings_.at(partner)) == 0 ? 0 : 1;
  };
  ops.random = [](void* ctx) -> uint64_t { return static_cast<DomainLink*>(ctx)->random_() | 1; };
  ops.describe = [](void* ctx, void* cookie, argo_iov iov[ARGO_MAX_IOV]) {
    auto* self = static_cast<DomainLink*>(ctx);
    const std::vector<uint8_t>& bytes = static_cast<Queued*>(cookie)->bytes;
    return self->Describe(Payload(bytes), iov);
  };
  ops.done = [](void*, void* cookie, int) { absl::WrapUnique(static_cast<Queued*>(cookie)); };
  ops.deliver = [](void* ctx, uint16_t src, const argo_ring_message* message) {
    static_cast<DomainLink*>(ctx)->Deliver(src, *message);
  };
  ops.peer_ready = [](void* ctx, uint16_t domid) {
    auto* self = static_cast<DomainLink*>(ctx);
    self->user_->OnCanSend(domid + self->options_.cid_offset);
  };
  ops.peer_lost = [](void* ctx, uint16_t domid) {
    auto* self = static_cast<DomainLink*>(ctx);
    self->user_->OnPeerReset(domid + self->options_.cid_offset);
  };
  ops.writable = ops.peer_ready;
  return ops;
}

DomainLink::DomainLink(Hypervisor& hypervisor, GuestMemory& memory, const Options& options)
    : hypervisor_(hypervisor),
      memory_(memory),
      options_(options),
      random_(options.seed),
      peers_(ARGO_MAX_RINGS_PER_DOMAIN),
      spare_(std::make_unique<Queued>()) {}

absl::StatusOr<std::unique_ptr<DomainLink>> DomainLink::Create(Hypervisor& hypervisor,
                                                               GuestMemory& memory,
                                                               const Options& options) {
  auto link = absl::WrapUnique(new DomainLink(hypervisor, memory, options));
  if (absl::Status status = link->Init(); !status.ok()) return status;
  return link;
}

absl::Status DomainLink::Init() {
  static const argo_link_ops kOps = Ops();
  argo_link_init(&link_, &kOps, this, options_.domid, peers_.data(), peers_.size());
  scratch_ = static_cast<Scratch*>(memory_.Allocate(sizeof(Scratch)));
  bounce_ = static_cast<uint8_t*>(memory_.Allocate(ARGO_LINK_MAX_MESSAGE));
  if (scratch_ == nullptr || bounce_ == nullptr) {
    return ErrnoError(ENOMEM, "the domain's memory has no room for its Argo driver");
  }
  return absl::OkStatus();
}

DomainLink::~DomainLink() { argo_link_fini(&link_); }

absl::Status DomainLink::AddPartner(uint16_t domid) {
  switch (const int rc = argo_link_add_peer(&link_, domid, now_ms_)) {
    case 0:
    case -ARGO_EEXIST:
      return absl::OkStatus();
    default:
      return ErrnoError(-rc, absl::StrCat("cannot make domain ", domid, " a partner"));
  }
}

void DomainLink::RemovePartner(uint16_t domid) { argo_link_remove_peer(&link_, domid); }

bool DomainLink::Interrupt() { return argo_link_interrupt(&link_, now_ms_) != 0; }

void DomainLink::RunTimers() {
  if (DueMs() <= now_ms_) argo_link_timer(&link_, now_ms_);
}

// ---- hypercalls ----

int DomainLink::Sendv(uint16_t dst, uint32_t type, const argo_iov* iov, uint32_t niov) {
  scratch_->addr.src = {ARGO_LINK_PORT, options_.domid, 0};
  scratch_->addr.dst = {ARGO_LINK_PORT, dst, 0};
  for (uint32_t i = 0; i < niov; ++i) {
    scratch_->iov[i] = iov[i];
    const void* base = reinterpret_cast<const void*>(iov[i].base);
    if (iov[i].len <= sizeof(scratch_->small) && !memory_.Contains(base, iov[i].len)) {
      std::memcpy(scratch_->small, base, iov[i].len);
      scratch_->iov[i].base = reinterpret_cast<uint64_t>(scratch_->small);
    }
  }
  return hypervisor_.ArgoOp(options_.domid, ARGO_OP_SENDV, &scratch_->addr, scratch_->iov, niov,
                            type);
}

int DomainLink::Notify(argo_ring_data_ent* entries, uint32_t n) {
  if (n == 0) return hypervisor_.ArgoOp(options_.domid, ARGO_OP_NOTIFY, nullptr, nullptr, 0, 0);
  scratch_->notify.data = {n, 0};
  std::memcpy(scratch_->notify.entries, entries, n * sizeof(*entries));
  const int rc =
      hypervisor_.ArgoOp(options_.domid, ARGO_OP_NOTIFY, &scratch_->notify, nullptr, 0, 0);
  std::memcpy(entries, scratch_->notify.entries, n * sizeof(*entries));
  return rc;
}

int DomainLink::RegisterRing(uint16_t partner, const Pages& pages) {
  scratch_->reg = {ARGO_LINK_PORT, partner, 0, options_.ring_size};
  // The frame list must be guest memory as well: behind the ring's own pages, see OpenRing().
  const uint8_t* gfns = pages.memory + 4096 * argo_ring_pages(options_.ring_size);
  return hypervisor_.ArgoOp(options_.domid, ARGO_OP_REGISTER_RING, &scratch_->reg, gfns,
                            argo_ring_pages(options_.ring_size), ARGO_REGISTER_FLAG_FAIL_EXIST);
}

int DomainLink::OpenRing(uint16_t partner, argo_ring_reader* reader) {
  const uint32_t npages = argo_ring_pages(options_.ring_size);
  const size_t list_pages = (npages * sizeof(uint64_t) + 4095) / 4096;
  absl::StatusOr<Pages> pages = memory_.AllocatePages(npages + list_pages);
  if (!pages.ok()) return -ARGO_ENOMEM;
  std::memcpy(pages->memory + 4096 * npages, pages->gfns.data(), npages * sizeof(uint64_t));
  int rc = RegisterRing(partner, *pages);
  if (rc == 0) rc = argo_ring_reader_init(reader, pages->memory, options_.ring_size);
  if (rc != 0) {
    memory_.FreePages(*pages);
    return rc;
  }
  rings_[partner] = *std::move(pages);
  return 0;
}

void DomainLink::CloseRing(uint16_t partner) {
  auto it = rings_.find(partner);
  if (it == rings_.end()) return;
  scratch_->unreg = {ARGO_LINK_PORT, partner, 0};
  // ENOENT is normal: Xen drops the ring with its partner.
  hypervisor_.ArgoOp(options_.domid, ARGO_OP_UNREGISTER_RING, &scratch_->unreg, nullptr, 0, 0);
  memory_.FreePages(it->second);
  rings_.erase(it);
}

// ---- packets ----

void DomainLink::Deliver(uint16_t src, const argo_ring_message& message) {
  const Payload whole(absl::MakeConstSpan(message.seg[0].data, message.seg[0].len),
                      absl::MakeConstSpan(message.seg[1].data, message.seg[1].len));
  uint8_t bytes[VSOCK_HEADER_SIZE];  // one copy: the ring's memory is not looked at twice
  Header header;
  if (whole.size() < sizeof(bytes)) {
    ++drop_header_;
    return;
  }
  whole.Prefix(sizeof(bytes)).CopyTo(bytes);
  if (!packet::ParseHeader(bytes, whole.size(), &header)) {
    ++drop_header_;
    return;
  }
  user_->OnPacket(src + options_.cid_offset, header, whole.Skip(sizeof(bytes)));
}

uint32_t DomainLink::Describe(const Payload& payload, argo_iov* iov) {
  uint32_t n = 0;
  size_t used = 0;
  for (absl::Span<const uint8_t> part : {payload.first, payload.second}) {
    if (part.empty()) continue;
    const uint8_t* base = part.data();
    if (!memory_.Contains(base, part.size())) {
      std::memcpy(bounce_ + used, base, part.size());
      base = bounce_ + used;
      used += part.size();
    }
    iov[n++] = {reinterpret_cast<uint64_t>(base), static_cast<uint32_t>(part.size()), 0};
  }
  return n;
}

bool DomainLink::ToDomid(uint64_t cid, uint16_t* domid) const {
  if (cid < options_.cid_offset || cid - options_.cid_offset >= ARGO_DOMID_SELF) return false;
  *domid = static_cast<uint16_t>(cid - options_.cid_offset);
  return true;
}

packet::Link::Reach DomainLink::Reaches(uint64_t cid) const {
  uint16_t domid;
  if (!ToDomid(cid, &domid)) return Reach::kNobody;
  const argo_peer* p = peer(domid);
  // A guest under Xen learns only by time-out that a domain does not exist; here the machine is
  // asked.
  if (p == nullptr || !hypervisor_.Exists(domid)) return Reach::kNobody;
  return p->state == ARGO_PEER_READY || p->state == ARGO_PEER_BLOCKED ? Reach::kUp
                                                                      : Reach::kStarting;
}

bool DomainLink::CanSend(uint64_t cid) const {
  uint16_t domid;
  if (!ToDomid(cid, &domid)) return false;
  const argo_peer* p = peer(domid);
  return p != nullptr && p->state == ARGO_PEER_READY;
}

uint32_t DomainLink::MaxPayload(uint64_t cid) const {
  uint16_t domid;
  const argo_peer* p = ToDomid(cid, &domid) ? peer(domid) : nullptr;
  return p == nullptr || p->max_payload == 0 ? 1 : p->max_payload;
}

void DomainLink::Send(const Header& header, const Payload& payload) {
  uint16_t domid;
  if (!ToDomid(header.dst_cid, &domid)) return;
  const auto bytes = packet::SerializeHeader(header);
  std::memcpy(scratch_->header, bytes.data(), bytes.size());
  argo_iov iov[3];
  iov[0] = {reinterpret_cast<uint64_t>(scratch_->header), VSOCK_HEADER_SIZE, 0};
  const uint32_t n = 1 + Describe(payload, iov + 1);
  const argo_send_class send_class = header.op == VSOCK_OP_RW ? ARGO_SEND_DATA : ARGO_SEND_REPLY;
  const int rc = argo_link_send(&link_, domid, send_class, iov, n, spare_.get(), now_ms_);
  if (rc == -ARGO_ENOBUFS || rc == -ARGO_EMSGSIZE) {
    // A packet that vanishes would be a hole in a stream: better an end than that.
    ++drop_unsent_;
    argo_link_peer_gone(&link_, domid, now_ms_);
  }
  if (rc != 1) return;  // sent; or the session ended, which peer_lost() tells
  Queued* queued = spare_.release();
  spare_ = std::make_unique<Queued>();
  queued->bytes.resize(bytes.size() + payload.size());
  std::memcpy(queued->bytes.data(), bytes.data(), bytes.size());
  payload.CopyTo(queued->bytes.data() + bytes.size());
}

}  // namespace argosy::sim
