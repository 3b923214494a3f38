// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
// A hostile page: the input is scribbled over a ring, and over it again between two reads.  The
// reader must stay inside the ring and must end.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "backends/argo/core/ring.h"

namespace {

void Check(bool condition) {
  if (!condition) std::abort();
}

// Takes the input apart; zeroes once it is used up.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  template <typename T>
  T Take() {
    T value = 0;
    TakeBytes(reinterpret_cast<uint8_t*>(&value), sizeof(value));
    return value;
  }
  void TakeBytes(uint8_t* to, size_t count) {
    if (count > size_) count = size_;
    if (count == 0) return;
    std::memcpy(to, data_, count);
    data_ += count;
    size_ -= count;
  }
  bool empty() const { return size_ == 0; }

 private:
  const uint8_t* data_;
  size_t size_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  const uint32_t len = ARGO_MIN_RING_SIZE + ARGO_SLOT_SIZE * (input.Take<uint8_t>() % 32);
  // Of exactly this size, so that asan sees a step beyond.
  std::vector<uint64_t> words((ARGO_RING_HEADER_SIZE + len) / 8);
  auto* page = reinterpret_cast<uint8_t*>(words.data());
  auto* header = reinterpret_cast<argo_ring_header*>(page);
  header->rx_ptr = input.Take<uint32_t>();
  header->tx_ptr = input.Take<uint32_t>();

  argo_ring_reader reader;
  Check(argo_ring_reader_init(&reader, page, len) == 0);
  uint32_t sum = 0;
  while (!input.empty()) {
    const uint8_t action = input.Take<uint8_t>();
    if (action % 4 == 0) header->tx_ptr = input.Take<uint32_t>();
    if (action % 4 == 1) header->tx_ptr = input.Take<uint8_t>() * ARGO_SLOT_SIZE;
    if (action % 4 == 2) header->rx_ptr = input.Take<uint32_t>();
    if (action % 4 == 3) {
      const uint32_t at = input.Take<uint8_t>() * ARGO_SLOT_SIZE % len;
      input.TakeBytes(page + ARGO_RING_HEADER_SIZE + at, ARGO_SLOT_SIZE);
    }

    // A standing tx_ptr allows at most one message for each slot.
    for (uint32_t messages = 0;; ++messages) {
      argo_ring_message message;
      const int ret = argo_ring_peek(&reader, &message);
      if (ret == 0) break;
      if (ret < 0) {
        Check(ret == -ARGO_EPROTO);
        break;
      }
      Check(messages < len / ARGO_SLOT_SIZE);
      Check(message.seg[0].len + message.seg[1].len == message.len);
      Check(message.len <= len - ARGO_MESSAGE_HEADER_SIZE);
      for (const auto& seg : message.seg) {
        for (uint32_t i = 0; i < seg.len; ++i) sum += seg.data[i];
      }
      argo_ring_release(&reader, &message);
      Check(reader.rx_ptr < len && reader.rx_ptr % ARGO_SLOT_SIZE == 0);
      Check(header->rx_ptr == reader.rx_ptr);
    }
  }
  volatile uint32_t keep = sum;
  (void)keep;
  return 0;
}
