// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/bench/linux_guest.h"

#include <endian.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "transport/error.h"
#include "transport/packet/wire.h"

namespace argosy::vhost_user {
namespace {

constexpr uint32_t kRx = 0, kTx = 1;
constexpr uint32_t kHostCid = 2;
constexpr uint32_t kRxBuffer = 4096;
constexpr uint32_t kTxBuffer = VSOCK_HEADER_SIZE + VSOCK_MAX_PAYLOAD;
constexpr uint32_t kBufAlloc = 256 * 1024;
// As programs of Linux get theirs: high, and each once.
constexpr uint32_t kSenderPort = 40000;

}  // namespace

absl::StatusOr<std::unique_ptr<LinuxGuest>> LinuxGuest::Start(UniqueFd socket,
                                                              const Options& options) {
  std::unique_ptr<LinuxGuest> guest(new LinuxGuest(options));
  if (absl::Status s = guest->Init(std::move(socket)); !s.ok()) return s;
  guest->thread_ = std::thread([guest = guest.get()] { guest->Run(); });
  return guest;
}

LinuxGuest::~LinuxGuest() {
  if (!thread_.joinable()) return;
  const uint64_t one = 1;
  (void)!write(stop_.get(), &one, sizeof(one));
  thread_.join();
}

absl::Status LinuxGuest::Init(UniqueFd socket) {
  stop_ = UniqueFd(eventfd(0, EFD_CLOEXEC));
  if (!stop_.valid()) return SystemError(errno, "eventfd");
  auto memory = GuestMemory::Create({{0x100000, 64 << 20}});
  if (!memory.ok()) return memory.status();
  memory_ = *std::move(memory);
  vmm_ = std::make_unique<FrontEnd>(std::move(socket), FrontEnd::Options());
  if (absl::Status s = vmm_->Negotiate(); !s.ok()) return s;
  auto config = vmm_->GetConfig(0, 8);
  if (!config.ok()) return config.status();
  uint64_t cid;
  std::memcpy(&cid, config->data(), sizeof(cid));
  cid_ = static_cast<uint32_t>(le64toh(cid));
  if (absl::Status s = vmm_->ShareMemory(*memory_); !s.ok()) return s;
  for (const uint32_t index : {kRx, kTx}) {
    auto queue = DriverQueue::Create(memory_.get(), index, vmm_->QueueOptions(options_.queue_size));
    if (!queue.ok()) return queue.status();
    (index == kRx ? rx_ : tx_) = *std::move(queue);
  }
  rx_address_.resize(options_.queue_size);
  tx_address_.resize(options_.queue_size);
  for (uint32_t i = 0; i < options_.queue_size; ++i) {
    rx_free_.push_back(memory_->Allocate(kRxBuffer, 64));
    tx_free_.push_back(memory_->Allocate(kTxBuffer, 64));
  }
  FillRx();
  for (DriverQueue* queue : {rx_.get(), tx_.get()}) {
    if (absl::Status s = vmm_->Start(*queue); !s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::Duration LinuxGuest::CpuTime() {
  clockid_t clock;
  timespec time;
  if (pthread_getcpuclockid(thread_.native_handle(), &clock) != 0 ||
      clock_gettime(clock, &time) != 0) {
    return absl::ZeroDuration();
  }
  return absl::DurationFromTimespec(time);
}

void LinuxGuest::Run() {
  failure_ = Work();
  if (!failure_.ok()) failed_.store(true, std::memory_order_release);
}

absl::Status LinuxGuest::Work() {
  if (options_.send_to != 0) Reply({options_.send_to, kSenderPort}, VSOCK_OP_REQUEST);
  for (;;) {
    if (absl::Status s = TakeRx(); !s.ok()) return s;
    if (absl::Status s = TakeTx(); !s.ok()) return s;
    while (!waiting_.empty()) {
      const Waiting& next = waiting_.front();
      const auto length = static_cast<uint32_t>(next.payload.size());
      if (!Transmit(next.key, next.op, next.flags, length, &next.payload)) break;
      waiting_.pop_front();
    }
    SendWrites();
    const bool more_rx = rx_->EnableInterrupts();
    const bool more_tx = tx_->EnableInterrupts();
    if (more_rx || more_tx) continue;
    pollfd wanted[] = {{rx_->call_descriptor(), POLLIN, 0},
                       {tx_->call_descriptor(), POLLIN, 0},
                       {stop_.get(), POLLIN, 0}};
    if (poll(wanted, 3, -1) < 0 && errno != EINTR) return SystemError(errno, "poll");
    if (wanted[0].revents != 0) rx_->TakeInterrupt();
    if (wanted[1].revents != 0) tx_->TakeInterrupt();
    if (wanted[2].revents != 0) return absl::OkStatus();
  }
}

// ---- from the host ----

void LinuxGuest::FillRx() {
  while (!rx_free_.empty()) {
    const uint64_t address = rx_free_.back();
    const std::optional<uint16_t> head = rx_->Add({{address, kRxBuffer, true}});
    if (!head.has_value()) break;
    rx_free_.pop_back();
    rx_address_[*head] = address;
  }
  rx_->Publish();
}

absl::Status LinuxGuest::TakeRx() {
  rx_->DisableInterrupts();
  for (;;) {
    absl::StatusOr<std::optional<DriverQueue::Used>> used = rx_->Reap();
    if (!used.ok()) return used.status();
    if (!used->has_value()) break;
    const uint64_t address = rx_address_[(*used)->head];
    const uint32_t length = (*used)->length;
    const uint8_t* bytes = memory_->At(address);
    packet::Header header;
    if (length > kRxBuffer ||
        !packet::ParseHeader(
            absl::MakeConstSpan(bytes, std::min<uint32_t>(length, VSOCK_HEADER_SIZE)), length,
            &header)) {
      return absl::InternalError(
          absl::StrCat("the device wrote a packet of ", length, " bytes that is none"));
    }
    OnPacket(header, bytes + VSOCK_HEADER_SIZE);
    rx_free_.push_back(address);
  }
  if (rx_->in_flight() < options_.queue_size / 2) FillRx();
  return absl::OkStatus();
}

void LinuxGuest::OnPacket(const packet::Header& header, const uint8_t* payload) {
  const Key key = {header.src_port, header.dst_port};
  if (header.op == VSOCK_OP_REQUEST) {
    connections_[key] = {.peer_buf_alloc = header.buf_alloc, .peer_fwd_cnt = header.fwd_cnt};
    return Reply(key, VSOCK_OP_RESPONSE);
  }
  if (header.op == VSOCK_OP_RESPONSE && header.src_port == options_.send_to) {
    connections_[key] = {};
    sender_open_ = true;
  }
  const auto found = connections_.find(key);
  if (found == connections_.end()) {
    if (header.op != VSOCK_OP_RST) Reply(key, VSOCK_OP_RST);
    return;
  }
  Connection& connection = found->second;
  connection.peer_buf_alloc = header.buf_alloc;
  connection.peer_fwd_cnt = header.fwd_cnt;
  switch (header.op) {
    case VSOCK_OP_RW:
      connection.fwd_cnt += header.len;
      received_.store(received() + header.len, std::memory_order_relaxed);
      if (options_.echo) {
        Reply(key, VSOCK_OP_RW, 0, std::string(reinterpret_cast<const char*>(payload), header.len));
      } else if (kBufAlloc - (connection.fwd_cnt - connection.last_fwd_cnt) < VSOCK_MAX_PAYLOAD) {
        Reply(key, VSOCK_OP_CREDIT_UPDATE);
      }
      break;
    case VSOCK_OP_CREDIT_REQUEST:
      Reply(key, VSOCK_OP_CREDIT_UPDATE);
      break;
    case VSOCK_OP_SHUTDOWN:
      OnShutdown(key, header.flags);
      break;
    case VSOCK_OP_RST:
      if (key.second == kSenderPort) sender_open_ = false;
      connections_.erase(found);
      break;
    default:
      break;
  }
}

void LinuxGuest::OnShutdown(const Key& key, uint32_t flags) {
  constexpr uint32_t kBoth = VSOCK_SHUTDOWN_RCV | VSOCK_SHUTDOWN_SEND;
  Connection& connection = connections_[key];
  connection.ended |= flags;
  if (connection.ended == kBoth) {
    Reply(key, VSOCK_OP_RST);
    if (key.second == kSenderPort) sender_open_ = false;
    connections_.erase(key);
  } else if ((connection.ended & VSOCK_SHUTDOWN_SEND) != 0 && !connection.closing) {
    // The program has read end-of-file, and closes.
    connection.closing = true;
    Reply(key, VSOCK_OP_SHUTDOWN, kBoth);
  }
}

// ---- to the host ----

absl::Status LinuxGuest::TakeTx() {
  for (;;) {
    absl::StatusOr<std::optional<DriverQueue::Used>> used = tx_->Reap();
    if (!used.ok()) return used.status();
    if (!used->has_value()) return absl::OkStatus();
    tx_free_.push_back(tx_address_[(*used)->head]);
  }
}

void LinuxGuest::Reply(const Key& key, uint16_t op, uint32_t flags, std::string payload) {
  const auto length = static_cast<uint32_t>(payload.size());
  if (!waiting_.empty() || !Transmit(key, op, flags, length, &payload)) {
    waiting_.push_back({key, op, flags, std::move(payload)});
  }
}

bool LinuxGuest::Transmit(const Key& key, uint16_t op, uint32_t flags, uint32_t length,
                          const std::string* payload) {
  if (tx_free_.empty() || tx_->free_descriptors() < 2) return false;
  const auto found = connections_.find(key);
  packet::Header header = {.src_cid = cid_,
                           .dst_cid = kHostCid,
                           .src_port = key.second,
                           .dst_port = key.first,
                           .len = length,
                           .type = VSOCK_TYPE_STREAM,
                           .op = op,
                           .flags = flags,
                           .buf_alloc = kBufAlloc};
  if (found != connections_.end()) {
    Connection& connection = found->second;
    connection.last_fwd_cnt = connection.fwd_cnt;
    connection.tx_cnt += length;
    header.fwd_cnt = connection.fwd_cnt;
  }
  const uint64_t address = tx_free_.back();
  tx_free_.pop_back();
  const auto bytes = packet::SerializeHeader(header);
  std::memcpy(memory_->At(address), bytes.data(), bytes.size());
  if (payload != nullptr && length > 0) memory_->Write(address + VSOCK_HEADER_SIZE, *payload);
  const Buffer chain[] = {{address, VSOCK_HEADER_SIZE, false},
                          {address + VSOCK_HEADER_SIZE, length, false}};
  tx_address_[*tx_->Add(absl::MakeConstSpan(chain, length > 0 ? 2 : 1))] = address;
  tx_->Publish();
  return true;
}

void LinuxGuest::SendWrites() {
  const Key key = {options_.send_to, kSenderPort};
  while (sender_open_) {
    const Connection& connection = connections_.find(key)->second;
    const uint32_t in_flight = connection.tx_cnt - connection.peer_fwd_cnt;
    const uint32_t credit =
        connection.peer_buf_alloc - std::min(in_flight, connection.peer_buf_alloc);
    if (write_left_ == 0) write_left_ = options_.write_size;
    const uint32_t length = std::min({write_left_, credit, VSOCK_MAX_PAYLOAD});
    if (length == 0 || !Transmit(key, VSOCK_OP_RW, 0, length, nullptr)) return;
    write_left_ -= length;
  }
}

}  // namespace argosy::vhost_user
