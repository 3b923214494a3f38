// SPDX-License-Identifier: Apache-2.0
// File: hatch/transfer_format.h
//
// What `hatch send` and `hatch recv` say to each other over a stream.  All numbers are little
// endian.
//
//   sender:    header    8 bytes "HATCHFT\n", u32 version (1), u32 zero, u64 size of the file
//                        (all ones: unknown)
//              chunks    u32 length (1 to kMaxChunk), then that many bytes
//              end       u32 zero, u64 number of bytes in all chunks, 32 bytes SHA-256 of them
//   receiver:  reply     4 bytes "HFR\n", u32 code (0: the file is whole and on disk), u32 length
//                        of a reason (at most kMaxReason), then the reason
//
// The receiver replies after the end, or as soon as it gives up.  The sender closes after the
// reply.  No file name is sent: the receiver alone decides where the file goes.
#ifndef ARGOSY_HATCH_TRANSFER_FORMAT_H_
#define ARGOSY_HATCH_TRANSFER_FORMAT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "hatch/sha256.h"

namespace argosy::hatch {

inline constexpr size_t kHeaderSize = 24;
inline constexpr size_t kChunkHeaderSize = 4;
inline constexpr size_t kTrailerSize = kChunkHeaderSize + 8 + 32;
inline constexpr uint32_t kMaxChunk = 1 << 20;
inline constexpr size_t kReplyHeaderSize = 12;
inline constexpr uint32_t kMaxReason = 256;
inline constexpr uint64_t kSizeUnknown = ~uint64_t{0};

std::string EncodeHeader(uint64_t size);
void EncodeChunkHeader(uint32_t length, uint8_t header[kChunkHeaderSize]);
std::string EncodeTrailer(uint64_t total, const Sha256::Digest& digest);

// Takes the sender's bytes in whatever pieces they come, and is complete only if every byte was as
// the sender hashed it.
class TransferDecoder {
 public:
  using DataFn = absl::FunctionRef<absl::Status(absl::Span<const uint8_t>)>;

  // Consumes all of `bytes` and hands the file's bytes on.  Errors: EPROTO for what is no transfer
  // or an altered one, and whatever `data` returns; the decoder is then used up.
  absl::Status Feed(absl::Span<const uint8_t> bytes, DataFn data);

  bool complete() const { return state_ == State::kComplete; }
  uint64_t total() const { return total_; }  // bytes of the file so far
  uint64_t size() const { return size_; }    // as announced; kSizeUnknown, also before the header
  const Sha256::Digest& digest() const { return digest_; }  // when complete

 private:
  enum class State { kHeader, kChunkHeader, kChunk, kTrailer, kComplete };

  absl::Status OnField();

  State state_ = State::kHeader;
  uint8_t field_[kTrailerSize];  // the header field being collected
  size_t field_have_ = 0;
  size_t field_want_ = kHeaderSize;
  uint32_t chunk_left_ = 0;
  uint64_t size_ = kSizeUnknown;
  uint64_t total_ = 0;
  Sha256 sha_;
  Sha256::Digest digest_ = {};
};

struct Reply {
  uint32_t code = 0;
  std::string reason;
};

std::string EncodeReply(const Reply& reply);  // a reason that is too long is cut

// The reply at the start of `bytes`; nothing if more bytes are needed.  EPROTO if it is none.
// Characters that a terminal could take for commands are replaced.
absl::StatusOr<std::optional<Reply>> ParseReply(absl::string_view bytes);

}  // namespace argosy::hatch

#endif  // ARGOSY_HATCH_TRANSFER_FORMAT_H_
