// SPDX-License-Identifier: Apache-2.0
#include "hatch/transfer_format.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "hatch/endian.h"
#include "transport/error.h"

namespace argosy::hatch {
namespace {

constexpr absl::string_view kMagic = "HATCHFT\n";
constexpr absl::string_view kReplyMagic = "HFR\n";
constexpr uint32_t kVersion = 1;

template <typename T>
void Append(std::string& out, T value) {
  char bytes[sizeof value];
  StoreLittle(bytes, value);
  out.append(bytes, sizeof bytes);
}

}  // namespace

std::string EncodeHeader(uint64_t size) {
  std::string out(kMagic);
  Append(out, kVersion);
  Append(out, uint32_t{0});
  Append(out, size);
  return out;
}

void EncodeChunkHeader(uint32_t length, uint8_t header[kChunkHeaderSize]) {
  StoreLittle<uint32_t>(header, length);
}

std::string EncodeTrailer(uint64_t total, const Sha256::Digest& digest) {
  std::string out;
  Append(out, uint32_t{0});
  Append(out, total);
  out.append(digest.begin(), digest.end());
  return out;
}

absl::Status TransferDecoder::Feed(absl::Span<const uint8_t> bytes, DataFn data) {
  while (!bytes.empty()) {
    if (state_ == State::kComplete)
      return ErrnoError(EPROTO, "the sender goes on after the end of the file");
    if (state_ == State::kChunk) {
      const absl::Span<const uint8_t> piece =
          bytes.first(std::min<size_t>(chunk_left_, bytes.size()));
      sha_.Update(piece);
      if (absl::Status s = data(piece); !s.ok()) return s;
      bytes.remove_prefix(piece.size());
      total_ += piece.size();
      chunk_left_ -= piece.size();
      if (chunk_left_ == 0) state_ = State::kChunkHeader;
      continue;
    }
    const size_t taken = std::min(field_want_ - field_have_, bytes.size());
    memcpy(field_ + field_have_, bytes.data(), taken);
    bytes.remove_prefix(taken);
    field_have_ += taken;
    if (field_have_ < field_want_) return absl::OkStatus();
    if (absl::Status s = OnField(); !s.ok()) return s;
  }
  return absl::OkStatus();
}

// field_ is full: what it says, and what comes next.
absl::Status TransferDecoder::OnField() {
  field_have_ = 0;
  field_want_ = kChunkHeaderSize;
  switch (state_) {
    case State::kHeader: {
      if (memcmp(field_, kMagic.data(), kMagic.size()) != 0) {
        return ErrnoError(EPROTO,
                          "this is not a file transfer: is 'hatch send' on the other side?");
      }
      const uint32_t version = LoadLittle<uint32_t>(field_ + 8);
      if (version != kVersion || LoadLittle<uint32_t>(field_ + 12) != 0) {
        return ErrnoError(EPROTO, absl::StrCat("the sender speaks version ", version, ", not ",
                                               kVersion, ": use the same hatch on both sides"));
      }
      size_ = LoadLittle<uint64_t>(field_ + 16);
      state_ = State::kChunkHeader;
      return absl::OkStatus();
    }
    case State::kChunkHeader:
      chunk_left_ = LoadLittle<uint32_t>(field_);
      if (chunk_left_ > kMaxChunk) {
        return ErrnoError(EPROTO,
                          absl::StrCat("altered on the way: a chunk of ", chunk_left_, " bytes"));
      }
      if (chunk_left_ > 0 && size_ != kSizeUnknown && chunk_left_ > size_ - total_) {
        return ErrnoError(EPROTO,
                          absl::StrCat("the file is longer than the ", size_, " bytes announced"));
      }
      state_ = chunk_left_ > 0 ? State::kChunk : State::kTrailer;
      if (state_ == State::kTrailer) field_want_ = kTrailerSize - kChunkHeaderSize;
      return absl::OkStatus();
    case State::kTrailer:
      digest_ = sha_.Finish();
      if (LoadLittle<uint64_t>(field_) != total_ || (size_ != kSizeUnknown && size_ != total_)) {
        return ErrnoError(
            EPROTO, absl::StrCat("the file is cut: ", total_, " bytes have come of ",
                                 size_ == kSizeUnknown ? LoadLittle<uint64_t>(field_) : size_));
      }
      if (memcmp(field_ + 8, digest_.data(), digest_.size()) != 0) {
        return ErrnoError(EPROTO, "altered on the way: the SHA-256 digests differ");
      }
      state_ = State::kComplete;
      return absl::OkStatus();
    case State::kChunk:
    case State::kComplete:
      break;
  }
  return absl::OkStatus();
}

std::string EncodeReply(const Reply& reply) {
  const absl::string_view reason = absl::string_view(reply.reason).substr(0, kMaxReason);
  std::string out(kReplyMagic);
  Append(out, reply.code);
  Append(out, static_cast<uint32_t>(reason.size()));
  absl::StrAppend(&out, reason);
  return out;
}

absl::StatusOr<std::optional<Reply>> ParseReply(absl::string_view bytes) {
  if (!absl::StartsWith(bytes, kReplyMagic.substr(0, std::min(bytes.size(), kReplyMagic.size())))) {
    return ErrnoError(EPROTO, "the peer does not take files: start 'hatch recv' there");
  }
  if (bytes.size() < kReplyHeaderSize) return std::nullopt;
  const uint32_t length = LoadLittle<uint32_t>(bytes.data() + 8);
  if (length > kMaxReason) return ErrnoError(EPROTO, "the receiver's answer makes no sense");
  if (bytes.size() < kReplyHeaderSize + length) return std::nullopt;
  Reply reply;
  reply.code = LoadLittle<uint32_t>(bytes.data() + 4);
  reply.reason = std::string(bytes.substr(kReplyHeaderSize, length));
  for (char& c : reply.reason) {
    if (!absl::ascii_isprint(c)) c = '?';
  }
  return reply;
}

}  // namespace argosy::hatch
