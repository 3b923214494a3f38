// SPDX-License-Identifier: Apache-2.0
// File: backends/vhost_user/ring_layout.h
//
// How a split virtqueue lies in memory (virtio 1.3, 2.7), and the loads and stores of what two
// sides use at once.  The device and the driver of tests share this file and nothing else.
//
//   descriptors   size x 16 bytes
//   available     u16 flags, u16 index, u16 ring[size], u16 used_event
//   used          u16 flags, u16 index, {u32 id, u32 length} ring[size], u16 avail_event
//
// The two events are there only with EVENT_IDX.
#ifndef ARGOSY_BACKENDS_VHOST_USER_RING_LAYOUT_H_
#define ARGOSY_BACKENDS_VHOST_USER_RING_LAYOUT_H_

#include <cstddef>
#include <cstdint>

namespace argosy::vhost_user {

// The largest queue of the specification.
inline constexpr uint32_t kMaxQueueSize = 32768;

struct Descriptor {
  uint64_t address;  // guest physical
  uint32_t length;
  uint16_t flags;
  uint16_t next;
};
static_assert(sizeof(Descriptor) == 16);

// Descriptor::flags.
inline constexpr uint16_t kDescriptorNext = 1;
inline constexpr uint16_t kDescriptorWrite = 2;  // the device writes
inline constexpr uint16_t kDescriptorIndirect = 4;

// Flags of the available ring: do not interrupt; of the used ring: do not kick.
inline constexpr uint16_t kSilence = 1;

// Byte offsets within the available and the used ring.
inline constexpr size_t kRingFlags = 0;
inline constexpr size_t kRingIndex = 2;
inline constexpr size_t kRingEntries = 4;

inline constexpr size_t DescriptorsBytes(uint32_t size) { return size_t{16} * size; }
inline constexpr size_t AvailableBytes(uint32_t size, bool events) {
  return kRingEntries + size_t{2} * size + (events ? 2 : 0);
}
inline constexpr size_t UsedBytes(uint32_t size, bool events) {
  return kRingEntries + size_t{8} * size + (events ? 2 : 0);
}

// Whether going from index `before` to `now` passed `event`, as all of them wrap.
inline constexpr bool EventPassed(uint16_t event, uint16_t now, uint16_t before) {
  return static_cast<uint16_t>(now - event - 1) < static_cast<uint16_t>(now - before);
}

// The other side may write while we read: each value is loaded once, in one piece, and never
// again by a compiler that finds a register scarce.  Addresses are aligned for their type.
inline uint16_t Load16(const uint8_t* at) {
  return __atomic_load_n(reinterpret_cast<const uint16_t*>(at), __ATOMIC_RELAXED);
}
inline uint16_t Load16Acquire(const uint8_t* at) {
  return __atomic_load_n(reinterpret_cast<const uint16_t*>(at), __ATOMIC_ACQUIRE);
}
inline uint32_t Load32(const uint8_t* at) {
  return __atomic_load_n(reinterpret_cast<const uint32_t*>(at), __ATOMIC_RELAXED);
}
inline uint64_t Load64(const uint8_t* at) {
  return __atomic_load_n(reinterpret_cast<const uint64_t*>(at), __ATOMIC_RELAXED);
}
inline uint8_t Load8(const uint8_t* at) { return __atomic_load_n(at, __ATOMIC_RELAXED); }
inline void Store16(uint8_t* at, uint16_t value) {
  __atomic_store_n(reinterpret_cast<uint16_t*>(at), value, __ATOMIC_RELAXED);
}
inline void Store16Release(uint8_t* at, uint16_t value) {
  __atomic_store_n(reinterpret_cast<uint16_t*>(at), value, __ATOMIC_RELEASE);
}
inline void Store32(uint8_t* at, uint32_t value) {
  __atomic_store_n(reinterpret_cast<uint32_t*>(at), value, __ATOMIC_RELAXED);
}

}  // namespace argosy::vhost_user

#endif  // ARGOSY_BACKENDS_VHOST_USER_RING_LAYOUT_H_
