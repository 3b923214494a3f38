// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
// File: backends/argo/core/fake_xen.h
//
// For tests of the link: a few domains, each with one link, whose hypercalls end in each other's
// rings.  Only as much of Xen as the link can see: rings by (owner, partner), their fullness, who
// waits for space, and faults to order.
#ifndef ARGOSY_BACKENDS_ARGO_CORE_FAKE_XEN_H_
#define ARGOSY_BACKENDS_ARGO_CORE_FAKE_XEN_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "backends/argo/core/link.h"
#include "backends/argo/core/ring.h"

namespace argosy::argo {

// A packet as tests see it: bytes with a cookie.
struct FakePacket {
  std::vector<uint8_t> bytes;
  int done = 0;  // how often done() was called
  int status = 0;
};

class FakeXen;

// One domain: a link and what its callbacks saw.
class FakeDomain {
 public:
  FakeDomain(FakeXen* xen, uint16_t domid, uint32_t max_peers);
  ~FakeDomain();
  FakeDomain(const FakeDomain&) = delete;
  FakeDomain& operator=(const FakeDomain&) = delete;

  const argo_peer& Peer(uint16_t domid) const { return *argo_link_peer(&link, domid); }
  int State(uint16_t domid) const { return Peer(domid).state; }
  int AddPeer(uint16_t domid);
  // A packet of `size` bytes that starts with `tag`.  The packet lives as long as the domain.
  int Send(uint16_t dst, uint32_t tag, uint32_t size = ARGO_LINK_PACKET_HEADER,
           argo_send_class send_class = ARGO_SEND_DATA);
  int Interrupt();
  uint64_t Timer();

  FakeXen* const xen;
  const uint16_t domid;
  std::vector<argo_peer> peers;
  argo_link link;
  argo_link_ops ops;

  uint32_t ring_len = 8192;
  bool interrupt_pending = false;
  bool alive = true;
  uint64_t incarnations = 0;
  std::vector<std::unique_ptr<FakePacket>> packets;

  // What happened, in order: "ready 2", "lost 2", "writable 2", "packet 2 17" (tag 17 from domain
  // 2), "overwritten 2" (a packet changed while it was delivered).
  std::vector<std::string> events;
  std::function<void(uint16_t src)> on_deliver, on_ready, on_writable;
};

class FakeXen {
 public:
  // Rings are keyed by (owner, partner); a partner of ARGO_DOMID_ANY is a wildcard ring.
  struct Ring {
    std::vector<uint64_t> words;
    uint32_t len;
    argo_ring_writer writer;
    std::map<uint16_t, uint32_t> pending;  // waiting domain -> bytes
    uint8_t* data() { return reinterpret_cast<uint8_t*>(words.data()) + ARGO_RING_HEADER_SIZE; }
    argo_ring_header* header() { return reinterpret_cast<argo_ring_header*>(words.data()); }
  };

  FakeDomain& Add(uint16_t domid, uint32_t max_peers = 4);
  // The domain dies: its rings and the rings kept for it vanish, and nobody is told.
  void Kill(uint16_t domid);
  FakeDomain* Find(uint16_t domid);
  Ring* FindRing(uint16_t owner, uint16_t partner);
  Ring* AddRing(uint16_t owner, uint16_t partner, uint32_t len);
  // Delivers interrupts until there are none left, or `limit` of them.  Returns how many.
  int Run(int limit = 10000);
  // Time passes, timers and interrupts run as they become due.
  void Advance(uint64_t ms);
  // Puts any message into owner's ring for `partner`, stamped as told.
  int Inject(uint16_t owner, uint16_t partner, argo_addr src, uint32_t type,
             const std::vector<uint8_t>& payload);

  int Sendv(uint16_t src, uint16_t dst, uint32_t type, const argo_iov* iov, uint32_t niov);
  int Notify(uint16_t caller, argo_ring_data_ent* entries, uint32_t n);
  // Xen forgets the ring; a reader may still look at the memory.
  void Unregister(uint16_t owner, uint16_t partner);
  // Its memory goes, too.
  void Free(uint16_t owner, uint16_t partner);

  uint64_t now_ms = 1000;
  std::set<uint16_t> busy;         // domains whose rings have 32 waiting already: EBUSY
  int fail_send = 0;               // sendv of a packet answers this instead
  int fail_greeting = 0;           // the same for a greeting
  int fail_notify = 0;             // notify answers this instead
  int wakes = 0;                   // notifies with 0 entries
  std::vector<uint32_t> notified;  // entries of each other notify
  int greetings = 0;               // greetings that sendv took

 private:
  // The ring that a message would go into; *shared says that the wildcard ring matched.
  Ring* Match(uint16_t owner, uint16_t sender, bool* shared);

  // Outlives the domains, which unregister at their end.
  std::map<std::pair<uint16_t, uint16_t>, std::unique_ptr<Ring>> rings_;
  std::map<uint16_t, std::unique_ptr<FakeDomain>> domains_;
  std::vector<std::unique_ptr<FakeDomain>> dead_;
};

}  // namespace argosy::argo

#endif  // ARGOSY_BACKENDS_ARGO_CORE_FAKE_XEN_H_
