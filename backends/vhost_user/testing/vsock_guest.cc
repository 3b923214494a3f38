// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/testing/vsock_guest.h"

#include <endian.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "absl/time/clock.h"
#include "transport/packet/wire.h"

namespace argosy::vhost_user {
namespace {

constexpr uint32_t kRx = 0, kTx = 1, kEvent = 2;
constexpr uint32_t kHostCid = 2;
constexpr size_t kTxBuffer = VSOCK_HEADER_SIZE + VSOCK_MAX_PAYLOAD;

// A test that asks too much.
[[noreturn]] void Impossible(const char* what) {
  std::fprintf(stderr, "VsockGuest: %s\n", what);
  std::abort();
}

}  // namespace

absl::StatusOr<std::unique_ptr<VsockGuest>> VsockGuest::Start(UniqueFd socket, Options options) {
  std::unique_ptr<VsockGuest> guest(new VsockGuest(std::move(options)));
  if (absl::Status s = guest->Init(std::move(socket)); !s.ok()) return s;
  return guest;
}

absl::Status VsockGuest::Init(UniqueFd socket) {
  auto memory = GuestMemory::Create({{0x100000, 64 << 20}});
  if (!memory.ok()) return memory.status();
  memory_ = *std::move(memory);
  if (absl::Status s = Connect(std::move(socket)); !s.ok()) return s;
  for (uint32_t i = 0; i < 64; ++i) tx_buffers_.push_back(memory_->Allocate(kTxBuffer, 16));
  return StartRings();
}

absl::Status VsockGuest::Connect(UniqueFd socket) {
  vmm_ =
      std::make_unique<FrontEnd>(std::move(socket), FrontEnd::Options{.features = options_.features,
                                                                      .timeout = options_.timeout,
                                                                      .pump = options_.pump});
  if (absl::Status s = vmm_->Negotiate(); !s.ok()) return s;
  auto config = vmm_->GetConfig(0, 8);
  if (!config.ok()) return config.status();
  uint64_t cid;
  std::memcpy(&cid, config->data(), sizeof(cid));
  cid_ = static_cast<uint32_t>(le64toh(cid));
  return vmm_->ShareMemory(*memory_);
}

absl::Status VsockGuest::StartRings() {
  for (const uint32_t index : {kRx, kTx}) {
    auto queue = DriverQueue::Create(memory_.get(), index, vmm_->QueueOptions(options_.queue_size));
    if (!queue.ok()) return queue.status();
    (index == kRx ? rx_ : tx_) = *std::move(queue);
  }
  rx_address_.resize(options_.queue_size);
  tx_address_.resize(options_.queue_size);
  // What the device had of the rings before, it has no more.
  tx_free_ = tx_buffers_;
  const uint32_t fit = options_.queue_size / (options_.rx_two_buffers ? 2 : options_.rx_pieces);
  const uint32_t buffers = options_.rx_buffers == 0 ? fit : options_.rx_buffers;
  for (uint32_t i = 0; i < buffers; ++i) Post(memory_->Allocate(options_.rx_buffer, 16));
  rx_->Publish();
  for (DriverQueue* queue : {rx_.get(), tx_.get()}) {
    if (absl::Status s = vmm_->Start(*queue); !s.ok()) return s;
  }
  if (!options_.event_queue) return absl::OkStatus();
  auto event = DriverQueue::Create(memory_.get(), kEvent, vmm_->QueueOptions(options_.queue_size));
  if (!event.ok()) return event.status();
  event_ = *std::move(event);
  event_address_ = memory_->Allocate(4, 16);
  event_->Add({{event_address_, 4, true}});
  event_->Publish();
  return vmm_->Start(*event_);
}

void VsockGuest::Post(uint64_t address) {
  std::optional<uint16_t> head;
  if (options_.rx_two_buffers) {
    head = rx_->Add({{address, VSOCK_HEADER_SIZE, true},
                     {address + VSOCK_HEADER_SIZE, options_.rx_buffer - VSOCK_HEADER_SIZE, true}});
  } else {
    const uint32_t size = options_.rx_buffer / options_.rx_pieces;
    std::vector<Buffer> chain;
    for (uint32_t i = 0; i < options_.rx_pieces; ++i) {
      chain.push_back({address + uint64_t{i} * size, size, true});
    }
    head = rx_->Add(chain);
  }
  if (!head.has_value()) Impossible("no free descriptor for a receive buffer");
  rx_address_[*head] = address;
}

void VsockGuest::Send(packet::Header header, absl::string_view payload, uint32_t pieces) {
  header.src_cid = cid_;
  header.dst_cid = kHostCid;
  header.len = static_cast<uint32_t>(payload.size());
  if (header.type == 0) header.type = VSOCK_TYPE_STREAM;
  if (header.buf_alloc == 0) header.buf_alloc = options_.buf_alloc;
  SendRaw(header, payload, pieces);
}

absl::Status VsockGuest::MakeRoom(uint32_t pieces) {
  const absl::Time deadline = vmm_->Deadline();
  // What the device gave back is free again.
  for (;;) {
    absl::StatusOr<bool> reaped = ReapTx();
    if (!reaped.ok()) return reaped.status();
    if (*reaped) continue;
    if (!tx_free_.empty() && tx_->free_descriptors() > pieces) return absl::OkStatus();
    if (tx_->EnableInterrupts()) continue;
    if (absl::Status s = tx_->WaitUsed(deadline, options_.pump); !s.ok()) return s;
  }
}

void VsockGuest::SendRaw(const packet::Header& header, absl::string_view payload, uint32_t pieces) {
  if (tx_status_.ok()) tx_status_ = MakeRoom(pieces);
  if (!tx_status_.ok()) return;
  const uint64_t address = tx_free_.back();
  tx_free_.pop_back();
  const auto bytes = packet::SerializeHeader(header);
  std::memcpy(memory_->At(address), bytes.data(), bytes.size());
  memory_->Write(address + bytes.size(), payload);
  std::vector<Buffer> chain = {{address, static_cast<uint32_t>(bytes.size()), false}};
  uint64_t at = address + bytes.size();
  uint32_t left = static_cast<uint32_t>(payload.size());
  for (uint32_t piece = 0; piece < pieces && left > 0; ++piece) {
    const uint32_t n = piece + 1 == pieces ? left : std::max<uint32_t>(left / (pieces - piece), 1);
    chain.push_back({at, n, false});
    at += n;
    left -= n;
  }
  const std::optional<uint16_t> head = tx_->Add(chain);
  if (!head.has_value()) Impossible("no free descriptor for a packet");
  tx_address_[*head] = address;
  tx_->Publish();
}

absl::StatusOr<bool> VsockGuest::ReapTx() {
  absl::StatusOr<std::optional<DriverQueue::Used>> used = tx_->Reap();
  if (!used.ok()) return used.status();
  if (used->has_value()) tx_free_.push_back(tx_address_[(*used)->head]);
  return used->has_value();
}

uint32_t VsockGuest::Untaken() {
  if (options_.pump) options_.pump();
  while (ReapTx().value()) {
  }
  return tx_->in_flight();
}

absl::StatusOr<VsockGuest::Packet> VsockGuest::Receive() {
  if (!tx_status_.ok()) return tx_status_;
  const absl::Time deadline = vmm_->Deadline();
  for (;;) {
    absl::StatusOr<std::optional<DriverQueue::Used>> used = rx_->Reap();
    if (!used.ok()) return used.status();
    if (!used->has_value()) {
      if (rx_->EnableInterrupts()) continue;
      if (absl::Status s = rx_->WaitUsed(deadline, options_.pump); !s.ok()) return s;
      continue;
    }
    const uint64_t address = rx_address_[(*used)->head];
    const uint32_t length = (*used)->length;
    if (length < VSOCK_HEADER_SIZE || length > options_.rx_buffer) {
      return absl::InternalError("the device wrote less than a header, or more than there is room");
    }
    const std::string bytes = memory_->Read(address, length);
    Packet packet;
    const auto* first = reinterpret_cast<const uint8_t*>(bytes.data());
    if (!packet::ParseHeader(absl::MakeConstSpan(first, VSOCK_HEADER_SIZE), length,
                             &packet.header)) {
      return absl::InternalError("the device wrote a packet that is not as long as it says");
    }
    packet.payload = bytes.substr(VSOCK_HEADER_SIZE);
    Post(address);
    rx_->Publish();
    return packet;
  }
}

bool VsockGuest::HasPacket() {
  if (options_.pump) options_.pump();
  return rx_->HasUsed();
}

absl::Status VsockGuest::Pause() {
  absl::StatusOr<uint16_t> rx = vmm_->Stop(*rx_), tx = vmm_->Stop(*tx_);
  if (!rx.ok()) return rx.status();
  if (!tx.ok()) return tx.status();
  rx_base_ = *rx;
  tx_base_ = *tx;
  return absl::OkStatus();
}

absl::Status VsockGuest::Disconnect() {
  absl::Status status = Pause();
  vmm_.reset();
  return status;
}

absl::Status VsockGuest::Reconnect(UniqueFd socket) {
  if (absl::Status s = Connect(std::move(socket)); !s.ok()) return s;
  if (absl::Status s = Resume(); !s.ok()) return s;
  return event_ == nullptr ? absl::OkStatus() : vmm_->Start(*event_);
}

absl::StatusOr<uint32_t> VsockGuest::ReceiveEvent() {
  if (absl::Status s = event_->WaitUsed(vmm_->Deadline(), options_.pump); !s.ok()) return s;
  absl::StatusOr<std::optional<DriverQueue::Used>> used = event_->Reap();
  if (!used.ok()) return used.status();
  if (!used->has_value() || (*used)->length != 4) {
    return absl::InternalError("the device wrote no event");
  }
  uint32_t id;
  std::memcpy(&id, memory_->At(event_address_), sizeof(id));
  return le32toh(id);
}

absl::Status VsockGuest::Reboot() {
  if (absl::Status s = Pause(); !s.ok()) return s;
  return StartRings();
}

absl::Status VsockGuest::Resume() {
  if (absl::Status s = vmm_->Start(*rx_, rx_base_); !s.ok()) return s;
  return vmm_->Start(*tx_, tx_base_);
}

}  // namespace argosy::vhost_user
