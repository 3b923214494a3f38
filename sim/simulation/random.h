// SPDX-License-Identifier: Apache-2.0
// File: sim/simulation/random.h
//
// The one source of chance of a simulation: the same numbers from the same seed with every library
// and compiler (the distributions of <random> differ between them).
#ifndef ARGOSY_SIM_SIMULATION_RANDOM_H_
#define ARGOSY_SIM_SIMULATION_RANDOM_H_

#include <array>
#include <cstddef>
#include <cstdint>

namespace argosy::sim {

// splitmix64.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t Next() {
    state_ += 0x9E3779B97F4A7C15u;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  // 0 to n - 1; n > 0.
  uint32_t Below(uint32_t n) { return static_cast<uint32_t>((Next() >> 32) * n >> 32); }
  // first to last.
  uint32_t Between(uint32_t first, uint32_t last) { return first + Below(last - first + 1); }
  bool OneIn(uint32_t n) { return Below(n) == 0; }
  bool PerMille(uint32_t n) { return Below(1000) < n; }
  // 0 to 2^bits - 1, small ones more often: each length in bits is as likely as another.
  uint32_t Skewed(uint32_t bits) { return Below(uint32_t{1} << Below(bits + 1)); }
  template <typename T, size_t N>
  T Pick(const std::array<T, N>& from) {
    return from[Below(N)];
  }

 private:
  uint64_t state_;
};

}  // namespace argosy::sim

#endif  // ARGOSY_SIM_SIMULATION_RANDOM_H_
