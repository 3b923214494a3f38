// SPDX-License-Identifier: Apache-2.0
#include "hatch/transfer_format.h"

#include <cerrno>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "transport/error.h"

namespace argosy::hatch {
namespace {

absl::Span<const uint8_t> Bytes(const std::string& s) {
  return {reinterpret_cast<const uint8_t*>(s.data()), s.size()};
}

std::string Chunk(const std::string& data) {
  uint8_t header[kChunkHeaderSize];
  EncodeChunkHeader(data.size(), header);
  return std::string(header, header + sizeof header) + data;
}

std::string Trailer(const std::string& file) {
  Sha256 sha;
  sha.Update(Bytes(file));
  return EncodeTrailer(file.size(), sha.Finish());
}

struct Decoded {
  absl::Status status;
  std::string file;
  bool complete = false;
};

Decoded Decode(const std::string& stream, size_t piece = SIZE_MAX) {
  TransferDecoder decoder;
  Decoded out;
  for (size_t at = 0; at < stream.size() && out.status.ok(); at += std::min(piece, stream.size())) {
    const std::string part = stream.substr(at, piece);
    out.status = decoder.Feed(Bytes(part), [&](absl::Span<const uint8_t> data) {
      out.file.append(data.begin(), data.end());
      return absl::OkStatus();
    });
  }
  out.complete = decoder.complete();
  return out;
}

TEST(TransferDecoder, GivesTheFileInWhateverPieces) {
  const std::string stream =
      EncodeHeader(11) + Chunk("hello ") + Chunk("world") + Trailer("hello world");
  for (size_t piece : {size_t{1}, size_t{3}, size_t{7}, stream.size()}) {
    const Decoded d = Decode(stream, piece);
    ASSERT_TRUE(d.status.ok()) << d.status;
    EXPECT_TRUE(d.complete);
    EXPECT_EQ(d.file, "hello world");
  }
}

TEST(TransferDecoder, TakesAnEmptyFileAndAnUnknownSize) {
  EXPECT_TRUE(Decode(EncodeHeader(0) + Trailer("")).complete);
  EXPECT_TRUE(Decode(EncodeHeader(kSizeUnknown) + Chunk("x") + Trailer("x")).complete);
}

TEST(TransferDecoder, IsNeverCompleteWhenCut) {
  const std::string stream = EncodeHeader(5) + Chunk("hello") + Trailer("hello");
  for (size_t length = 0; length < stream.size(); ++length) {
    const Decoded d = Decode(stream.substr(0, length));
    EXPECT_TRUE(d.status.ok()) << length;
    EXPECT_FALSE(d.complete) << length;
  }
}

TEST(TransferDecoder, IsNeverCompleteWhenAltered) {
  const std::string stream = EncodeHeader(5) + Chunk("hello") + Trailer("hello");
  for (size_t at = 0; at < stream.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string altered = stream;
      altered[at] ^= 1 << bit;
      EXPECT_FALSE(Decode(altered).complete) << "byte " << at << " bit " << bit;
    }
  }
}

TEST(TransferDecoder, RefusesWhatIsNoTransfer) {
  EXPECT_EQ(ErrnoOf(Decode("GET / HTTP/1.1\r\nHost: somewhere\r\n").status), EPROTO);
}

TEST(TransferDecoder, RefusesMoreThanAnnounced) {
  EXPECT_EQ(ErrnoOf(Decode(EncodeHeader(3) + Chunk("four")).status), EPROTO);
}

TEST(TransferDecoder, RefusesLessThanAnnounced) {
  EXPECT_EQ(ErrnoOf(Decode(EncodeHeader(5) + Chunk("four") + Trailer("four")).status), EPROTO);
}

TEST(TransferDecoder, RefusesAHugeChunk) {
  uint8_t header[kChunkHeaderSize];
  EncodeChunkHeader(kMaxChunk + 1, header);
  EXPECT_EQ(ErrnoOf(Decode(EncodeHeader(kSizeUnknown) + std::string(header, header + 4)).status),
            EPROTO);
}

TEST(TransferDecoder, RefusesBytesBehindTheEnd) {
  EXPECT_EQ(ErrnoOf(Decode(EncodeHeader(0) + Trailer("") + "x").status), EPROTO);
}

TEST(TransferDecoder, PassesOnTheErrorOfTheWriter) {
  TransferDecoder decoder;
  const absl::Status s =
      decoder.Feed(Bytes(EncodeHeader(1) + Chunk("x")),
                   [](absl::Span<const uint8_t>) { return SystemError(ENOSPC, "cannot write"); });
  EXPECT_EQ(ErrnoOf(s), ENOSPC);
}

TEST(Reply, RoundTripAndPieces) {
  const std::string bytes = EncodeReply({7, "disk full"});
  for (size_t n = 0; n < bytes.size(); ++n) {
    const auto part = ParseReply(bytes.substr(0, n));
    ASSERT_TRUE(part.ok());
    EXPECT_FALSE(part->has_value()) << n;
  }
  const auto reply = ParseReply(bytes);
  ASSERT_TRUE(reply.ok() && reply->has_value());
  EXPECT_EQ((*reply)->code, 7u);
  EXPECT_EQ((*reply)->reason, "disk full");
}

TEST(Reply, CutsALongReasonAndHidesControlCharacters) {
  const auto reply = ParseReply(EncodeReply({1, "\x1b[2J" + std::string(1000, 'x')}));
  ASSERT_TRUE(reply.ok() && reply->has_value());
  EXPECT_EQ((*reply)->reason.size(), kMaxReason);
  EXPECT_EQ((*reply)->reason.substr(0, 5), "?[2Jx");
}

TEST(Reply, RefusesOtherBytes) {
  EXPECT_EQ(ErrnoOf(ParseReply("SSH-2.0").status()), EPROTO);
  EXPECT_EQ(ErrnoOf(ParseReply("S").status()), EPROTO);
  std::string huge = EncodeReply({0, ""});
  huge[10] = 1;  // a reason of 65536 bytes
  EXPECT_EQ(ErrnoOf(ParseReply(huge).status()), EPROTO);
}

}  // namespace
}  // namespace argosy::hatch
