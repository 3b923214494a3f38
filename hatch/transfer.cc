// SPDX-License-Identifier: Apache-2.0
#include "hatch/transfer.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "hatch/partial_file.h"
#include "hatch/progress.h"
#include "hatch/socket_io.h"
#include "hatch/stdio.h"
#include "hatch/transfer_format.h"
#include "hatch/wait.h"
#include "transport/error.h"

namespace argosy::hatch {
namespace {

constexpr size_t kBlock = 256 * 1024;
// How long a receiver that gave up lets the sender go on until it has seen why.
constexpr absl::Duration kFarewell = absl::Seconds(10);

absl::Span<const uint8_t> AsBytes(absl::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

void SayDigest(const Session& session, const Sha256::Digest& digest, uint64_t total) {
  if (session.options.verbose || isatty(STDERR_FILENO)) {
    Say(absl::StrCat("sha256 ", ToHex(digest), ", ", total, " bytes"));
  }
}

class Sender {
 public:
  Sender(const Session& session, UniqueFd file, uint64_t size, Socket socket)
      : session_(session), file_(std::move(file)), size_(size), socket_(std::move(socket)) {}

  absl::Status Run();

 private:
  int input() const { return file_.valid() ? file_.get() : STDIN_FILENO; }
  absl::Time Deadline() const { return DeadlineIn(session_.options.wait); }

  absl::Status SendFile();
  // Sends; a reply that comes before everything was sent ends it as an error.
  absl::Status Send(absl::Span<const uint8_t> bytes);
  // Waits for input and for an early reply.
  absl::StatusOr<size_t> ReadFile(absl::Span<uint8_t> buffer);
  // The receiver's verdict.
  absl::Status ReadReply();

  const Session& session_;
  UniqueFd file_;
  const uint64_t size_;
  Socket socket_;
  Sha256 sha_;
  uint64_t total_ = 0;
};

absl::Status Sender::ReadReply() {
  std::string bytes;
  for (;;) {
    absl::StatusOr<std::optional<Reply>> reply = ParseReply(bytes);
    if (!reply.ok()) return reply.status();
    if (reply->has_value()) {
      if ((*reply)->code == 0) return absl::OkStatus();
      return ErrnoError(EREMOTEIO, absl::StrCat("the receiver gave up: ", (*reply)->reason));
    }
    uint8_t buffer[kReplyHeaderSize + kMaxReason];
    absl::StatusOr<size_t> n = ReceiveSome(socket_.fd(), absl::MakeSpan(buffer), Deadline());
    if (!n.ok() && ErrnoOf(n.status()) == EINTR) return n.status();
    if (!n.ok() && ErrnoOf(n.status()) == ETIMEDOUT) {
      return ErrnoError(ETIMEDOUT, "the receiver does not answer within the time of -w");
    }
    if (!n.ok() || *n == 0) {
      return session_.WithReason(
          socket_, ErrnoError(ECONNRESET, "the receiver went away before it confirmed the file"));
    }
    bytes.append(reinterpret_cast<const char*>(buffer), *n);
  }
}

absl::Status Sender::Send(absl::Span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = send(socket_.fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n >= 0) {
      bytes.remove_prefix(n);
      continue;
    }
    bool answered = errno != EAGAIN && errno != EINTR;  // a broken connection may hold a reply, too
    if (!answered) {
      pollfd ready = {socket_.fd(), POLLIN | POLLOUT, 0};
      absl::Status s = PollOrStop({&ready, 1}, Deadline());
      if (ErrnoOf(s) == ETIMEDOUT) {
        return ErrnoError(ETIMEDOUT, "the receiver takes nothing within the time of -w");
      }
      if (!s.ok()) return s;
      answered = (ready.revents & ~POLLOUT) != 0;
    }
    if (!answered) continue;
    absl::Status verdict = ReadReply();
    return verdict.ok() ? ErrnoError(EPROTO, "the receiver confirmed the file before it was sent")
                        : verdict;
  }
  return absl::OkStatus();
}

absl::StatusOr<size_t> Sender::ReadFile(absl::Span<uint8_t> buffer) {
  for (;;) {
    pollfd ready[2] = {{input(), POLLIN, 0}, {socket_.fd(), POLLIN, 0}};
    if (absl::Status s = PollOrStop(ready, absl::InfiniteFuture()); !s.ok()) return s;
    if (ready[1].revents != 0) {
      absl::Status verdict = ReadReply();
      return verdict.ok() ? ErrnoError(EPROTO, "the receiver confirmed the file before it was sent")
                          : verdict;
    }
    const ssize_t n = read(input(), buffer.data(), buffer.size());
    if (n >= 0) return n;
    if (errno != EINTR && errno != EAGAIN) {
      return SystemError(errno, absl::StrCat("cannot read ", session_.options.file));
    }
  }
}

absl::Status Sender::SendFile() {
  if (absl::Status s = SetNonBlocking(socket_.fd()); !s.ok()) return s;
  if (absl::Status s = Send(AsBytes(EncodeHeader(size_))); !s.ok()) return s;
  Progress progress;
  std::vector<uint8_t> block(kChunkHeaderSize + kBlock);
  for (;;) {
    absl::StatusOr<size_t> n = ReadFile(absl::MakeSpan(block).subspan(kChunkHeaderSize));
    if (!n.ok()) return n.status();
    if (*n == 0) break;
    sha_.Update(absl::MakeConstSpan(block).subspan(kChunkHeaderSize, *n));
    total_ += *n;
    if (total_ > size_) break;
    EncodeChunkHeader(*n, block.data());
    if (absl::Status s = Send(absl::MakeConstSpan(block).first(kChunkHeaderSize + *n)); !s.ok())
      return s;
    progress.Update(total_, size_ == kSizeUnknown ? std::nullopt : std::make_optional(size_));
  }
  if (size_ != kSizeUnknown && total_ != size_) {
    return ErrnoError(EIO, absl::StrCat(session_.options.file, " changed while it was sent"));
  }
  const Sha256::Digest digest = sha_.Finish();
  if (absl::Status s = Send(AsBytes(EncodeTrailer(total_, digest))); !s.ok()) return s;
  if (absl::Status s = ReadReply(); !s.ok()) return s;
  SayDigest(session_, digest, total_);
  return absl::OkStatus();
}

absl::Status Sender::Run() {
  const absl::Status status = SendFile();
  return WithPeer(status, socket_.peer());
}

// Standard output or a PartialFile.
class Destination {
 public:
  absl::Status Open(const Options& options) {
    if (options.file == "-") return absl::OkStatus();
    absl::StatusOr<PartialFile> file = PartialFile::Create(options.file, options.overwrite);
    if (!file.ok()) return ConfigurationError(file.status().message());
    file_.emplace(*std::move(file));
    return absl::OkStatus();
  }
  absl::Status Write(absl::Span<const uint8_t> bytes) {
    return file_.has_value() ? file_->Write(bytes) : output_.WriteAll(bytes);
  }
  absl::Status Commit() {
    if (file_.has_value()) return file_->Commit();
    // Pipes and terminals have nothing to sync.
    if (fsync(STDOUT_FILENO) == 0 || errno == EINVAL || errno == EROFS) return absl::OkStatus();
    return SystemError(errno, "cannot write to standard output");
  }

 private:
  std::optional<PartialFile> file_;
  StandardOutput output_;
};

absl::Status ReceiveFile(const Session& session, Socket& socket, Destination& destination) {
  if (absl::Status s = SetNonBlocking(socket.fd()); !s.ok()) return s;
  TransferDecoder decoder;
  Progress progress;
  std::vector<uint8_t> block(kBlock);
  while (!decoder.complete()) {
    absl::StatusOr<size_t> n =
        ReceiveSome(socket.fd(), absl::MakeSpan(block), DeadlineIn(session.options.wait));
    if (ErrnoOf(n.status()) == ETIMEDOUT) {
      return ErrnoError(ETIMEDOUT, "the sender is silent for longer than -w allows");
    }
    if (ErrnoOf(n.status()) == EINTR) return n.status();
    if (!n.ok() || *n == 0) {
      const std::string of =
          decoder.size() == kSizeUnknown ? "" : absl::StrCat(" of ", decoder.size());
      return session.WithReason(
          socket,
          ErrnoError(ECONNRESET, absl::StrCat("the sender went away after ", decoder.total(), of,
                                              " bytes: the file is not whole")));
    }
    absl::Status s =
        decoder.Feed(absl::MakeConstSpan(block).first(*n),
                     [&](absl::Span<const uint8_t> bytes) { return destination.Write(bytes); });
    if (!s.ok()) return s;
    progress.Update(decoder.total(), decoder.size() == kSizeUnknown
                                         ? std::nullopt
                                         : std::make_optional(decoder.size()));
  }
  if (absl::Status s = destination.Commit(); !s.ok()) return s;
  SayDigest(session, decoder.digest(), decoder.total());
  return absl::OkStatus();
}

// The sender learns words about the transfer, but no local paths.
Reply ReplyFor(const absl::Status& status) {
  const int err = ErrnoOf(status);
  if (err == 0) return {};
  const bool ours = err == EPROTO || err == EINTR || err == ETIMEDOUT || err == ECONNRESET;
  return {1, ours ? std::string(status.message()) : strerror(err)};
}

// Tells the sender, and makes sure that it is not cut off before it has heard: bytes on their way
// are taken and dropped.
absl::Status SayFarewell(Socket& socket, const Reply& reply) {
  const absl::Time deadline = absl::Now() + kFarewell;
  const std::string text = EncodeReply(reply);
  // After a signal PollOrStop() waits for nothing, but there is room for the first bytes of this
  // direction.
  if (absl::Status s = SendAll(socket.fd(), AsBytes(text), deadline); !s.ok()) return s;
  if (shutdown(socket.fd(), SHUT_WR) != 0) return SystemError(errno, "shutdown");
  std::vector<uint8_t> dropped(kBlock);
  for (;;) {
    absl::StatusOr<size_t> n = ReceiveSome(socket.fd(), absl::MakeSpan(dropped), deadline);
    if (!n.ok()) return n.status();
    if (*n == 0) return absl::OkStatus();
    if (absl::Now() >= deadline) return ErrnoError(ETIMEDOUT, "the sender goes on");
  }
}

}  // namespace

absl::Status RunSend(const Session& session) {
  const std::string& name = session.options.file;
  UniqueFd file;
  if (name != "-") {
    file = UniqueFd(open(name.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
    if (!file.valid())
      return ConfigurationError(absl::StrCat("cannot open ", name, ": ", strerror(errno)));
  }
  const int fd = file.valid() ? file.get() : STDIN_FILENO;
  struct stat st;
  if (fstat(fd, &st) != 0) return SystemError(errno, absl::StrCat("cannot read ", name));
  if (S_ISDIR(st.st_mode)) {
    return ConfigurationError(
        absl::StrCat(name, " is a directory: pack it, 'tar c ", name, " | hatch send ...'"));
  }
  uint64_t size = kSizeUnknown;
  if (S_ISREG(st.st_mode)) {
    // Standard input may stand anywhere in its file.
    const off_t position = lseek(fd, 0, SEEK_CUR);
    if (position >= 0 && position <= st.st_size) size = st.st_size - position;
  }
  absl::StatusOr<Socket> socket = session.Connect(SocketType::kStream);
  if (!socket.ok()) return socket.status();
  return Sender(session, std::move(file), size, *std::move(socket)).Run();
}

absl::Status RunReceive(const Session& session) {
  Destination destination;
  if (absl::Status s = destination.Open(session.options); !s.ok()) return s;
  absl::StatusOr<std::unique_ptr<Listener>> listener = session.Listen(SocketType::kStream);
  if (!listener.ok()) return listener.status();
  absl::StatusOr<Socket> socket = session.Accept(**listener);
  if (!socket.ok()) return socket.status();
  listener->reset();
  const absl::Status status = ReceiveFile(session, *socket, destination);
  const absl::Status told = SayFarewell(*socket, ReplyFor(status));
  // The file is whole and stays, even if the sender could not be told.
  if (status.ok() && !told.ok())
    session.Note(absl::StrCat("the sender was not told: ", told.message()));
  return WithPeer(status, socket->peer());
}

}  // namespace argosy::hatch
