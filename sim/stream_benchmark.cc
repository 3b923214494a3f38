// SPDX-License-Identifier: Apache-2.0
// A stream between two domains of argosy-sim against what the machine can do at best, in one run: a
// plain relay of two AF_UNIX pairs with one copying thread between them (the same two hops without
// any protocol), and one AF_UNIX pair.
//
// The three take turns within each iteration, so that a busy machine slows all of them alike.
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "backends/open.h"
#include "benchmark/benchmark.h"
#include "sim/testing/daemon.h"
#include "transport/transport.h"

namespace argosy {
namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void Die(const absl::Status& status) {
  fprintf(stderr, "stream_benchmark: %s\n", std::string(status.message()).c_str());
  exit(1);
}

double Seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }

void WriteAll(int fd, const uint8_t* data, size_t size) {
  while (size > 0) {
    const ssize_t n = write(fd, data, size);
    if (n <= 0) abort();
    data += n;
    size -= n;
  }
}

void ReadAll(int fd, uint8_t* data, size_t size) {
  while (size > 0) {
    const ssize_t n = read(fd, data, size);
    if (n <= 0) abort();
    data += n;
    size -= n;
  }
}

// Two ends of a way that carries bytes in both directions.
class Way {
 public:
  virtual ~Way() = default;
  virtual int near() const = 0;
  virtual int far() const = 0;
};

class PairWay : public Way {
 public:
  PairWay() {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0) abort();
    near_.reset(fds[0]);
    far_.reset(fds[1]);
  }
  int near() const override { return near_.get(); }
  int far() const override { return far_.get(); }

 private:
  UniqueFd near_, far_;
};

// near - [thread] - far.  The thread copies what is there with 64 KiB reads; for one direction it
// simply blocks, for both it polls.
class RelayWay : public Way {
 public:
  explicit RelayWay(bool both) : thread_([this, both] { both ? CopyBoth() : CopyOne(); }) {}
  ~RelayWay() override {
    shutdown(a_.near(), SHUT_RDWR);
    shutdown(b_.far(), SHUT_RDWR);
    thread_.join();
  }
  int near() const override { return a_.near(); }
  int far() const override { return b_.far(); }

 private:
  void CopyOne() {
    while (Copy(a_.far(), b_.near())) {
    }
  }
  void CopyBoth() {
    pollfd fds[2] = {{a_.far(), POLLIN, 0}, {b_.near(), POLLIN, 0}};
    for (;;) {
      if (poll(fds, 2, -1) < 0) return;
      if (fds[0].revents != 0 && !Copy(a_.far(), b_.near())) return;
      if (fds[1].revents != 0 && !Copy(b_.near(), a_.far())) return;
    }
  }
  bool Copy(int from, int to) {
    const ssize_t n = read(from, buffer_.data(), buffer_.size());
    if (n <= 0) return false;
    for (ssize_t done = 0; done < n;) {
      const ssize_t m = send(to, buffer_.data() + done, n - done, MSG_NOSIGNAL);
      if (m <= 0) return false;
      done += m;
    }
    return true;
  }

  PairWay a_, b_;
  std::vector<uint8_t> buffer_ = std::vector<uint8_t>(65536);
  std::thread thread_;
};

class SimWay : public Way {
 public:
  SimWay() {
    auto daemon = sim::Daemon::Start({"--domains", "2"});
    if (!daemon.ok()) Die(daemon.status());
    daemon_ = *std::move(daemon);
    for (int i = 0; i < 2; ++i) {
      auto transport = OpenTransport(daemon_->Uri(i == 0 ? "dom0" : "dom1"));
      if (!transport.ok()) Die(transport.status());
      transports_[i] = *std::move(transport);
    }
    auto listener = transports_[0]->Listen(1234, SocketType::kStream, {});
    if (!listener.ok()) Die(listener.status());
    auto near = ConnectBlocking(*transports_[1], {kCidHost, 1234}, SocketType::kStream);
    if (!near.ok()) Die(near.status());
    auto far = AcceptBlocking(**listener);
    if (!far.ok()) Die(far.status());
    near_ = std::make_unique<Socket>(*std::move(near));
    far_ = std::make_unique<Socket>(*std::move(far));
  }
  int near() const override { return near_->fd(); }
  int far() const override { return far_->fd(); }

 private:
  std::unique_ptr<sim::Daemon> daemon_;
  std::unique_ptr<Transport> transports_[2];
  std::unique_ptr<Socket> near_, far_;
};

// Bytes per second of `total` bytes in writes of `size`.
double Throughput(const Way& way, size_t size, size_t total) {
  std::vector<uint8_t> out(size, 0x5A);
  const auto start = Clock::now();
  std::thread reader([&] {
    std::vector<uint8_t> in(65536);
    for (size_t got = 0; got < total;) {
      const ssize_t n = read(way.far(), in.data(), in.size());
      if (n <= 0) abort();
      got += n;
    }
  });
  for (size_t sent = 0; sent < total; sent += size) WriteAll(way.near(), out.data(), size);
  reader.join();
  return total / Seconds(Clock::now() - start);
}

// Adds the microseconds of `count` round trips of 64 bytes.
void RoundTrips(const Way& way, int count, std::vector<double>* us) {
  std::thread echo([&] {
    uint8_t bytes[64];
    for (int i = 0; i < count; ++i) {
      ReadAll(way.far(), bytes, sizeof(bytes));
      WriteAll(way.far(), bytes, sizeof(bytes));
    }
  });
  uint8_t bytes[64] = {};
  for (int i = 0; i < count; ++i) {
    const auto start = Clock::now();
    WriteAll(way.near(), bytes, sizeof(bytes));
    ReadAll(way.near(), bytes, sizeof(bytes));
    us->push_back(Seconds(Clock::now() - start) * 1e6);
  }
  echo.join();
}

double Percentile(std::vector<double>* values, double p) {
  std::sort(values->begin(), values->end());
  return (*values)[static_cast<size_t>(p * (values->size() - 1))];
}

void BM_Stream(benchmark::State& state) {
  const size_t size = state.range(0);
  // Enough for about 50 ms each; a multiple of the write size.
  const size_t total = size <= 64 ? (4u << 20) : (64u << 20);
  SimWay sim;
  RelayWay relay(/*both=*/false);
  PairWay pair;
  for (const Way* way :
       {static_cast<Way*>(&sim), static_cast<Way*>(&relay), static_cast<Way*>(&pair)}) {
    Throughput(*way, size, total);
  }
  std::vector<double> of_relay, of_pair, speed;
  for (auto _ : state) {
    const auto start = Clock::now();
    const double s = Throughput(sim, size, total);
    state.SetIterationTime(Seconds(Clock::now() - start));
    const double r = Throughput(relay, size, total);
    const double p = Throughput(pair, size, total);
    speed.push_back(s);
    of_relay.push_back(s / r);
    of_pair.push_back(s / p);
  }
  state.counters["MiB_per_s"] = Percentile(&speed, 0.5) / (1 << 20);
  state.counters["of_relay"] = Percentile(&of_relay, 0.5);
  state.counters["of_relay_min"] = of_relay.front();
  state.counters["of_pair"] = Percentile(&of_pair, 0.5);
}
BENCHMARK(BM_Stream)->Arg(64)->Arg(4096)->Arg(65536)->Iterations(15)->UseManualTime()->Unit(
    benchmark::kMillisecond);

void BM_RoundTrip(benchmark::State& state) {
  SimWay sim;
  RelayWay relay(/*both=*/true);
  PairWay pair;
  std::vector<double> s, r, p;
  for (auto _ : state) {
    const auto start = Clock::now();
    RoundTrips(sim, 2000, &s);
    state.SetIterationTime(Seconds(Clock::now() - start));
    RoundTrips(relay, 2000, &r);
    RoundTrips(pair, 2000, &p);
  }
  state.counters["p50_us"] = Percentile(&s, 0.5);
  state.counters["p99_us"] = Percentile(&s, 0.99);
  state.counters["relay_p50_us"] = Percentile(&r, 0.5);
  state.counters["relay_p99_us"] = Percentile(&r, 0.99);
  state.counters["pair_p50_us"] = Percentile(&p, 0.5);
  state.counters["times_relay_p50"] = Percentile(&s, 0.5) / Percentile(&r, 0.5);
}
BENCHMARK(BM_RoundTrip)->Iterations(10)->UseManualTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace argosy

BENCHMARK_MAIN();
