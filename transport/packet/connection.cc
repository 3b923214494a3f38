// SPDX-License-Identifier: Apache-2.0
#include "transport/packet/connection.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "transport/packet/endpoint.h"
#include "transport/packet/endpoint_call.h"

namespace argosy::packet {
namespace {

// A sequence number of the protocol lies behind another: they wrap at 2^32.
bool Before(uint32_t a, uint32_t b) { return static_cast<int32_t>(a - b) < 0; }

// Small packets of a stream are put together up to this size, so that a sender of single bytes
// costs bytes and not allocations.
constexpr size_t kPieceSize = 16 * 1024;

// A question without an answer is repeated after kCreditRetry times 2 to this power at last.
constexpr int kMaxUnanswered = 6;

constexpr uint8_t kBoth = VSOCK_SHUTDOWN_SEND | VSOCK_SHUTDOWN_RCV;

// Whether the sender of such a packet reads no more: its fwd_cnt is the last word.
bool SaysFinal(uint16_t op, uint32_t flags) {
  return op == VSOCK_OP_RST || (op == VSOCK_OP_SHUTDOWN && (flags & VSOCK_SHUTDOWN_RCV) != 0);
}

void Append(const Payload& from, std::vector<uint8_t>& to) {
  to.insert(to.end(), from.first.begin(), from.first.end());
  to.insert(to.end(), from.second.begin(), from.second.end());
}

}  // namespace

Connection::Connection(Endpoint& endpoint, PeerRecord& record, Address local, Address peer,
                       uint16_t type)
    : endpoint_(endpoint),
      record_(record),
      local_(local),
      peer_(peer),
      id_(endpoint.next_id_++),
      generation_(record.generation),
      type_(type) {}

bool Connection::Stale() const { return ended_ || generation_ != record_.generation; }

// ---- answering ----

void Connection::Accept() {
  Endpoint::Call call(endpoint_);
  assert(state_ == State::kAnswering && !ended_);
  state_ = State::kConnected;
  ++endpoint_.counters_.connected;
  Owe(kOwedResponse);
  TellShutdown();
}

// ---- sending ----

bool Connection::MaySend() const {
  return state_ == State::kConnected && !finished_ && (peer_shutdown_ & VSOCK_SHUTDOWN_RCV) == 0 &&
         !Stale();
}

bool Connection::CarrierReady() {
  // What is owed goes first: no data before the RESPONSE.
  if (Flush() && endpoint_.link_.CanSend(peer_.cid)) return true;
  if (!in_waiting_ && !Stale()) {
    waiting_place_ = record_.waiting.insert(record_.waiting.end(), this);
    in_waiting_ = true;
  }
  return false;
}

size_t Connection::Credit() const {
  const uint32_t under_way = tx_cnt_ - peer_fwd_cnt_;
  return peer_buf_alloc_ > under_way ? peer_buf_alloc_ - under_way : 0;
}

size_t Connection::StreamRoom() const {
  const uint32_t limit = PacketLimit(peer_buf_alloc_);
  const uint32_t packets = limit > meter_.in_flight() ? limit - meter_.in_flight() : 0;
  return std::min({Credit(), size_t{packets} * endpoint_.link_.MaxPayload(peer_.cid),
                   size_t{VSOCK_MAX_PAYLOAD}});
}

bool Connection::Fits(size_t size) const {
  if (type_ == VSOCK_TYPE_STREAM) return StreamRoom() > 0;
  if (size > Credit()) return false;
  // A message of more packets than the limit goes when nothing else is under way, or it never
  // could.
  if (meter_.in_flight() == 0) return true;
  const size_t max = endpoint_.link_.MaxPayload(peer_.cid);
  const size_t packets = std::max<size_t>((size + max - 1) / max, 1);
  return meter_.in_flight() + packets <= PacketLimit(peer_buf_alloc_);
}

size_t Connection::SendCapacity() {
  Endpoint::Call call(endpoint_);
  if (!MaySend() || !CarrierReady()) return 0;
  const size_t room = StreamRoom();
  if (room == 0) WaitForCredit(0);
  return room;
}

bool Connection::CanSendMessage(size_t size) {
  Endpoint::Call call(endpoint_);
  if (!MaySend() || size > MaxMessage() || !CarrierReady()) return false;
  if (Fits(size)) return true;
  WaitForCredit(size);
  return false;
}

void Connection::Send(const Payload& data) {
  Endpoint::Call call(endpoint_);
  assert(type_ == VSOCK_TYPE_STREAM);
  const size_t max = endpoint_.link_.MaxPayload(peer_.cid);
  for (Payload rest = data; !rest.empty() && !Stale();) {
    const size_t n = std::min(rest.size(), max);
    Transmit(VSOCK_OP_RW, 0, rest.Prefix(n));
    rest = rest.Skip(n);
  }
}

void Connection::SendMessage(const Payload& message, bool end_of_record) {
  Endpoint::Call call(endpoint_);
  assert(type_ == VSOCK_TYPE_SEQPACKET);
  const uint32_t end = VSOCK_SEQ_EOM | (end_of_record ? VSOCK_SEQ_EOR : 0u);
  const size_t max = endpoint_.link_.MaxPayload(peer_.cid);
  Payload rest = message;
  for (; rest.size() > max && !Stale(); rest = rest.Skip(max)) {
    Transmit(VSOCK_OP_RW, 0, rest.Prefix(max));
  }
  if (!Stale()) Transmit(VSOCK_OP_RW, end, rest);
}

void Connection::WaitForCredit(size_t size) {
  wants_send_ = true;
  wanted_size_ = size;
  AskForCredit();
}

void Connection::AskForCredit() {
  const bool answered = unanswered_ > 0 && !meter_.asked();
  if (deadline_ == absl::InfiniteFuture() || answered) {
    unanswered_ = 0;
    endpoint_.SetDeadline(*this, endpoint_.now_ + kCreditRetry);
  }
  if (asked_ || meter_.asked() || OnlyEmptiesUnderWay()) return;
  // Of a quarter of its buffer, or many packets, the peer tells by itself.
  const uint32_t under_way = tx_cnt_ - peer_fwd_cnt_;
  if (under_way > 0 && under_way >= peer_buf_alloc_ / 4 &&
      meter_.in_flight() < PacketLimit(peer_buf_alloc_)) {
    return;
  }
  asked_ = true;
  Owe(kOwedCreditRequest);
}

void Connection::WakeSender() {
  if (!wants_send_) return;
  if (!MaySend()) return ForgetWish();
  if (!Fits(wanted_size_)) return AskForCredit();
  ForgetWish();
  if (CarrierReady()) user_->OnCanSend(*this);
}

void Connection::ForgetWish() {
  wants_send_ = false;
  asked_ = false;
  if (state_ == State::kConnected) endpoint_.SetDeadline(*this, absl::InfiniteFuture());
}

Header Connection::MakeHeader(uint16_t op, uint32_t flags, uint32_t len) const {
  Header header;
  header.src_cid = local_.cid;
  header.dst_cid = peer_.cid;
  header.src_port = local_.port;
  header.dst_port = peer_.port;
  header.len = len;
  header.type = type_;
  header.op = op;
  header.flags = flags;
  header.buf_alloc = endpoint_.options_.buf_alloc;
  header.fwd_cnt = op == VSOCK_OP_RST ? FinalFwdCnt() : ReportedFwdCnt();
  return header;
}

void Connection::Transmit(uint16_t op, uint32_t flags, const Payload& payload) {
  if (op == VSOCK_OP_RW) {
    tx_cnt_ += static_cast<uint32_t>(payload.size());
    if (payload.empty()) {
      meter_.SentEmpty(tx_cnt_);
    } else {
      meter_.Sent(tx_cnt_, PacketLimit(peer_buf_alloc_));
    }
  }
  told_fwd_cnt_ = ReportedFwdCnt();
  packets_taken_ = 0;
  ++endpoint_.counters_.packets_out;
  endpoint_.link_.Send(MakeHeader(op, flags, static_cast<uint32_t>(payload.size())), payload);
}

void Connection::Owe(uint8_t owed) {
  owed_ |= owed;
  Flush();
}

bool Connection::Flush() {
  // What ended connections owe stands before everything else to this peer.
  while (owed_ != 0 || owed_empties_ != 0) {
    if (Stale()) return false;
    if (!endpoint_.MaySendLast(record_)) {
      if (!in_owing_) {
        owing_place_ = record_.owing.insert(record_.owing.end(), this);
        in_owing_ = true;
      }
      return false;
    }
    if (owed_ & kOwedRequest) {
      owed_ &= ~kOwedRequest;
      Transmit(VSOCK_OP_REQUEST, 0, {});
    } else if (owed_ & kOwedResponse) {
      owed_ &= ~kOwedResponse;
      Transmit(VSOCK_OP_RESPONSE, 0, {});
    } else if (owed_ & kOwedCredit) {
      owed_ &= ~kOwedCredit;
      Transmit(VSOCK_OP_CREDIT_UPDATE, 0, {});
    } else if (owed_empties_ > 0) {
      // Only an update without new bytes speaks of a zero-length message: see packet_meter.h.
      if (told_fwd_cnt_ == ReportedFwdCnt()) --owed_empties_;
      Transmit(VSOCK_OP_CREDIT_UPDATE, 0, {});
    } else if (owed_ & kOwedCreditRequest) {
      owed_ &= ~kOwedCreditRequest;
      meter_.Asked();
      Transmit(VSOCK_OP_CREDIT_REQUEST, 0, {});
    } else {
      owed_ &= ~kOwedShutdown;
      shutdown_sent_ = WantedShutdown();
      Transmit(VSOCK_OP_SHUTDOWN, shutdown_sent_, {});
    }
  }
  return !Stale();
}

// ---- receiving ----

void Connection::Receive(const Header& header, const Payload& payload) {
  if (header.op == VSOCK_OP_RST) return ReceiveReset(header);
  if (state_ == State::kConnecting &&
      (header.op != VSOCK_OP_RESPONSE || (owed_ & kOwedRequest) != 0)) {
    return Breach(endpoint_.counters_.breach_state);
  }
  if (!ReceiveCredit(header)) return Breach(endpoint_.counters_.breach_credit);
  if (state_ == State::kAnswering) {
    // A peer that gave up says nothing of it, and its program may try again from the same port: the
    // answer is to that REQUEST as well.
    if (header.op == VSOCK_OP_REQUEST) return;
    return Breach(endpoint_.counters_.breach_state);
  }
  switch (header.op) {
    case VSOCK_OP_RESPONSE:
      if (state_ != State::kConnecting) return Breach(endpoint_.counters_.breach_state);
      state_ = State::kConnected;
      endpoint_.SetDeadline(*this, absl::InfiniteFuture());
      ++endpoint_.counters_.connected;
      user_->OnConnected(*this);
      TellShutdown();
      break;
    case VSOCK_OP_RW:
      ReceiveData(header, payload);
      break;
    case VSOCK_OP_SHUTDOWN:
      ReceiveShutdown(header.flags);
      break;
    case VSOCK_OP_CREDIT_UPDATE:
      break;
    case VSOCK_OP_CREDIT_REQUEST:
      peer_asked_ = HasPieces();
      // One that sends no more only wants to know whether all was taken.
      if (type_ == VSOCK_TYPE_SEQPACKET && (peer_shutdown_ & VSOCK_SHUTDOWN_SEND) == 0) held_ = 0;
      Owe(kOwedCredit);
      break;
    case VSOCK_OP_REQUEST:
      return Breach(endpoint_.counters_.breach_state);
    default:
      return Breach(endpoint_.counters_.drop_op);
  }
  // What the peer told may be all that an end waited for.
  CheckEnd();
  if (!ended_) WakeSender();
}

bool Connection::ReceiveCredit(const Header& header) {
  if (Before(tx_cnt_, header.fwd_cnt)) return false;
  // An older value is no lie: a peer with several threads may send its packets in another order
  // than it made them.  But one that reads no more may take back what its program lost.
  const bool moved = Before(peer_fwd_cnt_, header.fwd_cnt);
  if (moved || SaysFinal(header.op, header.flags)) {
    peer_fwd_cnt_ = header.fwd_cnt;
    asked_ = false;
  }
  peer_buf_alloc_ = header.buf_alloc;
  meter_.Heard(peer_fwd_cnt_, tx_cnt_, header.op == VSOCK_OP_CREDIT_UPDATE, moved);
  return true;
}

void Connection::ReceiveReset(const Header& header) {
  if (state_ == State::kConnecting) {
    // Before our REQUEST it can only be meant for an older connection.
    if ((owed_ & kOwedRequest) == 0) endpoint_.Finish(*this, End::kRefused);
    return;
  }
  // The header of an RST may be blank: only a fwd_cnt that can be true counts.
  if (header.buf_alloc != 0 && !Before(tx_cnt_, header.fwd_cnt)) peer_fwd_cnt_ = header.fwd_cnt;
  if (state_ == State::kClosing) {
    endpoint_.Finish(*this, all_taken() ? End::kClean : End::kReset);
  } else if (peer_shutdown_ & VSOCK_SHUTDOWN_SEND) {
    clean_ = all_taken() && (finished_ || (peer_shutdown_ & VSOCK_SHUTDOWN_RCV) != 0);
    StartDraining();
    CheckEnd();
  } else {
    endpoint_.Finish(*this, End::kReset);
  }
}

void Connection::ReceiveShutdown(uint32_t flags) {
  // A message that is cut off by end-of-file is no message.
  if ((flags & VSOCK_SHUTDOWN_SEND) && inbox_ != nullptr && !inbox_->partial.bytes.empty()) {
    return Breach(endpoint_.counters_.breach_state);
  }
  const uint8_t news = flags & kBoth & ~peer_shutdown_;
  peer_shutdown_ |= news;
  if ((news & VSOCK_SHUTDOWN_RCV) && !finished_) user_->OnPeerStoppedReading(*this);
  CheckEnd();
}

void Connection::ReceiveData(const Header& header, const Payload& payload) {
  if (peer_shutdown_ & VSOCK_SHUTDOWN_SEND) return Breach(endpoint_.counters_.breach_state);
  if (payload.size() > endpoint_.options_.buf_alloc - (rx_cnt_ - fwd_cnt_)) {
    return Breach(endpoint_.counters_.breach_credit);
  }
  rx_cnt_ += static_cast<uint32_t>(payload.size());
  if (stopped_) return;
  if (type_ == VSOCK_TYPE_STREAM) {
    if (!payload.empty()) ReceiveBytes(payload);
  } else {
    ReceiveFragment(header.flags, payload);
  }
  // The program may have ended its side from inside.
  CheckEnd();
}

void Connection::ReceiveBytes(const Payload& bytes) {
  if (HasPieces()) return Keep(bytes);
  delivering_ = true;
  const size_t took = std::min(user_->OnData(*this, bytes), bytes.size());
  delivering_ = false;
  if (ended_) return;
  const bool all = took == bytes.size();
  if (!all && !stopped_) Keep(bytes.Skip(took));
  Taken(took, all ? 1 : 0);
}

void Connection::Keep(const Payload& bytes) {
  if (inbox_ == nullptr) inbox_ = std::make_unique<Inbox>();
  std::deque<Piece>& pieces = inbox_->pieces;
  if (pieces.empty() || pieces.back().bytes.size() + bytes.size() > kPieceSize) {
    pieces.emplace_back().bytes.reserve(bytes.size());
  }
  Append(bytes, pieces.back().bytes);
  ++pieces.back().packets;
}

void Connection::ReceiveFragment(uint32_t flags, const Payload& fragment) {
  const bool last = (flags & VSOCK_SEQ_EOM) != 0;
  const bool end_of_record = (flags & VSOCK_SEQ_EOR) != 0;
  const bool whole = last && (inbox_ == nullptr || inbox_->partial.bytes.empty());
  const bool waits = HasPieces();
  if (whole && !waits) {
    delivering_ = true;
    const bool took = user_->OnMessage(*this, fragment, end_of_record);
    delivering_ = false;
    if (ended_) return;
    if (took) {
      if (fragment.empty()) ++owed_empties_;
      return Taken(fragment.size(), 1);
    }
    if (stopped_) return;
  }
  if (!last && fragment.empty()) return;
  if (inbox_ == nullptr) inbox_ = std::make_unique<Inbox>();
  Piece& partial = inbox_->partial;
  Append(fragment, partial.bytes);
  ++partial.packets;
  if (!last) return;
  partial.end_of_record = end_of_record;
  if (KeepMessage(std::exchange(partial, Piece())) && !whole && !waits) Offer();
}

bool Connection::KeepMessage(Piece message) {
  if (inbox_->pieces.size() >= kMaxQueuedMessages) {
    Breach(endpoint_.counters_.breach_messages);
    return false;
  }
  inbox_->pieces.push_back(std::move(message));
  return true;
}

void Connection::Drain() {
  Endpoint::Call call(endpoint_);
  if (ended_ || delivering_) return;
  Offer();
  CheckEnd();
}

void Connection::Offer() {
  size_t bytes = 0;
  uint32_t packets = 0;
  while (HasPieces()) {
    // Out of the queue while the program has it: it may stop reading from inside.
    Piece piece = std::move(inbox_->pieces.front());
    inbox_->pieces.pop_front();
    const absl::Span<const uint8_t> offered = absl::MakeConstSpan(piece.bytes).subspan(piece.taken);
    size_t took;
    bool all;
    delivering_ = true;
    if (type_ == VSOCK_TYPE_STREAM) {
      took = std::min(user_->OnData(*this, offered), offered.size());
      all = took == offered.size();
    } else {
      all = user_->OnMessage(*this, offered, piece.end_of_record);
      took = all ? offered.size() : 0;
    }
    delivering_ = false;
    if (ended_) return;
    bytes += took;
    if (all) {
      packets += piece.packets;
      if (offered.empty()) ++owed_empties_;
    } else if (!stopped_) {
      piece.taken += took;
      inbox_->pieces.push_front(std::move(piece));
      break;
    }
  }
  if (inbox_ != nullptr && !HasPieces() && inbox_->partial.bytes.empty()) inbox_.reset();
  Taken(bytes, packets);
}

void Connection::Taken(size_t bytes, uint32_t packets) {
  fwd_cnt_ += static_cast<uint32_t>(bytes);
  if (holds_ && bytes > 0) held_ = unconfirmed_ = 1;
  packets_taken_ += packets;
  TellIfDue();
}

void Connection::TellIfDue() {
  if (state_ != State::kConnected) return;
  const uint32_t buf_alloc = endpoint_.options_.buf_alloc;
  const uint32_t untold = ReportedFwdCnt() - told_fwd_cnt_;
  const bool drained = !HasPieces();
  if (untold > 0 && (untold >= buf_alloc / 4 || packets_taken_ >= PacketLimit(buf_alloc) / 4 ||
                     (peer_asked_ && drained))) {
    owed_ |= kOwedCredit;
  }
  if (drained) peer_asked_ = false;
  Flush();
}

// ---- ending ----

void Connection::FinishSending() {
  Endpoint::Call call(endpoint_);
  if (ended_ || finished_) return;
  finished_ = true;
  ForgetWish();
  CheckEnd();
  TellShutdown();
}

void Connection::ConfirmTaken() {
  Endpoint::Call call(endpoint_);
  if (ended_ || unconfirmed_ == 0) return;
  held_ = unconfirmed_ = 0;
  CheckEnd();
}

void Connection::StopReading() {
  Endpoint::Call call(endpoint_);
  if (ended_ || stopped_) return;
  stopped_ = true;
  inbox_.reset();
  CheckEnd();
  TellShutdown();
}

void Connection::Reset() {
  Endpoint::Call call(endpoint_);
  if (ended_) return;
  if (state_ == State::kAnswering) {
    ++endpoint_.counters_.drop_no_connection;
    ++endpoint_.counters_.reset_sent;
  }
  // Without a REQUEST, or behind the peer's RST, there is nobody to tell.
  if (state_ != State::kDraining && (owed_ & kOwedRequest) == 0 && !Stale()) {
    SendReset();
  }
  endpoint_.Finish(*this, End::kLocal);
}

uint8_t Connection::WantedShutdown() const {
  if (state_ == State::kClosing) return kBoth;
  return (finished_ ? VSOCK_SHUTDOWN_SEND : 0) | (stopped_ ? VSOCK_SHUTDOWN_RCV : 0);
}

void Connection::TellShutdown() {
  if (ended_ || (state_ != State::kConnected && state_ != State::kClosing)) return;
  if (WantedShutdown() & ~shutdown_sent_) Owe(kOwedShutdown);
}

void Connection::CheckEnd() {
  if (ended_ || delivering_ || state_ == State::kConnecting || state_ == State::kAnswering) return;
  if ((peer_shutdown_ & VSOCK_SHUTDOWN_SEND) && !eof_told_ && !stopped_ && !HasPieces()) {
    eof_told_ = true;
    user_->OnPeerFinished(*this);
    if (ended_) return;
  }
  if (!stopped_ && (!eof_told_ || unconfirmed_ > 0)) return;
  if (state_ == State::kDraining) {
    endpoint_.Finish(*this, clean_ ? End::kClean : End::kReset);
  } else if (peer_shutdown_ == kBoth) {
    SendReset();
    endpoint_.Finish(*this, all_taken() ? End::kClean : End::kReset);
  } else if (state_ == State::kConnected && finished_ && (stopped_ || all_taken())) {
    state_ = State::kClosing;
    endpoint_.SetDeadline(*this, endpoint_.now_ + kCloseTimeout);
    TellShutdown();
  } else if (state_ == State::kConnected && eof_told_) {
    // The peer may wait for nothing but to know that all was taken; and this side too.
    if (told_fwd_cnt_ != ReportedFwdCnt()) Owe(kOwedCredit);
    if (finished_ && deadline_ == absl::InfiniteFuture()) {
      endpoint_.SetDeadline(*this, endpoint_.now_ + kCreditRetry);
    }
  }
}

void Connection::StartDraining() {
  state_ = State::kDraining;
  owed_ = 0;
  owed_empties_ = 0;
  endpoint_.SetDeadline(*this, absl::InfiniteFuture());
  endpoint_.Detach(*this);
  endpoint_.draining_.splice(endpoint_.draining_.end(), record_.connections, self_);
}

void Connection::OnDeadline() {
  switch (state_) {
    case State::kConnecting:
      if ((owed_ & kOwedRequest) == 0 && !Stale()) {
        SendReset();
      }
      endpoint_.Finish(*this, End::kTimedOut);
      break;
    case State::kClosing:
      // Without the SHUTDOWN the RST would look like an error.
      if ((owed_ & kOwedShutdown) && !(owed_ & kOwedResponse)) {
        endpoint_.SendLast(record_, MakeHeader(VSOCK_OP_SHUTDOWN, kBoth, 0));
      }
      SendReset();
      endpoint_.Finish(*this, all_taken() ? End::kClean : End::kReset);
      break;
    case State::kConnected:
      if (!(wants_send_ || (finished_ && eof_told_)) || Stale()) break;
      // Less and less often while there is no answer: the meter must not take the answers to many
      // questions for news.
      unanswered_ = meter_.asked() ? std::min(unanswered_ + 1, kMaxUnanswered) : 0;
      endpoint_.SetDeadline(*this, endpoint_.now_ + kCreditRetry * (1 << unanswered_));
      if (!OnlyEmptiesUnderWay()) Owe(kOwedCreditRequest);
      break;
    case State::kAnswering:
    case State::kDraining:
      break;
  }
}

void Connection::SendReset() {
  const Header reset = MakeHeader(VSOCK_OP_RST, 0, 0);
  if (state_ == State::kAnswering || (owed_ & kOwedResponse)) {
    endpoint_.SendRefusal(record_, reset);
  } else {
    endpoint_.SendLast(record_, reset);
  }
}

void Connection::Breach(uint64_t& counter) {
  ++counter;
  ++endpoint_.counters_.reset_sent;
  SendReset();
  endpoint_.Finish(*this, End::kReset);
}

}  // namespace argosy::packet
