// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
// A message through the ring (insert, peek, copy out, release) against plain memcpy that walks
// buffers of the same size. Each byte goes through the ring twice, so 0.5 of memcpy's bandwidth is
// the most there is.
//
// The last benchmarks print the two promises as counters: bandwidth_ratio of 64 KiB messages (at
// least 0.45), and cost_ratio of 64-byte messages against two 64-byte copies (at most 12).
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <vector>

#include "backends/argo/core/ring.h"
#include "benchmark/benchmark.h"

namespace {

constexpr uint32_t kRing = 256 * 1024;

// The ring and, apart from it, where messages come from and go to: as large as the ring and walked
// like it.
struct Bed {
  Bed() : ring((ARGO_RING_HEADER_SIZE + kRing) / 8), from(kRing, 1), to(kRing, 2) {
    argo_ring_reader_init(&reader, ring.data(), kRing);
    argo_ring_writer_init(&writer, ring.data(), kRing);
  }

  void Step(uint32_t size) {
    at += size;
    if (at + size > kRing) at = 0;
  }

  bool Message(uint32_t size) {
    const argo_iov iov = {.base = reinterpret_cast<uintptr_t>(&from[at]), .len = size, .pad = 0};
    argo_ring_message message;
    if (argo_ring_writer_insert(&writer, {1, 2, 0}, 3, &iov, 1, size) != 0) return false;
    if (argo_ring_peek(&reader, &message) != 1) return false;
    std::memcpy(&to[at], message.seg[0].data, message.seg[0].len);
    std::memcpy(&to[at] + message.seg[0].len, message.seg[1].data, message.seg[1].len);
    argo_ring_release(&reader, &message);
    Step(size);
    return true;
  }

  void Copy(uint32_t size) {
    std::memcpy(&to[at], &from[at], size);
    benchmark::ClobberMemory();
    Step(size);
  }

  std::vector<uint64_t> ring;
  std::vector<uint8_t> from, to;
  argo_ring_reader reader;
  argo_ring_writer writer;
  uint32_t at = 0;
};

void BM_Ring(benchmark::State& state) {
  Bed bed;
  const uint32_t size = state.range(0);
  for (auto _ : state) {
    if (!bed.Message(size)) return state.SkipWithError("the ring refused a message");
  }
  state.SetBytesProcessed(state.iterations() * size);
}
BENCHMARK(BM_Ring)->Arg(64)->Arg(4096)->Arg(65536);

void BM_Memcpy(benchmark::State& state) {
  Bed bed;
  const uint32_t size = state.range(0);
  for (auto _ : state) bed.Copy(size);
  state.SetBytesProcessed(state.iterations() * size);
}
BENCHMARK(BM_Memcpy)->Arg(64)->Arg(4096)->Arg(65536);

// Both in turns, so that a change of the machine's speed meets both.
void BM_RingAgainstMemcpy(benchmark::State& state) {
  using Clock = std::chrono::steady_clock;
  Bed ring_bed, copy_bed;
  const uint32_t size = state.range(0);
  const int batch = std::max<int>(1, 4 * kRing / size);
  double ring_seconds = 0, copy_seconds = 0;
  for (auto _ : state) {
    const auto begin = Clock::now();
    for (int i = 0; i < batch; ++i) {
      if (!ring_bed.Message(size)) return state.SkipWithError("the ring refused a message");
    }
    const auto middle = Clock::now();
    for (int i = 0; i < batch; ++i) copy_bed.Copy(size);
    const auto end = Clock::now();
    ring_seconds += std::chrono::duration<double>(middle - begin).count();
    copy_seconds += std::chrono::duration<double>(end - middle).count();
  }
  state.counters["bandwidth_ratio"] = copy_seconds / ring_seconds;
  state.counters["cost_ratio"] = ring_seconds / (2 * copy_seconds);
}
BENCHMARK(BM_RingAgainstMemcpy)->Arg(64)->Arg(65536);

}  // namespace

BENCHMARK_MAIN();
