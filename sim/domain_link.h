// SPDX-License-Identifier: Apache-2.0
// File: sim/domain_link.h
//
// A domain's Argo driver: the portable link of //backends/argo/core on the simulated hypercalls,
// seen as a packet::Link. The kernel module does the same with real hypercalls and skbs.
//
// Everything that a hypercall reads lies in the domain's own memory: the 44-byte header in a
// scratch page, payload where the caller read it (Domain::staging()) or else copied into a bounce
// buffer.
#ifndef ARGOSY_SIM_DOMAIN_LINK_H_
#define ARGOSY_SIM_DOMAIN_LINK_H_

#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "backends/argo/core/link.h"
#include "sim/guest_memory.h"
#include "sim/hypervisor.h"
#include "transport/packet/link.h"

namespace argosy::sim {

class DomainLink : public packet::Link {
 public:
  struct Options {
    uint16_t domid = 0;
    uint32_t cid_offset = 2;
    uint32_t ring_size = 256 * 1024;  // bytes of ring[], a multiple of 16
    uint64_t seed = 1;                // of the incarnation numbers
  };

  // ENOMEM if `memory` has no room for the buffers.  `hypervisor` and `memory` outlive the link,
  // and the domain exists.
  static absl::StatusOr<std::unique_ptr<DomainLink>> Create(Hypervisor& hypervisor,
                                                            GuestMemory& memory,
                                                            const Options& options);
  ~DomainLink() override;

  // Who gets packets; set once before the first call below.
  void set_user(packet::LinkUser* user) { user_ = user; }

  // A partner of this domain; idempotent.  ENOSPC when there are 128.
  absl::Status AddPartner(uint16_t domid);
  // The partner is gone: its session ends, its place is free.
  void RemovePartner(uint16_t domid);

  // VIRQ_ARGO: true if there is more to do at once.
  bool Interrupt();
  // Tells the time in ms since the machine's start.
  void TellTime(uint64_t now_ms) { now_ms_ = now_ms; }
  // Runs timers that are due; rings may be read.
  void RunTimers();
  // When the time is wanted next (UINT64_MAX: never).
  uint64_t DueMs() const { return argo_link_due_ms(&link_); }

  const argo_peer* peer(uint16_t domid) const { return argo_link_peer(&link_, domid); }
  // Packets whose header did not fit the message.
  uint64_t drop_header() const { return drop_header_; }
  // Packets that the link could not take, each the end of a session.
  uint64_t drop_unsent() const { return drop_unsent_; }

  // packet::Link
  Reach Reaches(uint64_t cid) const override;
  bool CanSend(uint64_t cid) const override;
  void Send(const packet::Header& header, const packet::Payload& payload) override;
  uint32_t MaxPayload(uint64_t cid) const override;

 private:
  struct Queued {
    std::vector<uint8_t> bytes;  // header and payload
  };
  // Argument structures of the hypercalls, in guest memory.
  struct Scratch;

  DomainLink(Hypervisor& hypervisor, GuestMemory& memory, const Options& options);
  absl::Status Init();
  static argo_link_ops Ops();

  int Sendv(uint16_t dst, uint32_t type, const argo_iov* iov, uint32_t niov);
  int Notify(argo_ring_data_ent* entries, uint32_t n);
  int RegisterRing(uint16_t partner, const Pages& pages);
  int OpenRing(uint16_t partner, argo_ring_reader* reader);
  void CloseRing(uint16_t partner);
  void Deliver(uint16_t src, const argo_ring_message& message);
  // Copies to the bounce buffer what is not in guest memory; returns the number of iovs written.
  uint32_t Describe(const packet::Payload& payload, argo_iov* iov);

  bool ToDomid(uint64_t cid, uint16_t* domid) const;

  Hypervisor& hypervisor_;
  GuestMemory& memory_;
  const Options options_;
  packet::LinkUser* user_ = nullptr;
  std::mt19937_64 random_;
  uint64_t now_ms_ = 0;
  uint64_t drop_header_ = 0;
  uint64_t drop_unsent_ = 0;
  Scratch* scratch_ = nullptr;
  uint8_t* bounce_ = nullptr;  // ARGO_LINK_MAX_MESSAGE bytes
  absl::flat_hash_map<uint16_t, Pages> rings_;
  std::vector<argo_peer> peers_;
  std::unique_ptr<Queued> spare_;  // the cookie for the next packet that has to wait
  argo_link link_;
};

}  // namespace argosy::sim

#endif  // ARGOSY_SIM_DOMAIN_LINK_H_
