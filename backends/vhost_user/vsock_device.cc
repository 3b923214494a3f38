// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/vsock_device.h"

#include <endian.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/error.h"

namespace argosy::vhost_user {

using packet::Payload;

namespace {

// Virtio 1.3, 5.10.3.
constexpr uint64_t kFeatureStream = uint64_t{1} << 0;
constexpr uint64_t kFeatureSeqpacket = uint64_t{1} << 1;

// One pass over the tx ring; then the other VMs and the sockets have their turns.
constexpr size_t kPassChains = 256;
constexpr uint64_t kPassBytes = 512 * 1024;

// Chains looked at ahead for one read of a host socket: 64 KiB in Linux's buffers of 4 KiB.
constexpr size_t kRoomChains = 17;

// What a driver's buffers take, before the first one was seen: Linux's.
constexpr uint32_t kUsualPayload = 4096 - VSOCK_HEADER_SIZE;

// Virtio 1.3, 5.10.6.7: all of the event.
constexpr std::array<uint8_t, 4> kTransportReset = {0, 0, 0, 0};

constexpr uint32_t kMessageEnds = VSOCK_SEQ_EOM | VSOCK_SEQ_EOR;

// Drops the first `n` bytes of `pieces`, which have them.
absl::Span<iovec> Skip(absl::Span<iovec> pieces, size_t n) {
  while (n > 0) {
    iovec& piece = pieces.front();
    const size_t here = std::min(n, piece.iov_len);
    piece.iov_base = static_cast<uint8_t*>(piece.iov_base) + here;
    piece.iov_len -= here;
    n -= here;
    if (piece.iov_len == 0) pieces.remove_prefix(1);
  }
  return pieces;
}

// Copies between guest memory and `bytes`, from offset `at` of the pieces on, which have room.
template <typename Copy>
void ForPieces(absl::Span<const iovec> pieces, size_t at, size_t size, Copy copy) {
  size_t done = 0;
  for (const iovec& piece : pieces) {
    if (at >= piece.iov_len) {
      at -= piece.iov_len;
      continue;
    }
    const size_t n = std::min(piece.iov_len - at, size - done);
    copy(static_cast<uint8_t*>(piece.iov_base) + at, done, n);
    done += n;
    at = 0;
    if (done == size) return;
  }
}

void CopyInto(absl::Span<const iovec> pieces, size_t at, absl::Span<const uint8_t> bytes) {
  if (bytes.empty()) return;
  ForPieces(pieces, at, bytes.size(),
            [&](uint8_t* to, size_t done, size_t n) { std::memcpy(to, bytes.data() + done, n); });
}

}  // namespace

// Watches a kick descriptor, which is the server's.
class VsockDevice::Kick : public EventLoop::Handler {
 public:
  Kick(VsockDevice& device, uint32_t queue) : device_(device), queue_(queue) {}
  void OnEvents(uint32_t) override { device_.OnKick(queue_); }

 private:
  VsockDevice& device_;
  const uint32_t queue_;
};

// Asks the loop for a turn; outlives the device, if the loop is about to give it one.
class VsockDevice::Turn : public EventLoop::Handler {
 public:
  explicit Turn(VsockDevice& device) : device_(device) {}
  void OnEvents(uint32_t) override {}
  void OnTurn() override { device_.OnTurn(); }

 private:
  VsockDevice& device_;
};

VsockDevice::VsockDevice(EventLoop& loop, packet::LinkUser& user, const Options& options)
    : loop_(loop),
      user_(user),
      options_(options),
      rx_pieces_(Virtqueue::kMaxPieces),
      tx_pieces_(Virtqueue::kMaxPieces) {
  turn_ = std::make_unique<Turn>(*this);
  const uint64_t cid = htole64(options_.guest_cid);
  std::memcpy(config_.data(), &cid, sizeof(cid));
}

VsockDevice::~VsockDevice() {
  loop_.Retire(std::move(turn_));
  for (std::unique_ptr<Kick>& kick : kicks_) {
    if (kick != nullptr) loop_.Retire(std::move(kick));
  }
}

void VsockDevice::Attach(Server* server, std::function<void()> broken) {
  server_ = server;
  broken_ = std::move(broken);
  attached_anew_ = true;
}

void VsockDevice::Detach() {
  server_ = nullptr;
  broken_ = nullptr;
  rx_running_ = tx_running_ = event_running_ = false;
  reset_event_due_ = false;
  for (std::unique_ptr<Kick>& kick : kicks_) {
    if (kick != nullptr) loop_.Retire(std::move(kick));
  }
  OnReset();
}

void VsockDevice::OnReset() {
  waiting_.clear();
  last_tx_ = 0;
  user_.OnPeerReset(options_.guest_cid);
}

void VsockDevice::Break(const absl::Status& reason) {
  if (server_ == nullptr) return;
  server_->Stop(reason);
  broken_();
}

// ---- rings ----

uint64_t VsockDevice::Features() const { return kFeatureStream | kFeatureSeqpacket; }

absl::Status VsockDevice::WatchKicks(uint32_t queue) {
  auto kick = std::make_unique<Kick>(*this, queue);
  if (absl::Status s = loop_.Add(server_->kick_descriptor(queue), kick.get()); !s.ok()) return s;
  kicks_[queue] = std::move(kick);
  return absl::OkStatus();
}

absl::Status VsockDevice::OnRingEnabled(uint32_t queue) {
  if (absl::Status s = WatchKicks(queue); !s.ok()) return s;
  if (queue == kRx) {
    rx_running_ = true;
    // A kick that came while this ring stood still was not answered, and is not repeated.
    tx_more_ = tx_running_;
  } else if (queue == kTx) {
    tx_running_ = true;
    const bool begins = server_->queue(kTx).next_available() == 0;
    // A ring that starts anew has a new driver behind it: a guest that was rebooted.  One that was
    // paused goes on where it was.
    if (last_tx_ != 0 && begins) OnReset();
    if (std::exchange(attached_anew_, false) && !begins) reset_event_due_ = true;
    tx_more_ = true;
  } else {
    event_running_ = true;
  }
  // No kick comes for what is there already.  Not now: a ring that is broken ends the server, which is
  // in the middle of this.
  look_ = true;
  loop_.Again(turn_.get());
  return absl::OkStatus();
}

void VsockDevice::OnRingStopped(uint32_t queue) {
  if (kicks_[queue] != nullptr) loop_.Retire(std::move(kicks_[queue]));
  Virtqueue& ring = server_->queue(queue);
  if (queue == kEvent) {
    event_running_ = false;
    return;
  }
  if (queue == kTx) {
    EndPass();
    tx_running_ = false;
    tx_more_ = false;
    last_tx_ = ring.next_available();
    return;
  }
  rx_running_ = false;
  ring.Rewind(static_cast<uint32_t>(ready_.size()));
  ready_.clear();
  room_.clear();
  if (std::exchange(rx_dirty_, false) && ring.Flush()) server_->Notify(kRx);
}

void VsockDevice::OnKick(uint32_t queue) {
  if (queue == kTx) {
    ProcessTx();
  } else if (queue == kRx) {
    OfferRx();
  } else {
    OfferEvent();
  }
}

void VsockDevice::OfferEvent() {
  if (!reset_event_due_ || !event_running_) return;
  Virtqueue& ring = server_->queue(kEvent);
  Chain chain;
  absl::StatusOr<Virtqueue::PopResult> popped = ring.Pop(absl::MakeSpan(rx_pieces_), &chain);
  if (popped.ok() && *popped == Virtqueue::PopResult::kEmpty) {
    if (!ring.EnableKicks()) return;
    popped = ring.Pop(absl::MakeSpan(rx_pieces_), &chain);
  }
  if (!popped.ok()) return Break(popped.status());
  if (chain.writable_bytes < kTransportReset.size()) {
    return Break(ErrnoError(EPROTO, "the guest's buffer for events has no room for one"));
  }
  CopyInto(chain.writable, 0, kTransportReset);
  ring.PushUsed(chain.head, kTransportReset.size());
  reset_event_due_ = false;
  if (ring.Flush()) server_->Notify(kEvent);
}

void VsockDevice::OnTurn() {
  if (std::exchange(look_, false)) {
    OfferEvent();
    OfferRx();
  }
  if (tx_more_) ProcessTx();
  if (rx_running_ && std::exchange(rx_dirty_, false) && server_->queue(kRx).Flush()) {
    server_->Notify(kRx);
  }
  CheckMemory();
}

void VsockDevice::CheckMemory() {
  if (!rx_running_ && !tx_running_) return;
  if (absl::Status s = server_->memory().Check(); !s.ok()) Break(s);
}

// ---- to the guest ----

packet::Link::Reach VsockDevice::Reaches(uint64_t cid) const {
  if (cid != options_.guest_cid) return Reach::kNobody;
  return up() ? Reach::kUp : Reach::kStarting;
}

bool VsockDevice::CanSend(uint64_t cid) const {
  return cid == options_.guest_cid && up() && waiting_.empty() && !ready_.empty();
}

uint32_t VsockDevice::MaxPayload(uint64_t) const {
  return ready_.empty() ? kUsualPayload : ready_.front().capacity;
}

void VsockDevice::TakeRx(size_t chains) {
  Virtqueue& ring = server_->queue(kRx);
  while (rx_running_ && ready_.size() < chains) {
    Chain chain;
    absl::StatusOr<Virtqueue::PopResult> popped = ring.Pop(absl::MakeSpan(rx_pieces_), &chain);
    if (!popped.ok()) return Break(popped.status());
    if (*popped == Virtqueue::PopResult::kEmpty) {
      if (!ring.EnableKicks()) return;
      continue;
    }
    if (chain.writable_bytes <= VSOCK_HEADER_SIZE) {
      return Break(
          ErrnoError(EPROTO, absl::StrCat("the guest's receive buffer of ", chain.writable_bytes,
                                          " bytes has no room for a packet")));
    }
    RxChain& ready = ready_.emplace_back();
    ready.head = chain.head;
    ready.capacity = static_cast<uint32_t>(
        std::min<uint64_t>(chain.writable_bytes - VSOCK_HEADER_SIZE, VSOCK_MAX_PAYLOAD));
    ready.pieces.assign(chain.writable.begin(), chain.writable.end());
  }
  if (rx_running_) ring.DisableKicks();
}

void VsockDevice::UseRx(const packet::Header& header, uint32_t length) {
  const RxChain& chain = ready_.front();
  CopyInto(chain.pieces, 0, packet::SerializeHeader(header));
  server_->queue(kRx).PushUsed(chain.head, VSOCK_HEADER_SIZE + length);
  ready_.pop_front();
  rx_dirty_ = true;
  loop_.Again(turn_.get());
}

void VsockDevice::Deliver(packet::Header header, Payload payload) {
  const uint32_t flags = header.flags;
  do {
    if (ready_.empty() || !up()) {
      std::vector<uint8_t> bytes(payload.size());
      payload.CopyTo(bytes.data());
      header.len = static_cast<uint32_t>(bytes.size());
      header.flags = flags;
      waiting_.emplace_back(header, std::move(bytes));
      return;
    }
    const uint32_t n = std::min<uint32_t>(payload.size(), ready_.front().capacity);
    const Payload part = payload.Prefix(n);
    CopyInto(ready_.front().pieces, VSOCK_HEADER_SIZE, part.first);
    CopyInto(ready_.front().pieces, VSOCK_HEADER_SIZE + part.first.size(), part.second);
    header.len = n;
    payload = payload.Skip(n);
    // The last piece alone ends a message.
    if (header.op == VSOCK_OP_RW) header.flags = payload.empty() ? flags : flags & ~kMessageEnds;
    UseRx(header, n);
    TakeRx(1);
  } while (!payload.empty());
}

void VsockDevice::Send(const packet::Header& header, const Payload& payload) {
  if (!payload.empty() && payload.first.data() == in_place_) {
    UseRx(header, header.len);
  } else {
    Deliver(header, payload);
  }
}

absl::Span<const iovec> VsockDevice::Room(size_t bytes) {
  room_.clear();
  if (!up() || !waiting_.empty()) return {};
  TakeRx(kRoomChains);
  for (const RxChain& chain : ready_) {
    if (bytes == 0) break;
    size_t skip = VSOCK_HEADER_SIZE;
    size_t left = std::min<size_t>(bytes, chain.capacity);
    bytes -= left;
    for (const iovec& piece : chain.pieces) {
      const size_t skipped = std::min(skip, piece.iov_len);
      const size_t n = std::min(piece.iov_len - skipped, left);
      skip -= skipped;
      left -= n;
      if (n > 0) room_.push_back({static_cast<uint8_t*>(piece.iov_base) + skipped, n});
    }
  }
  return room_;
}

void VsockDevice::SendRoom(packet::Connection& connection, size_t bytes) {
  size_t place = 0;  // in room_: where the chain's payload begins
  while (bytes > 0) {
    const uint32_t n = std::min<uint32_t>(bytes, ready_.front().capacity);
    in_place_ = static_cast<const uint8_t*>(room_[place].iov_base);
    for (size_t behind = 0; behind < n; ++place) behind += room_[place].iov_len;
    // Nobody reads these bytes: Send() sees that they are where they should be.
    connection.Send(Payload(absl::MakeConstSpan(in_place_, n)));
    bytes -= n;
  }
  in_place_ = nullptr;
  if (ready_.empty()) TakeRx(1);
}

void VsockDevice::OfferRx() {
  if (!up()) return;
  TakeRx(1);
  while (!waiting_.empty() && !ready_.empty()) {
    const auto [header, bytes] = std::move(waiting_.front());
    waiting_.pop_front();
    Deliver(header, Payload(absl::MakeConstSpan(bytes)));
  }
  if (CanSend(options_.guest_cid)) user_.OnCanSend(options_.guest_cid);
}

// ---- from the guest ----

void VsockDevice::ProcessTx() {
  if (!up() || in_pass_ || tx_paused_) return;
  tx_more_ = false;
  Virtqueue& ring = server_->queue(kTx);
  ring.DisableKicks();
  in_pass_ = true;
  uint64_t bytes = 0;
  while (up() && !tx_paused_) {
    if (pass_chains_.size() >= kPassChains || bytes >= kPassBytes) {
      tx_more_ = true;
      loop_.Again(turn_.get());
      break;
    }
    Chain chain;
    absl::StatusOr<Virtqueue::PopResult> popped = ring.Pop(absl::MakeSpan(tx_pieces_), &chain);
    if (!popped.ok()) {
      Break(popped.status());
      break;
    }
    if (*popped == Virtqueue::PopResult::kEmpty) {
      if (ring.EnableKicks()) continue;
      break;
    }
    pass_chains_.push_back(chain.head);
    bytes += chain.readable_bytes;
    if (absl::Status s = Receive(chain); !s.ok()) {
      Break(s);
      break;
    }
  }
  EndPass();
  CheckMemory();
}

absl::Status VsockDevice::Receive(const Chain& chain) {
  std::array<uint8_t, VSOCK_HEADER_SIZE> bytes;
  if (chain.readable_bytes < bytes.size()) {
    return ErrnoError(EPROTO, absl::StrCat("the guest sent ", chain.readable_bytes,
                                           " bytes, less than a packet's header"));
  }
  ForPieces(chain.readable, 0, bytes.size(), [&](const uint8_t* from, size_t done, size_t n) {
    std::memcpy(bytes.data() + done, from, n);
  });
  packet::Header header;
  if (!packet::ParseHeader(bytes, chain.readable_bytes, &header)) {
    return ErrnoError(EPROTO, absl::StrCat("the guest sent a packet of ", chain.readable_bytes,
                                           " bytes that is not as long as it says"));
  }
  absl::Span<iovec> pieces = Skip(chain.readable, bytes.size());
  const uint32_t flags = header.flags;
  // A payload has two pieces; what is in more of them makes several packets.
  do {
    absl::Span<const uint8_t> part[2];
    for (absl::Span<const uint8_t>& piece : part) {
      if (pieces.empty()) break;
      piece = {static_cast<const uint8_t*>(pieces.front().iov_base), pieces.front().iov_len};
      pieces.remove_prefix(1);
    }
    const Payload payload(part[0], part[1]);
    header.len = static_cast<uint32_t>(payload.size());
    if (header.op == VSOCK_OP_RW) header.flags = pieces.empty() ? flags : flags & ~kMessageEnds;
    user_.OnPacket(options_.guest_cid, header, payload);
  } while (!pieces.empty() && header.op == VSOCK_OP_RW && up());
  return absl::OkStatus();
}

void VsockDevice::ResumeTx() {
  tx_paused_ = false;
  // Kicks were off.
  tx_more_ = true;
  loop_.Again(turn_.get());
}

bool VsockDevice::KeepForPass(PassUser* user) {
  if (!in_pass_) return false;
  if (std::find(pass_users_.begin(), pass_users_.end(), user) == pass_users_.end()) {
    pass_users_.push_back(user);
  }
  return true;
}

void VsockDevice::ForgetPassUser(PassUser* user) {
  pass_users_.erase(std::remove(pass_users_.begin(), pass_users_.end(), user), pass_users_.end());
}

void VsockDevice::EndPass() {
  if (!in_pass_) return;
  // They may end others.
  while (!pass_users_.empty()) {
    PassUser* user = pass_users_.back();
    pass_users_.pop_back();
    user->OnPassEnded();
  }
  in_pass_ = false;
  if (pass_chains_.empty()) return;
  Virtqueue& ring = server_->queue(kTx);
  for (const uint16_t head : pass_chains_) ring.PushUsed(head, 0);
  pass_chains_.clear();
  if (ring.Flush()) {
    server_->Notify(kTx);
  }
}

}  // namespace argosy::vhost_user
