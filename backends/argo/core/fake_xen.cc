// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#include "backends/argo/core/fake_xen.h"

#include <cstdlib>
#include <cstring>

namespace argosy::argo {
namespace {

FakeDomain* Self(void* ctx) { return static_cast<FakeDomain*>(ctx); }

uint32_t Total(const argo_iov* iov, uint32_t niov) {
  uint32_t len = 0;
  for (uint32_t i = 0; i < niov; ++i) len += iov[i].len;
  return len;
}

void Saw(void* ctx, const char* what, uint16_t domid) {
  Self(ctx)->events.push_back(std::string(what) + " " + std::to_string(domid));
}

argo_link_ops MakeOps() {
  argo_link_ops ops = {};
  ops.sendv = [](void* ctx, uint16_t dst, uint32_t type, const argo_iov* iov, uint32_t niov) {
    return Self(ctx)->xen->Sendv(Self(ctx)->domid, dst, type, iov, niov);
  };
  ops.notify = [](void* ctx, argo_ring_data_ent* entries, uint32_t n) {
    return Self(ctx)->xen->Notify(Self(ctx)->domid, entries, n);
  };
  ops.ring_open = [](void* ctx, uint16_t partner, argo_ring_reader* reader) {
    FakeDomain* self = Self(ctx);
    if (!self->xen->Find(partner)) return -ARGO_ESRCH;
    if (self->xen->FindRing(self->domid, partner)) return -ARGO_EEXIST;
    FakeXen::Ring* ring = self->xen->AddRing(self->domid, partner, self->ring_len);
    return argo_ring_reader_init(reader, ring->words.data(), ring->len);
  };
  ops.ring_close = [](void* ctx, uint16_t partner, argo_ring_reader* reader) {
    Self(ctx)->xen->Free(Self(ctx)->domid, partner);
    // Whoever reads it after this gets a null pointer.
    reader->header = nullptr;
    reader->data = nullptr;
  };
  ops.ring_alive = [](void* ctx, uint16_t partner, argo_ring_reader*) {
    return Self(ctx)->xen->FindRing(Self(ctx)->domid, partner) != nullptr ? 1 : 0;
  };
  ops.random = [](void* ctx) {
    static uint64_t next = 0;
    Self(ctx)->incarnations++;
    return (++next << 16) + Self(ctx)->domid;
  };
  ops.describe = [](void*, void* cookie, argo_iov iov[ARGO_MAX_IOV]) -> uint32_t {
    auto* packet = static_cast<FakePacket*>(cookie);
    iov[0] = {reinterpret_cast<uintptr_t>(packet->bytes.data()), ARGO_LINK_PACKET_HEADER, 0};
    iov[1] = {reinterpret_cast<uintptr_t>(packet->bytes.data()) + ARGO_LINK_PACKET_HEADER,
              static_cast<uint32_t>(packet->bytes.size()) - ARGO_LINK_PACKET_HEADER, 0};
    return 2;
  };
  ops.done = [](void*, void* cookie, int status) {
    auto* packet = static_cast<FakePacket*>(cookie);
    packet->done++;
    packet->status = status;
  };
  ops.deliver = [](void* ctx, uint16_t src, const argo_ring_message* message) {
    // Out of both pieces, so that a bad one is seen.
    std::vector<uint8_t> bytes;
    for (const auto& seg : message->seg) bytes.insert(bytes.end(), seg.data, seg.data + seg.len);
    uint32_t tag;
    std::memcpy(&tag, bytes.data(), sizeof(tag));
    Self(ctx)->events.push_back("packet " + std::to_string(src) + " " + std::to_string(tag));
    if (Self(ctx)->on_deliver) Self(ctx)->on_deliver(src);
    // The message must still be there after whatever the callback did.
    std::vector<uint8_t> again;
    for (const auto& seg : message->seg) again.insert(again.end(), seg.data, seg.data + seg.len);
    if (again != bytes) Saw(ctx, "overwritten", src);
  };
  ops.peer_ready = [](void* ctx, uint16_t domid) {
    Saw(ctx, "ready", domid);
    if (Self(ctx)->on_ready) Self(ctx)->on_ready(domid);
  };
  ops.peer_lost = [](void* ctx, uint16_t domid) {
    for (const auto& packet : Self(ctx)->packets) {
      if (packet->done > 1) std::abort();
    }
    Saw(ctx, "lost", domid);
  };
  ops.writable = [](void* ctx, uint16_t domid) {
    Saw(ctx, "writable", domid);
    if (Self(ctx)->on_writable) Self(ctx)->on_writable(domid);
  };
  return ops;
}

}  // namespace

FakeDomain::FakeDomain(FakeXen* xen, uint16_t domid, uint32_t max_peers)
    : xen(xen), domid(domid), peers(max_peers), ops(MakeOps()) {
  // Memory as an allocator may leave it.
  std::memset(&link, 0xA5, sizeof(link));
  std::memset(peers.data(), 0xA5, peers.size() * sizeof(peers[0]));
  argo_link_init(&link, &ops, this, domid, peers.data(), max_peers);
}

FakeDomain::~FakeDomain() {
  if (alive) argo_link_fini(&link);
}

int FakeDomain::AddPeer(uint16_t domid) { return argo_link_add_peer(&link, domid, xen->now_ms); }

int FakeDomain::Send(uint16_t dst, uint32_t tag, uint32_t size, argo_send_class send_class) {
  auto packet = std::make_unique<FakePacket>();
  packet->bytes.resize(size);
  std::memcpy(packet->bytes.data(), &tag, sizeof(tag));
  argo_iov iov[ARGO_MAX_IOV];
  const uint32_t niov = ops.describe(this, packet.get(), iov);
  const int ret = argo_link_send(&link, dst, send_class, iov, niov, packet.get(), xen->now_ms);
  packets.push_back(std::move(packet));
  return ret;
}

int FakeDomain::Interrupt() {
  interrupt_pending = false;
  return argo_link_interrupt(&link, xen->now_ms);
}

uint64_t FakeDomain::Timer() { return argo_link_timer(&link, xen->now_ms); }

FakeDomain& FakeXen::Add(uint16_t domid, uint32_t max_peers) {
  auto& domain = domains_[domid];
  domain = std::make_unique<FakeDomain>(this, domid, max_peers);
  return *domain;
}

void FakeXen::Kill(uint16_t domid) {
  auto domain = domains_.find(domid);
  domain->second->alive = false;
  dead_.push_back(std::move(domain->second));
  domains_.erase(domain);
  for (auto& [key, ring] : rings_) {
    if (key.first == domid || key.second == domid) ring->writer.len = 0;
  }
}

FakeDomain* FakeXen::Find(uint16_t domid) {
  auto domain = domains_.find(domid);
  return domain == domains_.end() ? nullptr : domain->second.get();
}

FakeXen::Ring* FakeXen::FindRing(uint16_t owner, uint16_t partner) {
  auto ring = rings_.find({owner, partner});
  return ring == rings_.end() || ring->second->writer.len == 0 ? nullptr : ring->second.get();
}

FakeXen::Ring* FakeXen::AddRing(uint16_t owner, uint16_t partner, uint32_t len) {
  auto ring = std::make_unique<Ring>();
  ring->words.resize((ARGO_RING_HEADER_SIZE + len) / 8);
  ring->len = len;
  argo_ring_writer_init(&ring->writer, ring->words.data(), len);
  auto& place = rings_[{owner, partner}];
  place = std::move(ring);
  return place.get();
}

FakeXen::Ring* FakeXen::Match(uint16_t owner, uint16_t sender, bool* shared) {
  *shared = false;
  if (Ring* ring = FindRing(owner, sender)) return ring;
  *shared = true;
  return FindRing(owner, ARGO_DOMID_ANY);
}

int FakeXen::Run(int limit) {
  int ran = 0;
  for (bool some = true; some && ran < limit;) {
    some = false;
    for (auto& [domid, domain] : domains_) {
      if (!domain->interrupt_pending) continue;
      some = true;
      ++ran;
      if (domain->Interrupt() == 1) domain->interrupt_pending = true;
    }
  }
  return ran;
}

void FakeXen::Advance(uint64_t ms) {
  const uint64_t end = now_ms + ms;
  Run();
  for (;;) {
    uint64_t due = end + 1;
    for (auto& [domid, domain] : domains_) {
      const uint64_t at = argo_link_due_ms(&domain->link);
      if (at < due) due = at;
    }
    if (due > end) break;
    if (due > now_ms) now_ms = due;
    for (auto& [domid, domain] : domains_) {
      for (int calls = 0; domain->Timer() <= now_ms; ++calls) {
        if (calls > 1000) std::abort();  // a timer that spins
      }
    }
    Run();
  }
  now_ms = end;
}

int FakeXen::Inject(uint16_t owner, uint16_t partner, argo_addr src, uint32_t type,
                    const std::vector<uint8_t>& payload) {
  Ring* ring = FindRing(owner, partner);
  if (!ring) return -ARGO_ECONNREFUSED;
  const argo_iov iov = {reinterpret_cast<uintptr_t>(payload.data()),
                        static_cast<uint32_t>(payload.size()), 0};
  const int ret = argo_ring_writer_insert(&ring->writer, src, type, &iov, 1, iov.len);
  if (ret == 0) Find(owner)->interrupt_pending = true;
  return ret;
}

int FakeXen::Sendv(uint16_t src, uint16_t dst, uint32_t type, const argo_iov* iov, uint32_t niov) {
  const uint32_t len = Total(iov, niov);
  if (fail_send != 0 && type == ARGO_LINK_TYPE_PACKET) return fail_send;
  if (fail_greeting != 0 && type == ARGO_LINK_TYPE_GREETING) return fail_greeting;
  if (!Find(dst)) return -ARGO_ESRCH;
  bool shared;
  Ring* ring = Match(dst, src, &shared);
  if (!ring) return -ARGO_ECONNREFUSED;
  const int ret = argo_ring_writer_insert(
      &ring->writer, {.port = ARGO_LINK_PORT, .domid = src, .pad = 0}, type, iov, niov, len);
  if (ret == -ARGO_EAGAIN) {
    if (busy.count(dst)) return -ARGO_EBUSY;
    uint32_t& waiting = ring->pending[src];
    if (len > waiting) waiting = len;
  }
  if (ret != 0) return ret;
  if (type == ARGO_LINK_TYPE_GREETING) ++greetings;
  Find(dst)->interrupt_pending = true;
  return static_cast<int>(len);
}

int FakeXen::Notify(uint16_t caller, argo_ring_data_ent* entries, uint32_t n) {
  if (fail_notify != 0) return fail_notify;
  if (n > ARGO_MAX_NOTIFY_ENTRIES) return -13;
  for (auto& [key, ring] : rings_) {
    if (key.first != caller || ring->writer.len == 0) continue;
    const uint32_t space = argo_ring_writer_space(&ring->writer);
    for (auto waiter = ring->pending.begin(); waiter != ring->pending.end();) {
      if (space == 0 || waiter->second > space) {
        ++waiter;
        continue;
      }
      if (FakeDomain* domain = Find(waiter->first)) domain->interrupt_pending = true;
      waiter = ring->pending.erase(waiter);
    }
  }
  if (n == 0) {
    ++wakes;
  } else {
    notified.push_back(n);
  }
  for (uint32_t i = 0; i < n; ++i) {
    argo_ring_data_ent& entry = entries[i];
    entry.flags = 0;
    bool shared;
    Ring* ring = Find(entry.ring.domid) ? Match(entry.ring.domid, caller, &shared) : nullptr;
    if (!ring) continue;
    entry.max_message_size = ring->len - 32;
    entry.flags = ARGO_RING_EXISTS | (shared ? ARGO_RING_SHARED : 0);
    const uint32_t space = argo_ring_writer_space(&ring->writer);
    if (entry.space_required > entry.max_message_size) {
      entry.flags |= ARGO_RING_EMSGSIZE;
    } else if (space >= entry.space_required) {
      entry.flags |= ARGO_RING_SUFFICIENT;
      ring->pending.erase(caller);
    } else if (busy.count(entry.ring.domid)) {
      entry.flags |= ARGO_RING_EBUSY;
    } else {
      uint32_t& waiting = ring->pending[caller];
      if (entry.space_required > waiting) waiting = entry.space_required;
    }
    if (space == entry.max_message_size) entry.flags |= ARGO_RING_EMPTY;
  }
  return 0;
}

void FakeXen::Unregister(uint16_t owner, uint16_t partner) {
  if (Ring* ring = FindRing(owner, partner)) ring->writer.len = 0;
}

void FakeXen::Free(uint16_t owner, uint16_t partner) { rings_.erase({owner, partner}); }

}  // namespace argosy::argo
