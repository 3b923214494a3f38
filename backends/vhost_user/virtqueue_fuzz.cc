// SPDX-License-Identifier: Apache-2.0
// A driver that writes what it likes into its rings, against the device's side.  Whatever it does,
// the chains that come out lie in guest memory, and their lengths add up.
//
// An input is the queue's size, features and base, and then a row of steps: see Fuzz::Step().
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <vector>

#include "backends/vhost_user/memory_table.h"
#include "backends/vhost_user/testing/guest_memory.h"
#include "backends/vhost_user/virtqueue.h"

namespace argosy::vhost_user {
namespace {

// Rings and buffers; a region that adjoins; and one apart.
constexpr uint64_t kBegin = 0x10000;
constexpr uint64_t kBytes = 0x8000;
constexpr GuestMemory::Range kRanges[] = {
    {kBegin, kBytes}, {kBegin + kBytes, 0x1000}, {0x100000, 0x1000}};

void Check(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool empty() const { return size_ == 0; }
  uint8_t Byte() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }
  uint16_t Short() {
    const uint16_t low = Byte();
    return static_cast<uint16_t>(low | Byte() << 8);
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

// The same memory for all inputs, emptied for each.
struct World {
  World() : memory(*GuestMemory::Create({std::begin(kRanges), std::end(kRanges)})) {
    for (const MemoryRegion& region : memory->regions()) {
      Check(table.Add(region, memory->descriptor()).ok(), "no memory");
    }
  }
  std::unique_ptr<GuestMemory> memory;
  MemoryTable table;
};

class Fuzz {
 public:
  Fuzz(World& world, Input in) : world_(world), in_(in) {
    for (const GuestMemory::Range& range : kRanges) {
      std::memset(world_.memory->At(range.address), 0, range.size);
    }
    const uint32_t size = 1u << (in_.Byte() % 9);
    const uint8_t features = in_.Byte();
    const uint16_t base = in_.Short();
    available_ = DescriptorsBytes(size);
    used_ = (available_ + AvailableBytes(size, true) + 3) / 4 * 4;
    const uint64_t at = world_.memory->VmmAddress(kBegin);
    const Virtqueue::Layout layout = {size, at, at + available_, at + used_};
    Check(queue_
              .Configure(world_.table, layout, base,
                         ((features & 1) != 0 ? kFeatureEventIndex : 0) |
                             ((features & 2) != 0 ? kFeatureIndirectDescriptors : 0))
              .ok(),
          "a good queue was refused");
    index_ = base;
  }

  void Run() {
    for (int steps = 0; steps < 1000 && !in_.empty(); ++steps) Step();
  }

 private:
  uint8_t* At(uint64_t offset) { return world_.memory->At(kBegin + offset % kBytes); }

  void Step() {
    switch (in_.Byte() % 8) {
      case 0: {  // any bytes anywhere
        uint64_t offset = in_.Short();
        for (int n = in_.Byte(); n > 0; --n) *At(offset++) = in_.Byte();
        break;
      }
      case 1: {  // a descriptor, in the table or in an indirect one
        const uint64_t offset = in_.Short();
        const uint64_t address = kRanges[in_.Byte() % 3].address + in_.Short();
        const uint32_t length = in_.Byte() % 4 == 0 ? ~uint32_t{0} : in_.Short();
        const Descriptor descriptor = {address, length, in_.Byte(), in_.Byte()};
        for (size_t i = 0; i < sizeof(descriptor); ++i) {
          *At(offset * 8 + i) = reinterpret_cast<const uint8_t*>(&descriptor)[i];
        }
        break;
      }
      case 2: {  // one more chain
        Store16(At(available_ + kRingEntries + 2 * (index_ % queue_.size())), in_.Byte());
        Store16Release(At(available_ + kRingIndex), ++index_);
        break;
      }
      case 3:
        Pop(in_.Byte());
        break;
      case 4:
        if (!popped_.empty()) {
          queue_.PushUsed(popped_.front(), in_.Byte());
          popped_.pop_front();
        }
        break;
      case 5: {
        const size_t back = in_.Byte() % (popped_.size() + 1);
        queue_.Rewind(static_cast<uint32_t>(back));
        popped_.resize(popped_.size() - back);
        break;
      }
      case 6:
        switch (in_.Byte() % 3) {
          case 0:
            queue_.Flush();
            break;
          case 1:
            queue_.EnableKicks();
            break;
          case 2:
            queue_.DisableKicks();
            break;
        }
        break;
      case 7:  // any available index
        index_ = in_.Short();
        Store16Release(At(available_ + kRingIndex), index_);
        break;
    }
    Check(queue_.outstanding() == popped_.size(), "it forgot what it popped");
  }

  void Pop(uint8_t how) {
    const size_t room_size = how % 2 == 0 ? Virtqueue::kMaxPieces : how / 2;
    std::vector<iovec> room(room_size);
    Chain chain;
    const uint16_t before = queue_.next_available();
    absl::StatusOr<Virtqueue::PopResult> got = queue_.Pop(absl::MakeSpan(room), &chain);
    if (!got.ok() || *got != Virtqueue::PopResult::kChain) {
      Check(queue_.next_available() == before, "it consumed what it did not return");
      Check(!got.ok() || *got != Virtqueue::PopResult::kNoRoom || room_size < Virtqueue::kMaxPieces,
            "the largest room had no room");
      return;
    }
    Check(queue_.next_available() == static_cast<uint16_t>(before + 1), "it did not go on");
    Check(chain.head < queue_.size(), "the head is out of range");
    Check(chain.readable.data() == room.data() &&
              chain.writable.data() == room.data() + chain.readable.size() &&
              chain.readable.size() + chain.writable.size() <= room_size,
          "the pieces are not in the room");
    Check(BytesOf(chain.readable) == chain.readable_bytes &&
              BytesOf(chain.writable) == chain.writable_bytes,
          "the lengths do not add up");
    popped_.push_back(chain.head);
  }

  uint64_t BytesOf(absl::Span<const iovec> pieces) {
    uint64_t bytes = 0;
    for (const iovec& piece : pieces) {
      Check(piece.iov_len > 0, "a piece without bytes");
      bool inside = false;
      for (const GuestMemory::Range& range : kRanges) {
        const absl::Span<uint8_t> whole = world_.table.Piece(range.address, range.size);
        const uintptr_t offset =
            reinterpret_cast<uintptr_t>(piece.iov_base) - reinterpret_cast<uintptr_t>(whole.data());
        inside |= offset < whole.size() && piece.iov_len <= whole.size() - offset;
      }
      Check(inside, "a piece outside guest memory");
      bytes += piece.iov_len;
    }
    return bytes;
  }

  World& world_;
  Input in_;
  Virtqueue queue_;
  uint64_t available_ = 0;  // offsets from kBegin
  uint64_t used_ = 0;
  uint16_t index_ = 0;
  std::deque<uint16_t> popped_;
};

}  // namespace
}  // namespace argosy::vhost_user

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static argosy::vhost_user::World world;
  argosy::vhost_user::Fuzz(world, {data, size}).Run();
  return 0;
}
