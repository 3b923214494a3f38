// SPDX-License-Identifier: Apache-2.0
//
// A connection begins with a request of the client: 8 bytes "HATCHPF\n", u32 version (1), u32 mode,
// u32 bytes in each write, u32 zero, u64 milliseconds, u64 bytes (zero: by time); little endian.
// Then, by mode:
//   1 echo         the server sends back what comes
//   2 to server    the client sends and half-closes; the server answers with a u64, the bytes
//                  that came
//   3 from server  the server sends and half-closes
#include "hatch/perf.h"

#include <sys/socket.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "hatch/endian.h"
#include "hatch/progress.h"
#include "hatch/socket_io.h"
#include "hatch/wait.h"
#include "transport/error.h"

namespace argosy::hatch {
namespace {

constexpr char kMagic[] = "HATCHPF\n";
constexpr uint32_t kVersion = 1;
constexpr size_t kRequestSize = 40;
constexpr size_t kResultSize = 8;
constexpr uint32_t kLargestBlock = 1 << 20;
constexpr uint64_t kLongest = 1'000'000'000;  // milliseconds
constexpr size_t kReadSize = 256 * 1024;
constexpr size_t kPingSize = 64;
// A peer that neither sends nor takes anything for so long has failed; the server must not wait for
// it for ever.
constexpr absl::Duration kPatience = absl::Seconds(30);

using Clock = std::chrono::steady_clock;

enum class Mode : uint32_t { kEcho = 1, kToServer = 2, kFromServer = 3 };

struct Request {
  Mode mode = Mode::kEcho;
  uint32_t block = 0;
  uint64_t milliseconds = 0;
  uint64_t bytes = 0;
};

// A step of some milliseconds is enough to stop by, and these clocks are read in memory.  The exact
// ones read the time stamp counter, or call the kernel: where Xen emulates that counter for a guest
// it costs as much as a small write.
timespec Coarse(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return now;
}

absl::Time Patience() { return absl::TimeFromTimespec(Coarse(CLOCK_REALTIME_COARSE)) + kPatience; }

absl::Duration Uptime() { return absl::DurationFromTimespec(Coarse(CLOCK_MONOTONIC_COARSE)); }

void EncodeRequest(const Request& request, uint8_t (&out)[kRequestSize]) {
  memcpy(out, kMagic, 8);
  StoreLittle(out + 8, kVersion);
  StoreLittle(out + 12, static_cast<uint32_t>(request.mode));
  StoreLittle(out + 16, request.block);
  StoreLittle(out + 20, uint32_t{0});
  StoreLittle(out + 24, request.milliseconds);
  StoreLittle(out + 32, request.bytes);
}

absl::StatusOr<Request> ParseRequest(const uint8_t (&in)[kRequestSize]) {
  if (memcmp(in, kMagic, 8) != 0 || LoadLittle<uint32_t>(in + 8) != kVersion) {
    return ErrnoError(EPROTO, "not a client of this version of 'hatch perf'");
  }
  const auto mode = LoadLittle<uint32_t>(in + 12);
  Request request{static_cast<Mode>(mode), LoadLittle<uint32_t>(in + 16),
                  LoadLittle<uint64_t>(in + 24), LoadLittle<uint64_t>(in + 32)};
  if (mode < 1 || mode > 3 || request.block < 1 || request.block > kLargestBlock ||
      request.milliseconds > kLongest) {
    return ErrnoError(EPROTO, "a request that makes no sense");
  }
  return request;
}

// Sends as much as `request` says and half-closes.  How much that was.
absl::StatusOr<uint64_t> Produce(int fd, const Request& request) {
  const std::vector<uint8_t> block(request.block, 0x5a);
  const absl::Duration end = Uptime() + absl::Milliseconds(request.milliseconds);
  uint64_t sent = 0;
  while (request.bytes > 0 ? sent < request.bytes : Uptime() < end) {
    const size_t n =
        request.bytes > 0 ? std::min<uint64_t>(block.size(), request.bytes - sent) : block.size();
    if (absl::Status s = SendAll(fd, absl::MakeConstSpan(block).first(n), Patience()); !s.ok())
      return s;
    sent += n;
  }
  if (shutdown(fd, SHUT_WR) != 0) return SystemError(errno, "shutdown");
  return sent;
}

// Reads to end-of-file.  How much came.
absl::StatusOr<uint64_t> Consume(int fd) {
  std::vector<uint8_t> buffer(kReadSize);
  uint64_t total = 0;
  for (;;) {
    absl::StatusOr<size_t> n = ReceiveSome(fd, absl::MakeSpan(buffer), Patience());
    if (!n.ok()) return n.status();
    if (*n == 0) return total;
    total += *n;
  }
}

absl::Status EchoBack(int fd) {
  std::vector<uint8_t> buffer(kReadSize);
  for (;;) {
    absl::StatusOr<size_t> n = ReceiveSome(fd, absl::MakeSpan(buffer), Patience());
    if (!n.ok() || *n == 0) return n.status();
    if (absl::Status s = SendAll(fd, absl::MakeConstSpan(buffer).first(*n), Patience()); !s.ok())
      return s;
  }
}

absl::Status Answer(int fd) {
  if (absl::Status s = SetNonBlocking(fd); !s.ok()) return s;
  uint8_t bytes[kRequestSize];
  if (absl::Status s = ReceiveAll(fd, absl::MakeSpan(bytes), Patience()); !s.ok()) return s;
  absl::StatusOr<Request> request = ParseRequest(bytes);
  if (!request.ok()) return request.status();
  switch (request->mode) {
    case Mode::kEcho:
      return EchoBack(fd);
    case Mode::kToServer: {
      absl::StatusOr<uint64_t> total = Consume(fd);
      if (!total.ok()) return total.status();
      uint8_t result[kResultSize];
      StoreLittle(result, *total);
      if (absl::Status s = SendAll(fd, result, Patience()); !s.ok()) return s;
      break;
    }
    case Mode::kFromServer:
      if (absl::StatusOr<uint64_t> sent = Produce(fd, *request); !sent.ok()) return sent.status();
      break;
  }
  // The client closes when it has everything.
  return Consume(fd).status();
}

absl::Status ServeOne(const Session& session, Socket& socket) {
  const absl::Status status = Answer(socket.fd());
  return status.ok() ? session.Finish(socket, Patience()) : session.Failed(socket, status);
}

absl::StatusOr<Socket> Begin(const Session& session, const Request& request) {
  absl::StatusOr<Socket> socket = session.Connect(SocketType::kStream);
  if (!socket.ok()) return socket;
  if (absl::Status s = SetNonBlocking(socket->fd()); !s.ok()) return s;
  uint8_t bytes[kRequestSize];
  EncodeRequest(request, bytes);
  if (absl::Status s = SendAll(socket->fd(), bytes, Patience()); !s.ok()) {
    return session.Failed(*socket, s);
  }
  return socket;
}

absl::Status MeasureLatency(const Session& session, PerfResult& result) {
  absl::StatusOr<Socket> socket = Begin(session, {Mode::kEcho, kPingSize, 0, 0});
  if (!socket.ok()) return socket.status();
  StreamCarrier carrier(socket->fd(), kPatience);
  absl::StatusOr<LatencySummary> latency =
      MeasureRoundTrips(carrier, session.options.count, kPingSize, kPatience);
  if (!latency.ok()) return session.Failed(*socket, latency.status());
  if (Stopped()) return StoppedError();
  result.ping_size = kPingSize;
  result.latency = *latency;
  return absl::OkStatus();
}

absl::Status Carry(int fd, const Request& request, PerfResult& result) {
  const Clock::time_point start = Clock::now();
  uint64_t wanted = request.bytes;
  if (request.mode == Mode::kFromServer) {
    absl::StatusOr<uint64_t> came = Consume(fd);
    if (!came.ok()) return came.status();
    result.bytes = *came;
  } else {
    absl::StatusOr<uint64_t> sent = Produce(fd, request);
    if (!sent.ok()) return sent.status();
    wanted = *sent;
    // The clock runs until the server has it all: what lies in buffers has not been carried yet.
    uint8_t answer[kResultSize];
    if (absl::Status s = ReceiveAll(fd, absl::MakeSpan(answer), Patience()); !s.ok()) return s;
    result.bytes = LoadLittle<uint64_t>(answer);
  }
  result.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  if (wanted != 0 && wanted != result.bytes) {
    return ErrnoError(ECONNRESET, absl::StrCat(result.bytes, " of ", wanted, " bytes arrived"));
  }
  return absl::OkStatus();
}

absl::Status MeasureThroughput(const Session& session, PerfResult& result) {
  const Options& options = session.options;
  const Request request{
      options.reverse ? Mode::kFromServer : Mode::kToServer, static_cast<uint32_t>(options.size),
      static_cast<uint64_t>(absl::ToInt64Milliseconds(options.duration)), options.bytes};
  absl::StatusOr<Socket> socket = Begin(session, request);
  if (!socket.ok()) return socket.status();
  result.peer = socket->peer();
  const absl::Status status = Carry(socket->fd(), request, result);
  // What came by time has no length to compare: a server that died looks like one that is done.
  return status.ok() ? session.Finish(*socket, Patience()) : session.Failed(*socket, status);
}

std::string JsonString(absl::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      absl::StrAppend(&out, "\\", absl::string_view(&c, 1));
    } else if (static_cast<unsigned char>(c) < 0x20) {
      absl::StrAppendFormat(&out, "\\u%04x", c);
    } else {
      out.push_back(c);
    }
  }
  return out + "\"";
}

double Gigabits(const PerfResult& r) { return r.seconds > 0 ? r.bytes * 8 / r.seconds / 1e9 : 0; }

}  // namespace

std::string FormatText(const PerfResult& r) {
  std::string text = absl::StrFormat("%s %s in %.2f s, %.2f Gbit/s in writes of %d bytes\n",
                                     r.reverse ? "received" : "sent", FormatBytes(r.bytes),
                                     r.seconds, Gigabits(r), r.block);
  if (r.latency.sent > 0) {
    absl::StrAppendFormat(
        &text,
        "round trip of %d bytes: min %.1f us  p50 %.1f us  p90 %.1f us  p99 %.1f us  max %.1f us\n",
        r.ping_size, r.latency.min, r.latency.p50, r.latency.p90, r.latency.p99, r.latency.max);
  }
  return text;
}

std::string FormatJson(const PerfResult& r) {
  return absl::StrFormat(
      R"({"transport":%s,"peer":{"cid":%d,"port":%d},"direction":"%s","bytes":%d,"seconds":%.6f,)"
      R"("gbit_per_second":%.4f,"write_size":%d,"round_trip_us":{"count":%d,"lost":%d,"size":%d,)"
      R"("min":%.2f,"p50":%.2f,"p90":%.2f,"p99":%.2f,"max":%.2f}})"
      "\n",
      JsonString(r.transport), r.peer.cid, r.peer.port, r.reverse ? "receive" : "send", r.bytes,
      r.seconds, Gigabits(r), r.block, r.latency.sent, r.latency.lost, r.ping_size, r.latency.min,
      r.latency.p50, r.latency.p90, r.latency.p99, r.latency.max);
}

absl::Status RunPerf(const Session& session) {
  PerfResult result;
  result.transport = session.transport.uri();
  result.reverse = session.options.reverse;
  result.block = session.options.size;
  if (session.options.count > 0) {
    if (absl::Status s = MeasureLatency(session, result); !s.ok()) return s;
  }
  if (absl::Status s = MeasureThroughput(session, result); !s.ok()) return s;
  const std::string text = session.options.json ? FormatJson(result) : FormatText(result);
  if (fputs(text.c_str(), stdout) < 0 || fflush(stdout) != 0) {
    return SystemError(errno, "cannot write to standard output");
  }
  return absl::OkStatus();
}

absl::Status RunPerfServer(const Session& session) {
  absl::StatusOr<std::unique_ptr<Listener>> listener = session.Listen(SocketType::kStream);
  if (!listener.ok()) return listener.status();
  for (;;) {
    absl::StatusOr<Socket> socket = session.Accept(**listener);
    if (!socket.ok()) return socket.status();
    const absl::Status s = ServeOne(session, *socket);
    if (Stopped()) return StoppedError();
    if (!s.ok()) session.Note(s.message());
  }
}

}  // namespace argosy::hatch
