// SPDX-License-Identifier: Apache-2.0
#include "hatch/ping.h"

#include <cerrno>
#include <cstdio>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "hatch/latency.h"
#include "hatch/wait.h"
#include "transport/error.h"

namespace argosy::hatch {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(1);

class DatagramCarrier : public PingCarrier {
 public:
  DatagramCarrier(DatagramSocket& socket, Address peer) : socket_(socket), peer_(peer) {}

  absl::Status Send(absl::Span<const uint8_t> frame) override {
    const absl::Status s = socket_.SendTo(frame, peer_);
    // A carrier that is full loses it, as it may.
    return ErrnoOf(s) == EAGAIN ? absl::OkStatus() : s;
  }

  absl::Status Receive(absl::Span<uint8_t> frame, absl::Time deadline) override {
    for (;;) {
      absl::StatusOr<DatagramSocket::Datagram> got = socket_.ReceiveFrom(frame);
      if (got.ok() && got->from == peer_ && got->size == frame.size()) return absl::OkStatus();
      if (got.ok()) continue;
      if (ErrnoOf(got.status()) != EAGAIN) return got.status();
      pollfd ready = {socket_.fd(), POLLIN, 0};
      if (absl::Status s = PollOrStop({&ready, 1}, deadline); !s.ok()) return s;
    }
  }

 private:
  DatagramSocket& socket_;
  const Address peer_;
};

}  // namespace

absl::Status RunPing(const Session& session) {
  const Options& options = session.options;
  const absl::Duration patience = options.wait == absl::ZeroDuration() ? kPatience : options.wait;
  absl::StatusOr<LatencySummary> result;
  std::string peer;
  if (options.datagram) {
    absl::StatusOr<Address> address = session.Peer();
    if (!address.ok()) return address.status();
    absl::StatusOr<std::unique_ptr<DatagramSocket>> socket = session.Bind(kPortAny);
    if (!socket.ok()) return socket.status();
    DatagramCarrier carrier(**socket, *address);
    peer = Describe(*address);
    result = MeasureRoundTrips(carrier, options.count, options.size, patience);
  } else {
    absl::StatusOr<Socket> socket = session.Connect(SocketType::kStream);
    if (!socket.ok()) return socket.status();
    if (absl::Status s = SetNonBlocking(socket->fd()); !s.ok()) return s;
    StreamCarrier carrier(socket->fd(), patience);
    peer = Describe(socket->peer());
    result = MeasureRoundTrips(carrier, options.count, options.size, patience);
    if (!result.ok()) return session.Failed(*socket, result.status());
  }
  if (!result.ok()) return Annotate(result.status(), peer);
  absl::PrintF("%d round trips of %d bytes to %s, %d lost\n", result->sent, options.size, peer,
               result->lost);
  if (result->sent > result->lost) {
    absl::PrintF("min %.1f us  p50 %.1f us  p99 %.1f us  max %.1f us\n", result->min, result->p50,
                 result->p99, result->max);
  }
  if (fflush(stdout) != 0) return SystemError(errno, "cannot write to standard output");
  if (Stopped()) return StoppedError();
  if (result->sent == result->lost) {
    return ErrnoError(ETIMEDOUT,
                      absl::StrCat(peer, " answers nothing: is 'hatch echo' running there?"));
  }
  return absl::OkStatus();
}

}  // namespace argosy::hatch
