// SPDX-License-Identifier: Apache-2.0
// A random walk over argo_op, told line by line.  Linked with any bed: on the simulator and on a
// real Xen the same seed must tell the same story.
//
//   argo-hypercall-walk SEED STEPS DOMAINS WILDCARD(0|1)
//
// No ring is registered again in place: Xen takes a place for that, for ever (C09).  What lies
// behind tx_ptr is not looked at: a send that fails may leave something there.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "backends/argo/abi/argo.h"
#include "sim/argo_hypercall_guest.h"
#include "sim/hypercalls.h"

namespace argosy::sim {
namespace {

constexpr uint32_t kPorts = 2;
constexpr size_t kRingPages = 3;

class Walk {
 public:
  Walk(uint32_t seed, std::vector<Guest> all) : random_(seed), guests_(std::move(all)) {
    for (Guest& owner : guests_) {
      for (uint32_t i = 0; i < (guests() + 1) * kPorts; ++i) {
        Ring ring;
        ring.pages = owner->AllocatePages(kRingPages);
        rings_.push_back({ring, false});
      }
      owner->TakeInterrupts();
    }
  }

  void Step() {
    const uint32_t what = Below(100);
    if (what < 15) {
      Register();
    } else if (what < 18) {
      Unregister();
    } else if (what < 62) {
      Send();
    } else if (what < 82) {
      Notify();
    } else if (what < 98) {
      Drain();
    } else {
      ScribbleTx();
    }
    std::string woken;
    for (Guest& guest : guests_) woken += guest->TakeInterrupts() > 0 ? '!' : '.';
    printf("%s %s\n", line_.c_str(), woken.c_str());
  }

  void Summary() const {
    for (const auto& [what, count] : results_) printf("%s: %d\n", what.c_str(), count);
  }

 private:
  struct Slot {
    Ring ring;
    bool live;
  };

  uint32_t Below(uint32_t n) { return static_cast<uint32_t>(random_() % n); }
  bool Rarely() { return Below(20) == 0; }
  template <typename T>
  T OneOf(std::initializer_list<T> values) {
    return values.begin()[Below(static_cast<uint32_t>(values.size()))];
  }

  // One more than the last guest stands for "any".
  uint16_t Domid(uint32_t index) const {
    return index < guests_.size() ? guests_[index].domid() : ARGO_DOMID_ANY;
  }
  std::string Name(uint16_t domid) const {
    for (size_t i = 0; i < guests_.size(); ++i) {
      if (guests_[i].domid() == domid) return absl::StrCat("d", i);
    }
    return domid == ARGO_DOMID_ANY ? "any" : absl::StrCat(domid);
  }
  Slot& SlotOf(uint32_t owner, uint32_t partner, uint32_t port) {
    return rings_[(owner * (guests_.size() + 1) + partner) * kPorts + port];
  }
  uint32_t guests() const { return static_cast<uint32_t>(guests_.size()); }
  uint32_t AnyGuest() { return Below(guests()); }
  uint32_t AnyPartner() { return Below(guests() + 1); }

  int Told(absl::string_view what, int result) {
    absl::StrAppend(&line_, " = ", result);
    ++results_[absl::StrCat(what, " ", result > 0 ? 1 : result)];
    return result;
  }

  void Register() {
    const uint32_t owner = AnyGuest(), partner = AnyPartner(), port = Below(kPorts);
    Slot& slot = SlotOf(owner, partner, port);
    uint32_t len = OneOf<uint32_t>({48, 64, 128, 256, 1008, 4032, 4096, 8192, 12224});
    if (Rarely()) len = OneOf<uint32_t>({0, 32, 47, 65, 0xFFFFFFF0});
    std::vector<uint64_t> gfns(
        slot.ring.pages.gfns.begin(),
        slot.ring.pages.gfns.begin() + std::min<size_t>(kRingPages, argo_ring_pages(len)));
    if (Rarely()) gfns.resize(Below(4), slot.ring.pages.gfns[0]);
    if (Rarely() && !gfns.empty()) gfns.back() = guests_[owner]->InvalidGfn();
    const uint32_t flags = Rarely() ? OneOf<uint32_t>({2, 3, 0x80000000}) : 1;
    const uint16_t domid = Rarely() ? kNobody : Domid(partner);
    if (!slot.live && Below(3) == 0) {
      slot.ring.set_rx(OneOf<uint32_t>({0, 16, 33, 112, 4096, 0xFFFFFFFF}));
      slot.ring.set_tx(OneOf<uint32_t>({0, 16, 33, 112, 4096, 0xFFFFFFFF}));
    }
    line_ = absl::StrCat("d", owner, " registers port ", port, " for ", Name(domid), " len ", len,
                         " pages ", gfns.size(), " flags ", flags);
    const uint16_t pad = Rarely() ? 1 : 0;
    if (Told("register",
             guests_[owner].RegisterPages(gfns, len, domid, flags, kPort + port, pad)) == 0) {
      slot.live = true;
      slot.ring.len = len;
      absl::StrAppend(&line_, " tx ", slot.ring.tx());
    }
  }

  void Unregister() {
    const uint32_t owner = AnyGuest(), partner = AnyPartner(), port = Below(kPorts);
    Guest& guest = guests_[owner];
    *guest.unreg() = {kPort + port, Domid(partner), static_cast<uint16_t>(Rarely() ? 1 : 0)};
    line_ = absl::StrCat("d", owner, " unregisters port ", port, " for ", Name(Domid(partner)));
    const void* const arg = Rarely() ? guest->BadPointer() : guest.unreg();
    if (Told("unregister", guest->ArgoOp(ARGO_OP_UNREGISTER_RING, arg, nullptr, 0, 0)) == 0) {
      SlotOf(owner, partner, port).live = false;
    }
  }

  void Send() {
    const auto [from, to, port, ring_len] = AnyTarget();
    Guest& guest = guests_[from];
    guest.Address(Rarely() ? kNobody : Domid(to), kPort + port);
    guest.addresses()->src.port = Below(1000);
    if (Below(5) == 0) guest.addresses()->src.domid = Rarely() ? Domid(AnyGuest()) : ARGO_DOMID_ANY;
    if (Rarely() && Rarely()) guest.addresses()->src.domid = kNobody;
    if (Rarely() && Rarely()) guest.addresses()->dst.pad = 1;
    const uint32_t niov = Rarely() ? Below(10) : Below(4);
    std::string payload;
    for (uint32_t i = 0; i < niov; ++i) {
      const auto len = std::min<uint32_t>(
          OneOf<uint32_t>({1, 15, 16, 17, 40, ring_len - 32, Below(ring_len / 2) + 1}), 4200);
      const std::string piece = Pattern(len, static_cast<int>(Below(256)));
      // Each piece in a place of its own.
      uint8_t* const at = guest.payload() + i * 4300;
      memcpy(at, piece.data(), len);
      guest.iov()[i] = Guest::Piece(at, len);
      payload += piece;
    }
    if (niov > 0 && Rarely()) {
      argo_iov& iov = guest.iov()[Below(niov)];
      switch (Below(3)) {
        case 0:
          iov.pad = 1;
          break;
        case 1:
          iov.len = ARGO_MAX_MESSAGE_SIZE + Below(2);
          break;
        case 2:
          iov.base = reinterpret_cast<uintptr_t>(guest->BadPointer());
          break;
      }
    }
    const uint32_t type = Below(1000);
    line_ = absl::StrCat("d", from, " sends ", payload.size(), " in ", niov, " to d", to, " port ",
                         port);
    if (Told("send", guest.SendIov(niov, type)) < 0) return;
    TellMessage(SlotThatTook(to, from, port).ring, static_cast<uint32_t>(payload.size()));
  }

  Slot& SlotThatTook(uint32_t owner, uint32_t sender, uint32_t port) {
    Slot& own = SlotOf(owner, sender, port);
    return own.live ? own : SlotOf(owner, static_cast<uint32_t>(guests_.size()), port);
  }

  // The message that ends at tx_ptr.
  void TellMessage(const Ring& ring, uint32_t len) {
    const uint32_t size = argo_slots(ARGO_MESSAGE_HEADER_SIZE + len);
    const uint32_t start = (ring.tx() + ring.len - size) % ring.len;
    argo_message_header header;
    ring.Copy(start, &header, sizeof(header));
    std::string payload(len, 0);
    ring.Copy((start + ARGO_MESSAGE_HEADER_SIZE) % ring.len, payload.data(), len);
    uint32_t hash = 2166136261u;
    for (const char byte : payload) hash = (hash ^ static_cast<uint8_t>(byte)) * 16777619u;
    absl::StrAppend(&line_, " tx ", ring.tx(), " len ", header.len, " from ",
                    Name(header.src.domid), ":", header.src.port, " type ", header.type, " hash ",
                    hash);
  }

  void Notify() {
    const Target first = AnyTarget();
    if (Below(2) == 0) {
      Guest& owner = guests_[first.to];
      line_ = absl::StrCat("d", first.to, " notifies");
      Told("notify", Rarely() ? owner->ArgoOp(ARGO_OP_NOTIFY, owner->BadPointer(), nullptr, 0, 0)
                              : owner.Notify());
      return;
    }
    Guest& guest = guests_[first.from];
    line_ = absl::StrCat("d", first.from, " asks");
    std::vector<argo_ring_data_ent> entries(Below(4));
    for (argo_ring_data_ent& ent : entries) {
      const uint32_t port = &ent == &entries[0] ? first.port : Below(kPorts);
      const uint32_t to = &ent == &entries[0] ? first.to : AnyGuest();
      ent = {{kPort + port, Rarely() ? kNobody : Domid(to), 0},
             0xFFFF,
             0,
             OneOf<uint32_t>({0, 1, 16, 33, first.len - 32, Below(first.len)}),
             0xABCD};
      absl::StrAppend(&line_, " [", Name(ent.ring.domid), ":", ent.ring.port - kPort, " ",
                      ent.space_required, "]");
    }
    *guest.head() = {static_cast<uint32_t>(entries.size()), 0};
    const size_t size = entries.size() * sizeof(argo_ring_data_ent);
    if (size != 0) memcpy(guest.head() + 1, entries.data(), size);
    Told("notify", guest->ArgoOp(ARGO_OP_NOTIFY, guest.head(), nullptr, 0, 0));
    if (size != 0) memcpy(entries.data(), guest.head() + 1, size);
    for (const argo_ring_data_ent& ent : entries) {
      absl::StrAppend(&line_, " ", ent.flags, "/", ent.max_message_size);
      ++results_[absl::StrCat("answer ", ent.flags)];
    }
  }

  struct Target {
    uint32_t from, to, port, len;  // who may send to whom; bytes of the ring
  };
  // Mostly a ring that is there, seen by one whom it is for.
  Target AnyTarget() {
    Target target = {AnyGuest(), AnyGuest(), Below(kPorts), 256};
    const Ring* const ring = AnyRing("");
    if (ring == nullptr || Rarely()) return target;
    const uint32_t i = static_cast<uint32_t>(chosen_), partners = 1 + guests();
    const uint32_t partner = i / kPorts % partners;
    return {partner < guests() ? partner : target.from, i / kPorts / partners, i % kPorts,
            ring->len};
  }

  // One of the rings that are registered; null if none is.  line_ begins with whose it is.
  Ring* AnyRing(absl::string_view what) {
    std::vector<size_t> live;
    for (size_t i = 0; i < rings_.size(); ++i) {
      if (rings_[i].live) live.push_back(i);
    }
    line_ = std::string(what);
    if (live.empty()) return nullptr;
    const size_t i = chosen_ = live[Below(static_cast<uint32_t>(live.size()))];
    const size_t partners = guests_.size() + 1;
    line_ = absl::StrCat("d", i / kPorts / partners, " ", what, " port ", i % kPorts, " for ",
                         Name(Domid(static_cast<uint32_t>(i / kPorts % partners))));
    return &rings_[i].ring;
  }

  void Drain() {
    Ring* const ring = AnyRing("drains");
    if (ring == nullptr) return;
    if (Rarely()) {
      ring->set_rx(OneOf<uint32_t>({0, 1, 16, 33, 48, 4096, 0x80000000, 0xFFFFFFFF}));
    } else {
      ring->Drain();
    }
    absl::StrAppend(&line_, " rx ", ring->rx());
    if (Below(2) == 0) return;
    absl::StrAppend(&line_, " and notifies");
    Told("notify", guests_[chosen_ / kPorts / (1 + guests())].Notify());
  }

  void ScribbleTx() {
    Ring* const ring = AnyRing("scribbles on");
    if (ring != nullptr) ring->set_tx(OneOf<uint32_t>({0, 16, 33, 0xFFFFFFFF}));
  }

  std::mt19937 random_;
  std::vector<Guest> guests_;
  std::vector<Slot> rings_;  // owner, partner, port
  size_t chosen_ = 0;        // by AnyRing()
  std::string line_;
  std::map<std::string, int> results_;
};

int Main(int argc, char** argv) {
  if (argc != 5) {
    fprintf(stderr, "usage: argo-hypercall-walk SEED STEPS DOMAINS WILDCARD(0|1)\n");
    return 2;
  }
  absl::string_view why;
  std::unique_ptr<HypercallBed> bed =
      MakeHypercallBed(HypercallBed::Options{.mac_permissive = atoi(argv[4]) != 0}, &why);
  std::vector<Guest> guests;
  for (int i = 0; bed != nullptr && i < atoi(argv[3]); ++i) {
    Hypercalls* const domain = bed->CreateDomain(&why);
    if (domain == nullptr) bed = nullptr;
    if (domain != nullptr) guests.emplace_back(domain);
  }
  if (bed == nullptr) {
    fprintf(stderr, "argo-hypercall-walk: %s\n", std::string(why).c_str());
    return 1;
  }
  Walk walk(static_cast<uint32_t>(atoi(argv[1])), std::move(guests));
  for (int i = 0; i < atoi(argv[2]); ++i) walk.Step();
  walk.Summary();
  return 0;
}

}  // namespace
}  // namespace argosy::sim

int main(int argc, char** argv) { return argosy::sim::Main(argc, argv); }
