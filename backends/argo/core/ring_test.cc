// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
#include "backends/argo/core/ring.h"

#include <cstring>
#include <deque>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace {

// The pages of a ring, in memory of exactly their size so that asan sees a step beyond.
class RingMemory {
 public:
  explicit RingMemory(uint32_t len) : words_((ARGO_RING_HEADER_SIZE + len) / 8), len_(len) {}

  void* get() { return words_.data(); }
  argo_ring_header* header() { return static_cast<argo_ring_header*>(get()); }
  argo_message_header* message(uint32_t at) {
    return reinterpret_cast<argo_message_header*>(data() + at);
  }
  uint8_t* data() { return static_cast<uint8_t*>(get()) + ARGO_RING_HEADER_SIZE; }
  uint32_t len() const { return len_; }

 private:
  std::vector<uint64_t> words_;
  uint32_t len_;
};

struct Ring : RingMemory {
  explicit Ring(uint32_t len, uint32_t start = 0) : RingMemory(len) {
    header()->rx_ptr = header()->tx_ptr = start;
    EXPECT_EQ(argo_ring_reader_init(&reader, get(), len), 0);
    argo_ring_writer_init(&writer, get(), len);
  }

  int Insert(const std::vector<uint8_t>& payload, uint32_t type = 1) {
    const argo_iov iov = {.base = reinterpret_cast<uintptr_t>(payload.data()),
                          .len = static_cast<uint32_t>(payload.size()),
                          .pad = 0};
    return argo_ring_writer_insert(&writer, {.port = 77, .domid = 5, .pad = 0}, type, &iov, 1,
                                   iov.len);
  }

  int Peek() { return argo_ring_peek(&reader, &message_); }

  std::vector<uint8_t> Payload() const {
    std::vector<uint8_t> payload;
    for (const auto& seg : message_.seg)
      payload.insert(payload.end(), seg.data, seg.data + seg.len);
    return payload;
  }

  void Release() { argo_ring_release(&reader, &message_); }

  argo_ring_reader reader;
  argo_ring_writer writer;
  argo_ring_message message_;
};

std::vector<uint8_t> Bytes(size_t count, uint8_t first = 1) {
  std::vector<uint8_t> bytes(count);
  std::iota(bytes.begin(), bytes.end(), first);
  return bytes;
}

TEST(RingReader, RefusesImpossibleLengths) {
  RingMemory memory(256);
  argo_ring_reader reader;
  for (uint32_t len : {0u, 16u, 32u, 47u, 49u, 63u, ARGO_MAX_RING_SIZE + 16, 0xFFFFFFF0u}) {
    EXPECT_EQ(argo_ring_reader_init(&reader, memory.get(), len), -ARGO_EINVAL) << len;
  }
  EXPECT_EQ(argo_ring_reader_init(&reader, memory.get(), ARGO_MIN_RING_SIZE), 0);
}

TEST(RingReader, StartsAtASaneRxPtrOnly) {
  RingMemory memory(256);
  argo_ring_reader reader;
  memory.header()->rx_ptr = 240;
  ASSERT_EQ(argo_ring_reader_init(&reader, memory.get(), 256), 0);
  EXPECT_EQ(reader.rx_ptr, 240u);
  for (uint32_t bad : {1u, 8u, 241u, 256u, 0xFFFFFFF0u, 0xFFFFFFFFu}) {
    memory.header()->rx_ptr = bad;
    ASSERT_EQ(argo_ring_reader_init(&reader, memory.get(), 256), 0);
    EXPECT_EQ(reader.rx_ptr, 0u) << bad;
    EXPECT_EQ(memory.header()->rx_ptr, 0u) << bad;
  }
}

TEST(RingWriter, FollowsXensRuleForInitialPointers) {
  struct Case {
    uint32_t rx, tx, expected;
  };
  for (const Case& c : std::vector<Case>{
           {0, 0, 0},
           {0, 240, 240},
           {7, 32, 32},         // a sane tx_ptr is kept, whatever rx_ptr is
           {32, 33, 32},        // unaligned: rx_ptr
           {33, 33, 48},        // rounded up
           {240, 256, 240},     // out of range
           {241, 256, 0},       // rounds up to the end
           {0xFFFFFFFF, 8, 0},  // rounding wraps
           {512, 0xFFFFFFFF, 0},
       }) {
    RingMemory memory(256);
    argo_ring_writer writer;
    memory.header()->rx_ptr = c.rx;
    memory.header()->tx_ptr = c.tx;
    argo_ring_writer_init(&writer, memory.get(), 256);
    EXPECT_EQ(writer.tx_ptr, c.expected) << c.rx << " " << c.tx;
    EXPECT_EQ(memory.header()->tx_ptr, c.expected) << c.rx << " " << c.tx;
  }
}

TEST(Ring, WrapsAtEverySlotWithEveryShortPayload) {
  const uint32_t kLen = 112;
  for (uint32_t start = 0; start < kLen; start += ARGO_SLOT_SIZE) {
    for (uint32_t size = 0; size <= 33; ++size) {
      Ring ring(kLen, start);
      for (int round = 0; round < 3; ++round) {
        const std::vector<uint8_t> payload = Bytes(size, round * 40 + 1);
        ASSERT_EQ(ring.Peek(), 0);
        ASSERT_EQ(ring.Insert(payload, 1000 + round), 0);
        ASSERT_EQ(ring.Peek(), 1);
        EXPECT_EQ(ring.message_.len, size);
        EXPECT_EQ(ring.message_.type, 1000u + round);
        EXPECT_EQ(ring.message_.src.domid, 5);
        EXPECT_EQ(ring.message_.src.port, 77u);
        EXPECT_EQ(ring.message_.src.pad, 0);
        EXPECT_EQ(ring.Payload(), payload) << "at " << start << " size " << size;
        ring.Release();
        EXPECT_EQ(ring.header()->rx_ptr, ring.header()->tx_ptr);
      }
    }
  }
}

TEST(Ring, SpaceIsXensArithmetic) {
  const uint32_t kLen = 256;
  for (uint32_t rx = 0; rx < kLen; rx += 16) {
    for (uint32_t tx = 0; tx < kLen; tx += 16) {
      RingMemory memory(kLen);
      memory.header()->rx_ptr = rx;
      memory.header()->tx_ptr = tx;
      argo_ring_writer writer;
      argo_ring_writer_init(&writer, memory.get(), kLen);
      const uint32_t free = rx == tx ? kLen : (rx - tx) % kLen;
      const uint32_t space = free > 32 ? free - 32 : 0;
      ASSERT_EQ(argo_ring_writer_space(&writer), space) << rx << " " << tx;
      for (uint32_t len = 0; len <= kLen; ++len) {
        const int expected = 16 + argo_slots(len) >= kLen   ? -ARGO_EMSGSIZE
                             : 16 + argo_slots(len) >= free ? -ARGO_EAGAIN
                                                            : 0;
        ASSERT_EQ(argo_ring_writer_admits(&writer, len), expected) << rx << " " << tx << " " << len;
      }
    }
  }
}

TEST(Ring, OneSlotStaysFree) {
  Ring ring(256);
  EXPECT_EQ(argo_ring_writer_space(&ring.writer), 224u);
  EXPECT_EQ(ring.Insert(Bytes(225)), -ARGO_EMSGSIZE);
  EXPECT_EQ(ring.Insert(Bytes(224)), 0);
  EXPECT_EQ(argo_ring_writer_space(&ring.writer), 0u);
  EXPECT_EQ(ring.Insert({}), -ARGO_EAGAIN);
  ASSERT_EQ(ring.Peek(), 1);
  ring.Release();
  EXPECT_EQ(argo_ring_writer_space(&ring.writer), 224u);

  // The space is 0 with 32 bytes free and with 16: an empty message fits the first time only.
  ASSERT_EQ(ring.Insert(Bytes(208)), 0);
  EXPECT_EQ(argo_ring_writer_space(&ring.writer), 0u);
  EXPECT_EQ(argo_ring_writer_admits(&ring.writer, 0), 0);
  ASSERT_EQ(ring.Insert({}), 0);
  EXPECT_EQ(argo_ring_writer_admits(&ring.writer, 0), -ARGO_EAGAIN);
}

TEST(RingReader, CountsWhatXenCounts) {
  Ring ring(256);
  for (int round = 0; round < 20; ++round) {  // wraps several times
    EXPECT_EQ(argo_ring_used(&ring.reader), 0u);
    for (uint32_t messages = 1; messages <= 3; ++messages) {
      ASSERT_EQ(ring.Insert(Bytes(20)), 0);
      EXPECT_EQ(argo_ring_used(&ring.reader), messages * 48);
    }
    for (uint32_t left = 3; left > 0; --left) {
      ASSERT_EQ(ring.Peek(), 1);
      ring.Release();
      EXPECT_EQ(argo_ring_used(&ring.reader), (left - 1) * 48);
    }
  }
}

TEST(RingWriter, RefusesLengthsThatWouldWrapArithmetic) {
  Ring ring(256);
  for (uint32_t len : {0xFFFFFFFFu, 0xFFFFFFF1u, 0xFFFFFFF0u, 0xFFFFFFE0u, 0x1000000u}) {
    EXPECT_EQ(argo_ring_writer_admits(&ring.writer, len), -ARGO_EMSGSIZE) << len;
  }
}

TEST(RingWriter, IgnoresWhatTheOwnerWrites) {
  Ring ring(256);
  ASSERT_EQ(ring.Insert(Bytes(8)), 0);
  ring.header()->tx_ptr = 0x1234567;
  ASSERT_EQ(ring.Insert(Bytes(8)), 0);
  EXPECT_EQ(ring.header()->tx_ptr, 64u);
  for (uint32_t rx : {1u, 15u, 255u, 4096u, 0xFFFFFFFFu}) {
    ring.header()->rx_ptr = rx;
    EXPECT_LE(argo_ring_writer_space(&ring.writer), 224u) << rx;
  }
  ring.header()->rx_ptr = 0xFFFFFFFF;  // Xen takes that for 0
  EXPECT_EQ(argo_ring_writer_space(&ring.writer), 256u - 64 - 32);
}

TEST(RingWriter, JoinsPieces) {
  Ring ring(112);
  const std::vector<uint8_t> bytes = Bytes(50);
  const uint64_t base = reinterpret_cast<uintptr_t>(bytes.data());
  const argo_iov iov[] = {{base, 1, 0},      {base + 1, 0, 0},   {base + 1, 30, 0},
                          {base + 31, 3, 0}, {base + 34, 16, 0}, {base + 50, 0, 0}};
  for (int round = 0; round < 20; ++round) {
    ASSERT_EQ(argo_ring_writer_insert(&ring.writer, {1, 2, 0}, 3, iov, 6, 50), 0);
    ASSERT_EQ(ring.Peek(), 1);
    EXPECT_EQ(ring.Payload(), bytes);
    ring.Release();
  }
}

TEST(RingReader, SeesThroughACorruptTxPtr) {
  for (uint32_t bad : {1u, 8u, 17u, 255u, 256u, 272u, 0x80000000u, 0xFFFFFFF0u, 0xFFFFFFFFu}) {
    Ring ring(256);
    ASSERT_EQ(ring.Insert(Bytes(20)), 0);
    ring.header()->tx_ptr = bad;
    EXPECT_EQ(ring.Peek(), -ARGO_EPROTO) << bad;
    EXPECT_EQ(ring.reader.rx_ptr, 0u);
    // Xen's next message mends it, and nothing is lost.
    ASSERT_EQ(ring.Insert(Bytes(21)), 0);
    ASSERT_EQ(ring.Peek(), 1);
    EXPECT_EQ(ring.Payload(), Bytes(20));
    ring.Release();
    ASSERT_EQ(ring.Peek(), 1);
    EXPECT_EQ(ring.Payload(), Bytes(21));
  }
}

TEST(RingReader, RefusesImpossibleLengthsOfMessages) {
  for (uint32_t bad : {0u, 15u, 65u, 49u, 0x7FFFFFFFu, 0xFFFFFFF1u, 0xFFFFFFFFu}) {
    Ring ring(256);
    ASSERT_EQ(ring.Insert(Bytes(20)), 0);  // 16 + 20, rounded to 48
    ring.message(0)->len = bad;
    EXPECT_EQ(ring.Peek(), -ARGO_EPROTO) << bad;
    EXPECT_EQ(ring.header()->rx_ptr, 0u);
  }
  // Longer than was sent, but within the slots: only padding is seen.
  Ring ring(256);
  ASSERT_EQ(ring.Insert(Bytes(20)), 0);
  ring.message(0)->len = 48;
  EXPECT_EQ(ring.Peek(), 1);
  EXPECT_EQ(ring.message_.len, 32u);
}

// Xen believes it: it writes over what was not read, or finds no space for ever.
TEST(RingReader, NoticesThatItsOwnPointerWasOverwritten) {
  for (uint32_t bad : {16u, 64u, 0xDEADBEEFu}) {
    Ring ring(256);
    ring.header()->rx_ptr = bad;
    EXPECT_EQ(ring.Peek(), -ARGO_EPROTO) << "an empty ring";
    ring.header()->rx_ptr = 0;
    ASSERT_EQ(ring.Insert(Bytes(20)), 0);
    ring.header()->rx_ptr = bad;
    EXPECT_EQ(ring.Peek(), -ARGO_EPROTO);
  }
}

TEST(RingReader, NeverReadsItsOwnPointerBack) {
  Ring ring(256);
  ASSERT_EQ(ring.Insert(Bytes(20)), 0);
  ASSERT_EQ(ring.Insert(Bytes(21)), 0);
  ASSERT_EQ(ring.Peek(), 1);
  ring.header()->rx_ptr = 0xDEADBEEF;
  ring.Release();
  EXPECT_EQ(ring.header()->rx_ptr, 48u);
  ASSERT_EQ(ring.Peek(), 1);
  EXPECT_EQ(ring.Payload(), Bytes(21));
}

TEST(Ring, CarriesRandomTrafficInOrder) {
  std::mt19937 random(7);
  Ring ring(1024);
  std::deque<std::vector<uint8_t>> sent;
  int received = 0;
  while (received < 20000) {
    if (random() % 2 == 0) {
      std::vector<uint8_t> payload = Bytes(random() % 300, random());
      const bool fits = argo_slots(payload.size()) <= argo_ring_writer_space(&ring.writer);
      const int ret = ring.Insert(payload);
      if (!payload.empty()) {
        ASSERT_EQ(ret, fits ? 0 : -ARGO_EAGAIN);
      }
      if (ret == 0) sent.push_back(std::move(payload));
    } else if (ring.Peek() == 1) {
      ASSERT_FALSE(sent.empty());
      ASSERT_EQ(ring.Payload(), sent.front());
      sent.pop_front();
      ring.Release();
      ++received;
    } else {
      ASSERT_TRUE(sent.empty());
    }
  }
}

TEST(Ring, TwoThreadsNeedNoLock) {
  constexpr uint32_t kMessages = 20000;
  Ring ring(512);
  std::thread xen([&ring] {
    for (uint32_t i = 0; i < kMessages; ++i) {
      const std::vector<uint8_t> payload = Bytes(i % 100, i);
      while (ring.Insert(payload, i) == -ARGO_EAGAIN) std::this_thread::yield();
    }
  });
  for (uint32_t i = 0; i < kMessages; ++i) {
    int ret;
    while ((ret = ring.Peek()) == 0) std::this_thread::yield();
    if (ret != 1 || ring.message_.type != i || ring.Payload() != Bytes(i % 100, i)) {
      ADD_FAILURE() << "message " << i;
      break;
    }
    ring.Release();
  }
  // After a failure the writer would wait for ever.
  if (HasFailure()) std::abort();
  xen.join();
}

}  // namespace
