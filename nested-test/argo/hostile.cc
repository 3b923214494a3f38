// SPDX-License-Identifier: Apache-2.0
// A domain that means harm: it meets dom0's link as a partner should, and then sends what no partner
// sends, through /dev/argo_raw.
//
//   argosy-hostile spin SECONDS     uses its CPU, nothing else: what an attack is compared with
//   argosy-hostile attack SECONDS CID   CID: of an innocent domain, whose packets it forges
//
// It never takes a message out of its own ring, but for the greetings at the start of a session.
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "backends/argo/abi/argo.h"
#include "backends/argo/core/link.h"
#include "backends/argo/core/ring.h"
#include "nested-test/hypercalls/device.h"
#include "transport/error.h"
#include "transport/packet/wire.h"

namespace argosy::nested {
namespace {

constexpr uint16_t kVictim = 0;
constexpr uint32_t kVictimCid = 2;
constexpr uint32_t kRingPages = 2;
constexpr uint32_t kRingLen = kRingPages * 4096 - ARGO_RING_HEADER_SIZE;
// Where nothing else of a static program lies.
constexpr uint64_t kPages = 0x10'0000'0000;

[[noreturn]] void Die(const absl::Status& status) {
  std::fprintf(stderr, "argosy-hostile: %s\n", std::string(status.message()).c_str());
  std::exit(1);
}

class Attacker {
 public:
  Attacker(std::unique_ptr<ArgoDevice> device, uint32_t innocent)
      : device_(std::move(device)), innocent_(innocent) {
    absl::StatusOr<std::vector<uint64_t>> gfns = device_->Allocate(kPages, kRingPages + kScratch);
    if (!gfns.ok()) Die(gfns.status());
    memory_ = reinterpret_cast<uint8_t*>(kPages);
    scratch_ = memory_ + kRingPages * 4096;
    std::memcpy(gfns_, gfns->data(), sizeof(gfns_));
  }

  // One session: meets, then attacks until the victim ends it or the deadline.
  void Session(absl::Time deadline) {
    Register();
    if (!Meet(deadline)) return;
    ++sessions_;
    int refused = 0;
    while (absl::Now() < deadline && refused < 100) {
      const int ret = One();
      if (ret == -ECONNREFUSED) {
        ++refused;
        usleep(10000);
      } else if (ret == -EAGAIN) {
        usleep(1000);
      }
    }
  }

  void Report() const {
    std::printf("hostile: %llu sessions, %llu messages sent, %llu refused as full\n", sessions_,
                sent_, full_);
  }

 private:
  static constexpr uint32_t kScratch = 20;  // pages: one packet that is too long, and the arguments

  void Register() {
    auto* unreg = reinterpret_cast<argo_unregister_ring*>(scratch_);
    *unreg = {ARGO_LINK_PORT, kVictim, 0};
    Op(ARGO_OP_UNREGISTER_RING, unreg, nullptr, 0, 0);
    std::memset(memory_, 0, kRingPages * 4096);
    auto* reg = reinterpret_cast<argo_register_ring*>(scratch_);
    *reg = {ARGO_LINK_PORT, kVictim, 0, kRingLen};
    auto* list = reinterpret_cast<uint64_t*>(scratch_ + 64);
    std::memcpy(list, gfns_, sizeof(gfns_));
    const int ret = Op(ARGO_OP_REGISTER_RING, reg, list, kRingPages, 0);
    if (ret != 0) Die(ErrnoError(-ret, "the ring for dom0 cannot be registered"));
    argo_ring_reader_init(&reader_, memory_, kRingLen);
    incarnation_ = random_() | 1;
  }

  bool Meet(absl::Time deadline) {
    uint64_t heard = 0;
    while (absl::Now() < deadline) {
      Greet(incarnation_, heard);
      argo_ring_message message;
      while (argo_ring_peek(&reader_, &message) == 1) {
        argo_link_greeting greeting;
        if (message.type == ARGO_LINK_TYPE_GREETING && message.len == sizeof(greeting) &&
            message.seg[1].len == 0) {
          std::memcpy(&greeting, message.seg[0].data, sizeof(greeting));
          heard = greeting.incarnation;
          if (greeting.heard == incarnation_) {
            heard_ = heard;
            return Greet(incarnation_, heard) > 0;
          }
        }
        argo_ring_release(&reader_, &message);
      }
      usleep(20000);
    }
    return false;
  }

  int One() {
    switch (random_() % 12) {
      case 0:  // lengths that no greeting and no packet has
        return Send(ARGO_LINK_TYPE_PACKET, random_() % 44);
      case 1:
        return Send(ARGO_LINK_TYPE_PACKET, ARGO_LINK_MAX_MESSAGE + 1 + random_() % 1000);
      case 2:
        return Send(ARGO_LINK_TYPE_GREETING, random_() % 100);
      case 3:  // types that nobody knows
        return Send(static_cast<uint32_t>(random_()), random_() % 200);
      case 4:  // the innocent domain's packets
        return Packet(innocent_, kVictimCid, random_() % 100, true);
      case 5:  // packets for somebody else
        return Packet(Cid(), innocent_, random_() % 100, true);
      case 6:  // a length in the header that is not the message's
        return Packet(Cid(), kVictimCid, random_() % 100, false);
      case 7:  // the greeting again, which asks for an answer each time
        return Greet(incarnation_, 0);
      case 8:  // rarely another incarnation: the victim must start anew
        return Greet(random_() % 500 == 0 ? incarnation_ + 2 : incarnation_, heard_);
      default:  // answers provoked: connects to nobody, data and requests of no connection
        return Packet(Cid(), kVictimCid, random_() % 200, true);
    }
  }

  uint32_t Cid() const { return device_->domid() + 2u; }

  int Greet(uint64_t incarnation, uint64_t heard) {
    argo_link_greeting greeting = {};
    greeting.version_min = greeting.version_max = ARGO_LINK_VERSION;
    greeting.max_payload = ARGO_LINK_MAX_PAYLOAD;
    greeting.incarnation = incarnation;
    greeting.heard = heard;
    std::memcpy(payload(), &greeting, sizeof(greeting));
    return SendPayload(ARGO_LINK_TYPE_GREETING, sizeof(greeting));
  }

  int Packet(uint32_t src, uint32_t dst, uint32_t size, bool true_length) {
    vsock_header header = {};
    header.src_cid = src;
    header.dst_cid = dst;
    header.src_port = static_cast<uint32_t>(random_());
    header.dst_port = random_() % 2 == 0 ? 5000 + random_() % 10 : static_cast<uint32_t>(random_());
    header.len = true_length ? size : static_cast<uint32_t>(random_());
    header.type = static_cast<uint16_t>(random_() % 8 == 0 ? random_() : 1 + random_() % 3);
    header.op = static_cast<uint16_t>(random_() % 8 == 0 ? random_() : 1 + random_() % 7);
    header.flags = static_cast<uint32_t>(random_() % 4);
    header.buf_alloc = static_cast<uint32_t>(random_());
    header.fwd_cnt = static_cast<uint32_t>(random_());
    std::memcpy(payload(), &header, sizeof(header));
    return SendPayload(ARGO_LINK_TYPE_PACKET, sizeof(header) + size);
  }

  int Send(uint32_t type, uint32_t size) {
    for (uint32_t i = 0; i < 64; i += 8) {
      const uint64_t junk = random_();
      std::memcpy(payload() + i, &junk, 8);
    }
    return SendPayload(type, size);
  }

  uint8_t* payload() { return scratch_ + 4096; }

  int SendPayload(uint32_t type, uint32_t size) {
    auto* address = reinterpret_cast<argo_send_addr*>(scratch_);
    *address = {{ARGO_LINK_PORT, device_->domid(), 0}, {ARGO_LINK_PORT, kVictim, 0}};
    auto* iov = reinterpret_cast<argo_iov*>(scratch_ + 64);
    *iov = {reinterpret_cast<uintptr_t>(payload()), size, 0};
    const int ret = Op(ARGO_OP_SENDV, address, iov, 1, type);
    if (ret >= 0) ++sent_;
    if (ret == -EAGAIN) ++full_;
    return ret;
  }

  int Op(uint32_t command, const void* arg1, const void* arg2, uint64_t arg3, uint64_t arg4) {
    const absl::StatusOr<int> ret =
        device_->ArgoOp({command, reinterpret_cast<uintptr_t>(arg1),
                         reinterpret_cast<uintptr_t>(arg2), arg3, arg4});
    if (!ret.ok()) Die(ret.status());
    return *ret;
  }

  const std::unique_ptr<ArgoDevice> device_;
  const uint32_t innocent_;
  std::mt19937_64 random_{20261121};
  uint8_t* memory_ = nullptr;
  uint8_t* scratch_ = nullptr;
  uint64_t gfns_[kRingPages];
  argo_ring_reader reader_ = {};
  uint64_t incarnation_ = 0, heard_ = 0;
  unsigned long long sessions_ = 0, sent_ = 0, full_ = 0;
};

int Main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  const bool attack = mode == "attack" && argc == 4;
  if (!attack && !(mode == "spin" && argc == 3)) {
    std::fprintf(stderr, "usage: argosy-hostile spin SECONDS | attack SECONDS CID\n");
    return 2;
  }
  const absl::Time deadline = absl::Now() + absl::Seconds(std::atoi(argv[2]));
  if (!attack) {
    while (absl::Now() < deadline) {
    }
    return 0;
  }
  absl::StatusOr<std::unique_ptr<ArgoDevice>> device = ArgoDevice::Open();
  if (!device.ok()) Die(device.status());
  Attacker attacker(*std::move(device), static_cast<uint32_t>(std::atoi(argv[3])));
  std::printf("hostile: begins\n");
  std::fflush(stdout);
  while (absl::Now() < deadline) attacker.Session(deadline);
  attacker.Report();
  return 0;
}

}  // namespace
}  // namespace argosy::nested

int main(int argc, char** argv) { return argosy::nested::Main(argc, argv); }
