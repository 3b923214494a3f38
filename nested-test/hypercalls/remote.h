// SPDX-License-Identifier: Apache-2.0
// File: nested-test/hypercalls/remote.h
//
// A domain whose test program runs in another one.  Its agent has the real pages; the test has a
// copy of them at the same addresses, so that no pointer in an argument needs to be translated.
// Every request and every reply begins with the pages that changed since the last one.  What
// changes them is the test and the hypercalls that it issues, one at a time, so neither side can
// miss a change or overwrite one.
//
// The two ends are built from one tree and run on one machine: structures go as they are.
#ifndef ARGOSY_NESTED_TEST_HYPERCALLS_REMOTE_H_
#define ARGOSY_NESTED_TEST_HYPERCALLS_REMOTE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "nested-test/hypercalls/device.h"

namespace argosy::nested {

inline constexpr uint16_t kAgentPort = 7000;

enum class RemoteOp : uint32_t {
  kDomid,       // value: the domid
  kAllocate,    // address, count -> the gfns
  kArgoOp,      // call -> result
  kInterrupts,  // value: how many
  kSync,        // nothing but the pages
};

struct Request {
  RemoteOp op = RemoteOp::kSync;
  uint32_t pages = 0;  // changed pages behind this
  uint64_t address = 0;
  uint64_t count = 0;
  ArgoOpCall call = {};
};

struct Reply {
  int32_t result = 0;
  uint32_t pages = 0;  // changed pages behind this; behind them `count` gfns
  uint64_t value = 0;
  uint64_t count = 0;
};

// What the other side knows of some memory.
class SharedPages {
 public:
  static constexpr size_t kPageSize = 4096;

  // Fresh zeroed memory.
  void Add(uint64_t address, size_t count);
  // Appends the pages that have changed since the last call to `out`, and returns how many.
  uint32_t TakeChanges(std::string* out);
  // Reads `count` pages from `fd` and puts them in place.
  absl::Status Apply(int fd, uint32_t count);

 private:
  struct Area {
    uint64_t address;
    std::vector<uint8_t> known;
  };
  Area* Find(uint64_t address);

  std::vector<Area> areas_;
};

// All of it, or an error; the peer's orderly end is one too (ECONNRESET).
absl::Status ReadAll(int fd, void* to, size_t size);
absl::Status WriteAll(int fd, const void* from, size_t size);

}  // namespace argosy::nested

#endif  // ARGOSY_NESTED_TEST_HYPERCALLS_REMOTE_H_
