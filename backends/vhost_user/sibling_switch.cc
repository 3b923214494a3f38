// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/sibling_switch.h"

#include <algorithm>

#include "absl/numeric/bits.h"
#include "spdlog/spdlog.h"
#include "transport/packet/wire.h"

namespace argosy::vhost_user {

using packet::Payload;

namespace {

size_t CostOf(size_t payload) { return payload + SiblingSwitch::kPacketCost; }

}  // namespace

SiblingSwitch::FlowKey SiblingSwitch::KeyOf(const packet::Header& header) {
  const auto src = static_cast<uint32_t>(header.src_cid);
  const auto dst = static_cast<uint32_t>(header.dst_cid);
  return src < dst ? FlowKey{src, header.src_port, dst, header.dst_port}
                   : FlowKey{dst, header.dst_port, src, header.src_port};
}

packet::Header SiblingSwitch::ResetFor(uint16_t type, uint32_t src_cid, uint32_t src_port,
                                       uint32_t dst_cid, uint32_t dst_port) {
  return {.src_cid = src_cid,
          .dst_cid = dst_cid,
          .src_port = src_port,
          .dst_port = dst_port,
          .type = type,
          .op = VSOCK_OP_RST};
}

SiblingSwitch::Port* SiblingSwitch::Find(uint64_t cid) {
  const auto found = ports_.find(static_cast<uint32_t>(cid));
  return found == ports_.end() || found->first != cid ? nullptr : &found->second;
}

void SiblingSwitch::Add(Vm vm) { ports_[vm.cid].vm = std::move(vm); }

void SiblingSwitch::Remove(uint32_t cid) {
  OnPeerReset(cid);
  for (auto& [other, port] : ports_) port.queues.erase(cid);
  ports_.erase(cid);
}

// ---- flows ----

bool SiblingSwitch::MayOpen(const Port& from, const Port& to, const packet::Header& header) {
  if (header.type != VSOCK_TYPE_STREAM && header.type != VSOCK_TYPE_SEQPACKET) return false;
  const bool siblings =
      std::any_of(from.vm.groups.begin(), from.vm.groups.end(),
                  [&](const std::string& group) { return to.vm.groups.contains(group); });
  if (!siblings) return false;
  // A deaf one would not hear the answer.
  if (from.deaf || to.deaf || !to.vm.device->up()) return false;
  if (from.flows >= from.vm.max_flows || to.flows >= to.vm.max_flows) {
    spdlog::debug("CID {}: too many connections to or from siblings", from.vm.cid);
    return false;
  }
  return from.vm.policy->Allows(Direction::kOut, to.vm.cid, header.dst_port) &&
         to.vm.policy->Allows(Direction::kIn, from.vm.cid, header.dst_port);
}

void SiblingSwitch::Open(Port& from, Port& to, const packet::Header& header) {
  const FlowKey key = KeyOf(header);
  flows_[key] = {header.type, from.vm.cid, now_ + kAnswerTime};
  unanswered_.insert({now_ + kAnswerTime, key});
  ++from.flows;
  ++to.flows;
}

void SiblingSwitch::Erase(FlowKey key) {
  const auto flow = flows_.find(key);
  unanswered_.erase({flow->second.answer_deadline, key});
  flows_.erase(flow);
  --ports_.at(std::get<0>(key)).flows;
  --ports_.at(std::get<2>(key)).flows;
}

void SiblingSwitch::Reset(FlowKey key) {
  const auto [low_cid, low_port, high_cid, high_port] = key;
  const uint16_t type = flows_.at(key).type;
  Erase(key);
  Send(ports_.at(low_cid), high_cid, ResetFor(type, high_cid, high_port, low_cid, low_port), {});
  Send(ports_.at(high_cid), low_cid, ResetFor(type, low_cid, low_port, high_cid, high_port), {});
}

// ---- packets ----

void SiblingSwitch::OnPacket(uint32_t src_cid, const packet::Header& header,
                             const Payload& payload) {
  Port& from = ports_.at(src_cid);
  if (header.src_cid != src_cid) {
    if (absl::has_single_bit(++from.forged)) {
      spdlog::warn("CID {}: packets that claim to be of CID {} dropped ({} so far)", src_cid,
                   header.src_cid, from.forged);
    }
    return;
  }
  if (header.op < VSOCK_OP_REQUEST || header.op > VSOCK_OP_CREDIT_REQUEST) return;
  Port* const to = Find(header.dst_cid);
  if (to == nullptr || to == &from) return Refuse(from, header);

  const FlowKey key = KeyOf(header);
  const auto flow = flows_.find(key);
  if (flow == flows_.end()) {
    if (header.op != VSOCK_OP_REQUEST || !MayOpen(from, *to, header)) return Refuse(from, header);
    Open(from, *to, header);
  } else if (header.op == VSOCK_OP_RST) {
    Erase(key);
  } else if (to->deaf || (header.op == VSOCK_OP_REQUEST && flow->second.client != src_cid)) {
    // The rules have judged the other direction only.
    return Reset(key);
  } else if (flow->second.client != src_cid) {
    unanswered_.erase({flow->second.answer_deadline, key});
    flow->second.answer_deadline = absl::InfiniteFuture();
  }
  Send(*to, src_cid, header, payload);
}

void SiblingSwitch::Refuse(Port& from, const packet::Header& header) {
  if (header.op == VSOCK_OP_RST) return;
  // A guest that provokes these and does not read them gets no more of them.
  const auto queue = from.queues.find(kSwitch);
  if (queue != from.queues.end() && queue->second.full) return;
  packet::Header reset = ResetFor(header.type, 0, header.dst_port, from.vm.cid, header.src_port);
  reset.src_cid = header.dst_cid;
  Send(from, kSwitch, reset, {});
}

void SiblingSwitch::Send(Port& to, uint32_t sender, const packet::Header& header,
                         const Payload& payload) {
  Queue& queue = to.queues[sender];
  // Packets of one pair keep their order; those of others are not waited for, they have had their
  // turn when there was room.
  if (queue.packets.empty() && to.vm.device->CanSend(to.vm.cid)) {
    to.vm.device->Send(header, payload);
    return;
  }
  std::vector<uint8_t> bytes(payload.size());
  payload.CopyTo(bytes.data());
  queue.cost += CostOf(bytes.size());
  queue.packets.push_back({header, std::move(bytes)});
  Balance(sender, queue);
}

void SiblingSwitch::Balance(uint32_t sender, Queue& queue) {
  const bool full = queue.full ? queue.cost > kQueueBytes / 2 : queue.cost >= kQueueBytes;
  if (full == queue.full) return;
  queue.full = full;
  const auto from = ports_.find(sender);
  if (from == ports_.end()) return;  // the switch's own
  if (full) {
    if (from->second.stops++ == 0) from->second.vm.device->PauseTx();
    queue.stall_deadline = now_ + kStall;
  } else {
    if (--from->second.stops == 0) from->second.vm.device->ResumeTx();
    queue.stall_deadline = absl::InfiniteFuture();
  }
}

void SiblingSwitch::OnCanSend(uint32_t cid) {
  Port& to = ports_.at(cid);
  to.deaf = false;
  const auto waits = [](const auto& entry) { return !entry.second.packets.empty(); };
  while (to.vm.device->CanSend(cid)) {
    auto turn = std::find_if(to.queues.upper_bound(to.last_turn), to.queues.end(), waits);
    if (turn == to.queues.end()) turn = std::find_if(to.queues.begin(), to.queues.end(), waits);
    if (turn == to.queues.end()) return;
    to.last_turn = turn->first;
    SendTurn(to, turn->first, turn->second);
  }
}

void SiblingSwitch::SendTurn(Port& to, uint32_t sender, Queue& queue) {
  size_t sent = 0;
  while (sent < kQuantum && !queue.packets.empty() && to.vm.device->CanSend(to.vm.cid)) {
    const Packet packet = std::move(queue.packets.front());
    queue.packets.pop_front();
    const size_t cost = CostOf(packet.payload.size());
    queue.cost -= cost;
    sent += cost;
    to.vm.device->Send(packet.header, Payload(absl::MakeConstSpan(packet.payload)));
  }
  Balance(sender, queue);
}

// ---- ends ----

void SiblingSwitch::GoDeaf(Port& to) {
  spdlog::warn("CID {}: takes no packets of its siblings: connections are reset", to.vm.cid);
  to.deaf = true;
  std::set<FlowKey> flows;
  for (const auto& [sender, queue] : to.queues) {
    for (const Packet& packet : queue.packets) {
      const FlowKey key = KeyOf(packet.header);
      if (flows_.contains(key)) flows.insert(key);
    }
  }
  for (const FlowKey& key : flows) Reset(key);
  // What is left of flows are their resets.
  for (auto& [sender, queue] : to.queues) {
    std::erase_if(queue.packets, [](const Packet& p) { return p.header.op != VSOCK_OP_RST; });
    while (queue.packets.size() > kMaxResets) queue.packets.pop_front();
    queue.cost = queue.packets.size() * CostOf(0);
    Balance(sender, queue);
  }
}

void SiblingSwitch::OnPeerReset(uint32_t cid) {
  Port& gone = ports_.at(cid);
  std::vector<FlowKey> flows;
  for (const auto& [key, flow] : flows_) {
    if (std::get<0>(key) == cid || std::get<2>(key) == cid) flows.push_back(key);
  }
  for (const FlowKey& key : flows) Reset(key);
  // Its next guest knows nothing of what was meant for this one.
  for (auto& [sender, queue] : gone.queues) {
    queue.packets.clear();
    queue.cost = 0;
    Balance(sender, queue);
  }
  gone.deaf = false;
}

// ---- time ----

void SiblingSwitch::Advance(absl::Time now) {
  now_ = now;
  for (auto& [cid, port] : ports_) {
    if (StallDeadline(port) <= now) GoDeaf(port);
  }
  while (!unanswered_.empty() && unanswered_.begin()->first <= now) {
    Reset(unanswered_.begin()->second);
  }
}

absl::Time SiblingSwitch::StallDeadline(const Port& port) {
  absl::Time next = absl::InfiniteFuture();
  for (const auto& [sender, queue] : port.queues) next = std::min(next, queue.stall_deadline);
  return next;
}

absl::Time SiblingSwitch::NextDeadline() const {
  absl::Time next = unanswered_.empty() ? absl::InfiniteFuture() : unanswered_.begin()->first;
  for (const auto& [cid, port] : ports_) next = std::min(next, StallDeadline(port));
  return next;
}

}  // namespace argosy::vhost_user
