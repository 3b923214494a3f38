// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
// A hostile partner, a hostile page and a clumsy Xen against one link, beside a good partner whose
// packets must arrive in any case.  Checks what the link promises: bounds, one done() for each
// cookie kept, no callback out of its turn, and that it always comes to an end.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "backends/argo/core/fake_xen.h"
#include "backends/argo/core/link.h"

namespace {

using argosy::argo::FakeDomain;
using argosy::argo::FakeXen;

void Check(bool condition) {
  if (!condition) std::abort();
}

class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  uint8_t Byte() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }
  uint32_t Word() {
    uint32_t word = 0;
    for (int i = 0; i < 4; ++i) word = word << 8 | Byte();
    return word;
  }
  bool empty() const { return size_ == 0; }

 private:
  const uint8_t* data_;
  size_t size_;
};

constexpr uint16_t kUs = 1, kHostile = 2, kGood = 3;

// ready and lost take turns, and packets come between them.
void CheckEvents(const FakeDomain& us, uint16_t partner) {
  const std::string name = std::to_string(partner);
  bool ready = false;
  for (const std::string& event : us.events) {
    if (event == "ready " + name) {
      Check(!ready);
      ready = true;
    } else if (event == "lost " + name) {
      Check(ready);
      ready = false;
    } else if (event == "writable " + name || event.rfind("packet " + name + " ", 0) == 0) {
      Check(ready);
    }
  }
  Check(ready == (us.State(partner) >= ARGO_PEER_READY));
}

void Greet(FakeXen& xen, FakeDomain& us, Input& input) {
  const uint8_t how = input.Byte();
  argo_link_greeting greeting = {};
  greeting.version_min = how & 1 ? input.Byte() : 1;
  greeting.version_max = how & 2 ? input.Byte() : 1;
  greeting.max_payload = how & 4 ? input.Word() : ARGO_LINK_MAX_PAYLOAD;
  greeting.incarnation = how & 8 ? input.Byte() : 7;
  greeting.heard = how & 16 ? input.Byte() : us.Peer(kHostile).incarnation;
  const auto* bytes = reinterpret_cast<const uint8_t*>(&greeting);
  xen.Inject(kUs, kHostile, {ARGO_LINK_PORT, kHostile, 0}, ARGO_LINK_TYPE_GREETING,
             {bytes, bytes + sizeof(greeting) - (how & 32 ? 1 : 0)});
}

void Scribble(FakeXen& xen, Input& input) {
  FakeXen::Ring* ring = xen.FindRing(kUs, kHostile);
  const uint8_t where = input.Byte();
  const uint32_t value = input.Word();
  if (!ring) return;
  if (where == 0) {
    ring->header()->tx_ptr = value;
  } else if (where == 1) {
    ring->header()->rx_ptr = value;
  } else {
    std::memcpy(ring->data() + where * ARGO_SLOT_SIZE % ring->len, &value, sizeof(value));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size < 400 ? size : 400);
  FakeXen xen;
  FakeDomain& us = xen.Add(kUs);
  FakeDomain& good = xen.Add(kGood);
  xen.Add(kHostile);
  us.ring_len = 4096;
  xen.AddRing(kHostile, kUs, 2048);
  us.AddPeer(kGood);
  us.AddPeer(kHostile);
  good.AddPeer(kUs);
  xen.Run();
  us.on_deliver = [&us](uint16_t src) { us.Send(src, 1, 100, ARGO_SEND_REPLY); };

  uint32_t tag = 0;
  while (!input.empty()) {
    const uint8_t action = input.Byte();
    switch (action % 12) {
      case 0:
      case 1:
        Greet(xen, us, input);
        break;
      case 2: {
        const uint16_t domid = input.Byte() % 8 ? kHostile : 9;
        const uint32_t type = input.Byte() % 4 ? ARGO_LINK_TYPE_PACKET : input.Word();
        xen.Inject(kUs, kHostile, {ARGO_LINK_PORT, domid, 0}, type,
                   std::vector<uint8_t>(input.Byte() * 4));
        break;
      }
      case 3:
        Scribble(xen, input);
        break;
      case 4:
        us.Send(kHostile, 1, 44 + input.Byte() * 16,
                input.Byte() % 2 ? ARGO_SEND_REPLY : ARGO_SEND_DATA);
        break;
      case 5:
        xen.AddRing(kHostile, kUs, 48 + input.Byte() * 16);
        break;
      case 6:
        xen.Unregister(kHostile, kUs);
        break;
      case 7:
        if (!xen.busy.erase(kHostile)) xen.busy.insert(kHostile);
        break;
      case 8:
        xen.Advance(input.Byte() * 10);
        break;
      case 9:
        Check(good.Send(kUs, tag++) == 0);
        break;
      case 10:
        argo_link_peer_gone(&us.link, kHostile, xen.now_ms);
        break;
      case 11:
        if (argo_link_remove_peer(&us.link, kHostile) == 0) us.AddPeer(kHostile);
        break;
    }
    xen.Run();
    Check(us.Peer(kHostile).queue_count <= ARGO_LINK_QUEUE);
    Check((us.State(kHostile) == ARGO_PEER_BLOCKED) == (us.Peer(kHostile).queue_count > 0));
    Check(us.State(kGood) == ARGO_PEER_READY);
  }
  CheckEvents(us, kHostile);
  CheckEvents(us, kGood);
  Check(us.Peer(kGood).count.rx_messages == tag);
  for (const auto& packet : us.packets) Check(packet->done <= 1);
  return 0;
}
