// SPDX-License-Identifier: Apache-2.0
#include "sim/simulation/program.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace argosy::sim {

using packet::Connection;
using packet::End;
using packet::Payload;

namespace {

constexpr uint64_t kPeriod = 65521;  // a prime: no power of two falls on the same byte

const std::vector<uint8_t>& NoiseTable() {
  static const std::vector<uint8_t> table = [] {
    std::vector<uint8_t> bytes(kPeriod + kMaxNoise);
    Random random(20261121);
    for (size_t i = 0; i < kPeriod; ++i) bytes[i] = static_cast<uint8_t>(random.Next());
    for (size_t i = kPeriod; i < bytes.size(); ++i) bytes[i] = bytes[i - kPeriod];
    return bytes;
  }();
  return table;
}

absl::string_view Name(End end) {
  switch (end) {
    case End::kClean:
      return "clean";
    case End::kReset:
      return "reset";
    case End::kRefused:
      return "refused";
    case End::kTimedOut:
      return "timed out";
    case End::kCarrierLost:
      return "carrier lost";
    case End::kLocal:
      return "local";
  }
  return "";
}

}  // namespace

absl::Span<const uint8_t> Noise(uint64_t salt, uint64_t offset, size_t size) {
  return absl::MakeConstSpan(NoiseTable()).subspan((salt + offset) % kPeriod, size);
}

bool IsNoise(uint64_t salt, uint64_t offset, const Payload& payload) {
  for (absl::Span<const uint8_t> part : {payload.first, payload.second}) {
    if (!part.empty() &&
        std::memcmp(part.data(), Noise(salt, offset, part.size()).data(), part.size()) != 0) {
      return false;
    }
    offset += part.size();
  }
  return true;
}

Program::Manners Program::Manners::FromSeed(Random& random, uint16_t type) {
  Manners m;
  const bool stream = type == VSOCK_TYPE_STREAM;
  m.size_bits = random.Between(3, random.OneIn(4) ? 17 : 11);
  m.goal = random.OneIn(8) ? 0 : random.Skewed(stream ? (random.OneIn(6) ? 19 : 15) : 7);
  if (random.OneIn(5)) {
    m.ending = random.Pick(std::array{Ending::kLeave, Ending::kStopReading, Ending::kReset});
    m.ending_at = random.Below(static_cast<uint32_t>(m.goal) + 1);
  }
  m.eager = random.OneIn(2);
  m.nibbles = random.OneIn(3);
  m.holds = random.OneIn(3);
  return m;
}

Program::Program(Random& random, Journal& journal, packet::Endpoint& endpoint, const Pair& pair,
                 bool unsettled, uint16_t type, std::string name)
    : random_(random),
      journal_(journal),
      endpoint_(endpoint),
      pair_(pair),
      type_(type),
      name_(std::move(name)),
      salt_(random.Next()),
      manners_(Manners::FromSeed(random, type)),
      unsettled_(unsettled),
      spoilings_(pair.spoilings),
      disturbances_(pair.disturbances) {}

void Program::Begin(Connection* connection, bool accepted) {
  connection_ = connection;
  accepted_ = accepted;
  connected_ = connection->state() == Connection::State::kConnected;
  appetite_ = manners_.nibbles ? 0 : SIZE_MAX;
  if (manners_.holds) connection->HoldLastByte();
}

bool Program::Trusts() const {
  return peer_ != nullptr && pair_.sane() && pair_.spoilings == spoilings_;
}

void Program::Called(const char* what) {
  journal_.Check(Oracle::kNothingAfterEnd, !over_,
                 [&] { return absl::StrCat(what, " for ", Describe()); });
}

// ---- what it does ----

void Program::Act() {
  if (connection_ == nullptr) return;
  if (!accepted_ && (greedy_ || random_.OneIn(3))) {
    accepted_ = true;
    endpoint_.Accepted(*connection_);
  }
  if (stalled_ && random_.OneIn(30)) stalled_ = false;
  if (!stalled_) {
    appetite_ = manners_.nibbles && !greedy_ ? random_.Skewed(14) : SIZE_MAX;
    connection_->Drain();
    if (connection_ != nullptr && manners_.holds && (greedy_ || random_.OneIn(2))) {
      confirmed_ = received_;
      connection_->ConfirmTaken();
    }
  }
  if (connection_ != nullptr) Misbehave();
  if (connection_ != nullptr) Send();
}

void Program::BeGreedy() {
  greedy_ = manners_.eager = true;
  stalled_ = false;
  appetite_ = SIZE_MAX;
}

void Program::Misbehave() {
  if (manners_.ending != Ending::kStopReading && manners_.ending != Ending::kReset) return;
  if (!connected_ || Sent() < manners_.ending_at) return;
  if (manners_.ending == Ending::kReset) {
    journal_.Note(Fault::kReset, [&] { return Describe(); });
    local_end_ = true;
    connection_->Reset();
    return;
  }
  if (stopped_) return;
  journal_.Note(Fault::kStoppedReading, [&] { return Describe(); });
  stopped_ = true;
  connection_->StopReading();
}

void Program::Send() {
  for (uint32_t n = greedy_ ? 1000 : 1 + random_.Skewed(4); n > 0 && SendOne(); --n) {
  }
}

// Whether it may go on.
bool Program::SendOne() {
  if (connection_ == nullptr || !connected_ || finished_ || blocked_) return false;
  if (Sent() >= manners_.goal || peer_stopped_) {
    SayFinished();
    return false;
  }
  Connection& c = *connection_;
  if (IsStream()) {
    const size_t room = c.SendCapacity();
    if (room == 0) {
      blocked_ = true;
      return false;
    }
    const size_t size =
        std::min<uint64_t>({room, 1 + random_.Skewed(manners_.size_bits), manners_.goal - sent_});
    const Payload bytes = Noise(salt_, sent_, size);
    sent_ += size;
    c.Send(bytes);
    return true;
  }
  if (!next_size_) {
    next_size_ = random_.OneIn(16) ? 0 : random_.Skewed(manners_.size_bits);
    *next_size_ = std::min<uint32_t>(*next_size_, c.MaxMessage());
  }
  if (!c.CanSendMessage(*next_size_)) {
    blocked_ = true;
    return false;
  }
  const bool end_of_record = random_.OneIn(3);
  const Payload bytes = Noise(salt_, sent_, *next_size_);
  messages_.push_back({*next_size_, end_of_record});
  sent_ += *next_size_;
  next_size_.reset();
  c.SendMessage(bytes, end_of_record);
  return true;
}

void Program::SayFinished() {
  finished_ = true;
  finished_at_ = journal_.now();
  blocked_ = false;
  Connection* connection = connection_;
  if (manners_.ending == Ending::kLeave) {
    journal_.Note(Fault::kLeft, [&] { return Describe(); });
    stopped_ = true;
  }
  connection->FinishSending();  // may end it
  if (stopped_ && connection_ != nullptr) connection_->StopReading();
}

void Program::Die() {
  dead_ = over_ = true;
  connection_ = nullptr;
}

// ---- what it is told ----

void Program::OnConnected(Connection&) {
  Called("connected");
  connected_ = true;
}

size_t Program::OnData(Connection&, const Payload& data) {
  Called("data");
  journal_.Check(Oracle::kNothingAfterEnd, !peer_finished_ && !stopped_,
                 [&] { return absl::StrCat("data behind end-of-file for ", Describe()); });
  const size_t n = stalled_ ? 0 : std::min(data.size(), appetite_);
  if (appetite_ != SIZE_MAX) appetite_ -= std::min(appetite_, n);
  if (n > 0 && Trusts()) {
    journal_.Check(
        Oracle::kPrefix,
        received_ + n <= peer_->sent_ && IsNoise(peer_->salt_, received_, data.Prefix(n)),
        [&] { return absl::StrCat(n, " bytes for ", Describe()); });
  }
  received_ += n;
  journal_.tally().bytes += n;
  if (manners_.eager && random_.OneIn(16)) Send();
  if (connection_ != nullptr && random_.OneIn(8)) Misbehave();
  return n;
}

bool Program::OnMessage(Connection&, const Payload& message, bool end_of_record) {
  Called("message");
  journal_.Check(Oracle::kNothingAfterEnd, !peer_finished_ && !stopped_,
                 [&] { return absl::StrCat("message behind end-of-file for ", Describe()); });
  if (stalled_ || appetite_ == 0) return false;
  if (Trusts()) {
    const bool is_next = received_messages_ < peer_->messages_.size() &&
                         peer_->messages_[received_messages_].size == message.size() &&
                         peer_->messages_[received_messages_].end_of_record == end_of_record;
    journal_.Check(Oracle::kMessages, is_next, [&] {
      return absl::StrCat("message ", received_messages_, " of ", message.size(), " bytes for ",
                          Describe());
    });
    journal_.Check(Oracle::kPrefix, IsNoise(peer_->salt_, received_, message),
                   [&] { return absl::StrCat(message.size(), " bytes for ", Describe()); });
  }
  if (appetite_ != SIZE_MAX) appetite_ -= std::min(appetite_, message.size());
  ++received_messages_;
  received_ += message.size();
  journal_.tally().bytes += message.size();
  if (manners_.eager && random_.OneIn(16)) Send();
  if (connection_ != nullptr && random_.OneIn(8)) Misbehave();
  return true;
}

void Program::OnCanSend(Connection&) {
  Called("can send");
  blocked_ = false;
  if (manners_.eager) Send();
}

void Program::OnPeerFinished(Connection&) {
  Called("end-of-file");
  journal_.Check(Oracle::kNothingAfterEnd, !peer_finished_,
                 [&] { return absl::StrCat("a second end-of-file for ", Describe()); });
  peer_finished_ = true;
  if (Trusts()) {
    journal_.Check(Oracle::kWholeAtEndOfFile, peer_->finished_ && HasAllOf(*peer_),
                   [&] { return absl::StrCat(Describe(), " of ", peer_->Describe()); });
  }
}

void Program::OnPeerStoppedReading(Connection&) {
  Called("peer stopped reading");
  journal_.Check(Oracle::kNothingAfterEnd, !peer_stopped_, [&] {
    return absl::StrCat("a second time that the peer stopped reading for ", Describe());
  });
  peer_stopped_ = true;
  blocked_ = false;
}

void Program::OnEnded(Connection&, End end) {
  Called("end");
  over_ = true;
  end_ = end;
  connection_ = nullptr;
  blocked_ = false;
  journal_.Note([&] { return absl::StrCat(Describe(), " ended: ", Name(end)); });
  journal_.Check(Oracle::kEndExplained, IsExplained(end),
                 [&] { return absl::StrCat("'", Name(end), "' for ", Describe()); });
  if (end == End::kClean && Trusts()) CheckCleanEnd();
}

// ---- how it judges ----

bool Program::HasAllOf(const Program& sender) const {
  return received_ == sender.sent_ && received_messages_ == sender.messages_.size();
}

void Program::CheckCleanEnd() {
  // Zero-length messages move no byte: a peer that leaves may lose them unseen.  And a message
  // that its program never read may pass for taken if nobody answers for the whole close time-out.
  const bool answered = IsStream() || journal_.now() - finished_at_ < packet::kCloseTimeout;
  const uint64_t taken = peer_->manners_.holds && answered ? peer_->confirmed_ : peer_->received_;
  journal_.Check(Oracle::kCleanIsWhole, taken == sent_, [&] {
    return absl::StrCat(Describe(), ", whose peer ", peer_->Describe(), " has ", taken);
  });
}

bool Program::IsExplained(End end) const {
  if (!pair_.sane() || unsettled_ || pair_.disturbances != disturbances_) return true;
  switch (end) {
    case End::kClean:
      return (finished_ || peer_stopped_) && (stopped_ || peer_finished_);
    case End::kReset:
      // A closer that gave up waiting resets too: stopped_.
      return stopped_ || peer_ == nullptr || peer_->local_end_ || peer_->stopped_ ||
             (peer_->over_ && peer_->end_ == End::kTimedOut);
    case End::kRefused:
      return may_be_refused_ || (peer_ != nullptr && peer_->local_end_);
    case End::kTimedOut:
      return !connected_;
    case End::kCarrierLost:
      return false;
    case End::kLocal:
      return local_end_;
  }
  return false;
}

std::string Program::Describe() const {
  std::string text =
      absl::StrCat(name_, " [", IsStream() ? "stream" : "seqpacket", ", sent ", sent_);
  if (!IsStream()) absl::StrAppend(&text, " in ", messages_.size());
  absl::StrAppend(&text, ", received ", received_);
  if (!IsStream()) absl::StrAppend(&text, " in ", received_messages_);
  const std::pair<bool, const char*> marks[] = {{!connected_, "not connected"},
                                                {!accepted_, "not accepted"},
                                                {blocked_, "waits to send"},
                                                {stalled_, "stalled"},
                                                {finished_, "finished"},
                                                {stopped_, "stopped reading"},
                                                {peer_finished_, "peer finished"},
                                                {peer_stopped_, "peer stopped reading"},
                                                {dead_, "dead"},
                                                {over_ && !dead_, "over"}};
  for (const auto& [is, what] : marks) {
    if (is) absl::StrAppend(&text, ", ", what);
  }
  return text + "]";
}

}  // namespace argosy::sim
