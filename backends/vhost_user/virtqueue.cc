// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/virtqueue.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cassert>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "transport/error.h"

namespace argosy::vhost_user {
namespace {

// A driver may not make a chain longer than this (2.7.4.2).
constexpr uint64_t kMaxChainBytes = uint64_t{1} << 32;

absl::Status Broken(absl::string_view what) {
  return ErrnoError(EPROTO, absl::StrCat("virtqueue: ", what));
}

// One descriptor, each half of it in one load.
Descriptor LoadDescriptor(const uint8_t* at) {
  uint64_t words[2];
  if (reinterpret_cast<uintptr_t>(at) % alignof(uint64_t) == 0) {
    words[0] = Load64(at);
    words[1] = Load64(at + 8);
  } else {
    // Nothing says that an indirect table is aligned.
    uint8_t bytes[sizeof(words)];
    for (size_t i = 0; i < sizeof(bytes); ++i) bytes[i] = Load8(at + i);
    std::memcpy(words, bytes, sizeof(words));
  }
  return std::bit_cast<Descriptor>(words);
}

}  // namespace

// A chain on its way into the caller's room.
struct Virtqueue::Pieces {
  absl::Span<iovec> room;
  size_t count = 0;
  size_t readable = 0;
  uint64_t readable_bytes = 0;
  uint64_t writable_bytes = 0;
  bool writing = false;
  bool no_room = false;
};

absl::Status Virtqueue::Configure(const MemoryTable& memory, const Layout& layout, uint16_t base,
                                  uint64_t features) {
  if (!std::has_single_bit(layout.size) || layout.size > kMaxQueueSize) {
    return ErrnoError(EINVAL, absl::StrCat("virtqueue: a size of ", layout.size));
  }
  event_index_ = (features & kFeatureEventIndex) != 0;
  indirect_ = (features & kFeatureIndirectDescriptors) != 0;

  struct Part {
    const char* name;
    uint64_t address;
    uint64_t bytes;
    uint64_t alignment;
    uint8_t* data;
  };
  Part parts[] = {
      {"descriptors", layout.descriptors, DescriptorsBytes(layout.size), 16, nullptr},
      {"available ring", layout.available, AvailableBytes(layout.size, event_index_), 2, nullptr},
      {"used ring", layout.used, UsedBytes(layout.size, event_index_), 4, nullptr},
  };
  for (Part& part : parts) {
    part.data = memory.AtVmmAddress(part.address, part.bytes);
    const auto where = [&part] {
      return absl::StrFormat("virtqueue: its %s at 0x%x ", part.name, part.address);
    };
    if (part.data == nullptr) {
      return ErrnoError(EFAULT, absl::StrCat(where(), "(", part.bytes,
                                             " bytes) are not in one region of guest memory"));
    }
    // A region of odd offset could make an aligned address an unaligned one here.
    if (part.address % part.alignment != 0 ||
        reinterpret_cast<uintptr_t>(part.data) % part.alignment != 0) {
      return ErrnoError(EINVAL,
                        absl::StrCat(where(), "are not aligned to ", part.alignment, " bytes"));
    }
  }
  memory_ = &memory;
  descriptors_ = parts[0].data;
  available_ = parts[1].data;
  used_ = parts[2].data;
  size_ = layout.size;
  mask_ = static_cast<uint16_t>(layout.size - 1);
  seen_available_ = next_available_ = base;
  // A lie here harms nobody but the driver: it says where we write, always within the ring.
  next_used_ = flushed_used_ = Load16(used_ + kRingIndex);
  outstanding_ = 0;
  notify_always_ = true;
  return absl::OkStatus();
}

absl::StatusOr<Virtqueue::PopResult> Virtqueue::Pop(absl::Span<iovec> room, Chain* chain) {
  if (next_available_ == seen_available_) {
    // Acquire: the entries and descriptors behind the index are read after it.
    const uint16_t index = Load16Acquire(available_ + kRingIndex);
    if (static_cast<uint16_t>(index - next_available_) > size_) {
      return Broken(absl::StrCat("the available index went from ", next_available_, " to ", index,
                                 " in a queue of ", size_));
    }
    seen_available_ = index;
    if (index == next_available_) return PopResult::kEmpty;
  }
  const uint16_t head = Load16(available_ + kRingEntries + size_t{2} * (next_available_ & mask_));
  Pieces pieces = {.room = room};
  if (absl::Status status = Walk(head, &pieces); !status.ok()) return status;
  if (pieces.no_room) return PopResult::kNoRoom;
  chain->head = head;
  if (!pieces.writing) pieces.readable = pieces.count;
  chain->readable = room.subspan(0, pieces.readable);
  chain->writable = room.subspan(pieces.readable, pieces.count - pieces.readable);
  chain->readable_bytes = pieces.readable_bytes;
  chain->writable_bytes = pieces.writable_bytes;
  ++next_available_;
  ++outstanding_;
  return PopResult::kChain;
}

absl::Status Virtqueue::Walk(uint16_t head, Pieces* pieces) const {
  const uint8_t* table = descriptors_;  // null: an indirect table in more than one region
  uint64_t table_address = 0;           // of an indirect table
  uint32_t entries = size_;             // of the table we are in
  bool in_indirect = false;
  uint32_t index = head;
  if (index >= size_) {
    return Broken(absl::StrCat("chain ", head, " in a queue of ", size_, " descriptors"));
  }
  // A chain passes no descriptor twice, so it has an end within this many steps; and all of it,
  // indirect or not, is no longer than the queue (2.7.5.2).
  uint32_t steps_left = size_;
  for (;;) {
    const Descriptor descriptor = table != nullptr
                                      ? LoadDescriptor(table + sizeof(Descriptor) * index)
                                      : CopyDescriptor(table_address + sizeof(Descriptor) * index);
    if ((descriptor.flags & kDescriptorIndirect) != 0) {
      if (in_indirect) return Broken("an indirect table within an indirect table");
      if (absl::Status status = EnterIndirect(descriptor, &table, &entries); !status.ok()) {
        return status;
      }
      in_indirect = true;
      table_address = descriptor.address;
      steps_left = std::min(steps_left, entries);
      index = 0;
      continue;
    }
    if (steps_left-- == 0) {
      return Broken(
          absl::StrCat("chain ", head, " has a loop, or more descriptors than the queue"));
    }
    if (absl::Status status = AddBuffer(descriptor, pieces); !status.ok()) return status;
    if (pieces->no_room) return absl::OkStatus();
    if ((descriptor.flags & kDescriptorNext) == 0) return absl::OkStatus();
    index = descriptor.next;
    if (index >= entries) {
      return Broken(
          absl::StrCat("chain ", head, " goes on at descriptor ", index, " of ", entries));
    }
  }
}

absl::Status Virtqueue::EnterIndirect(const Descriptor& descriptor, const uint8_t** table,
                                      uint32_t* entries) const {
  if (!indirect_) return Broken("an indirect table that was not negotiated");
  if ((descriptor.flags & kDescriptorNext) != 0) {
    return Broken("an indirect table with a next descriptor");
  }
  if (descriptor.length == 0 || descriptor.length % sizeof(Descriptor) != 0) {
    return Broken(absl::StrCat("an indirect table of ", descriptor.length, " bytes"));
  }
  *entries = descriptor.length / sizeof(Descriptor);
  if (*entries > size_) {
    return Broken(
        absl::StrCat("an indirect table of ", *entries, " descriptors in a queue of ", size_));
  }
  uint64_t address = descriptor.address;
  uint64_t left = descriptor.length;
  absl::Span<uint8_t> piece = memory_->Piece(address, left);
  *table = piece.size() == left ? piece.data() : nullptr;
  while (piece.size() < left) {
    if (piece.empty()) {
      return Broken(absl::StrFormat("an indirect table of %u bytes at 0x%x: no memory there",
                                    descriptor.length, descriptor.address));
    }
    left -= piece.size();
    address += piece.size();  // cannot wrap: no region ends beyond the last address
    piece = memory_->Piece(address, left);
  }
  return absl::OkStatus();
}

// EnterIndirect() has seen that these bytes are memory, in however many regions.
Descriptor Virtqueue::CopyDescriptor(uint64_t address) const {
  uint8_t bytes[sizeof(Descriptor)];
  for (size_t done = 0; done < sizeof(bytes);) {
    const absl::Span<uint8_t> piece = memory_->Piece(address + done, sizeof(bytes) - done);
    for (const uint8_t& byte : piece) bytes[done++] = Load8(&byte);
  }
  return std::bit_cast<Descriptor>(bytes);
}

absl::Status Virtqueue::AddBuffer(const Descriptor& descriptor, Pieces* pieces) const {
  const bool write = (descriptor.flags & kDescriptorWrite) != 0;
  if (write && !pieces->writing) {
    pieces->writing = true;
    pieces->readable = pieces->count;
  } else if (!write && pieces->writing) {
    return Broken("a buffer to read behind one to write");
  }
  uint64_t& bytes = write ? pieces->writable_bytes : pieces->readable_bytes;
  bytes += descriptor.length;
  if (pieces->writable_bytes + pieces->readable_bytes > kMaxChainBytes) {
    return Broken("a chain of more than 4 GiB");
  }
  uint64_t address = descriptor.address;
  uint64_t left = descriptor.length;
  while (left > 0) {
    const absl::Span<uint8_t> piece = memory_->Piece(address, left);
    if (piece.empty()) {
      return Broken(absl::StrFormat("a buffer of %u bytes at 0x%x: no memory there",
                                    descriptor.length, descriptor.address));
    }
    if (pieces->count == pieces->room.size()) {
      if (pieces->count >= kMaxPieces) {
        return Broken(absl::StrCat("a chain of more than ", kMaxPieces, " pieces"));
      }
      pieces->no_room = true;
      return absl::OkStatus();
    }
    pieces->room[pieces->count++] = {piece.data(), piece.size()};
    address += piece.size();
    left -= piece.size();
  }
  return absl::OkStatus();
}

void Virtqueue::Rewind(uint32_t chains) {
  assert(chains <= outstanding_);
  outstanding_ -= chains;
  next_available_ = static_cast<uint16_t>(next_available_ - chains);
}

void Virtqueue::PushUsed(uint16_t head, uint32_t length) {
  assert(outstanding_ > 0);
  --outstanding_;
  uint8_t* const entry = used_ + kRingEntries + size_t{8} * (next_used_ & mask_);
  Store32(entry, head);
  Store32(entry + 4, length);
  ++next_used_;
}

bool Virtqueue::Flush() {
  if (next_used_ == flushed_used_) return false;
  const uint16_t before = flushed_used_;
  // Release: buffers and entries are there before the index says so.
  Store16Release(used_ + kRingIndex, next_used_);
  flushed_used_ = next_used_;
  // The driver writes what it waits for and then looks at the index; we do it the other way round,
  // so one of the two sees the other.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (notify_always_) {
    notify_always_ = false;
    return true;
  }
  if (event_index_) {
    const uint16_t event = Load16(available_ + kRingEntries + size_t{2} * size_);
    return EventPassed(event, next_used_, before);
  }
  return (Load16(available_ + kRingFlags) & kSilence) == 0;
}

bool Virtqueue::EnableKicks() {
  if (event_index_) {
    Store16(used_ + kRingEntries + size_t{8} * size_, seen_available_);
  } else {
    Store16(used_ + kRingFlags, 0);
  }
  // As in Flush(), with the roles exchanged.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return Load16(available_ + kRingIndex) != seen_available_;
}

void Virtqueue::DisableKicks() {
  // With EVENT_IDX the driver kicks once for each event that was asked for.
  if (!event_index_) Store16(used_ + kRingFlags, kSilence);
}

}  // namespace argosy::vhost_user
