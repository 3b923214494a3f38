// SPDX-License-Identifier: Apache-2.0
// File: backends/vhost_user/protocol.h
//
// What a VMM and a back end say to each other over a vhost-user socket: numbers and structures of
// the wire, all little-endian as x86-64 and arm64 are.  Source: QEMU's documentation,
// "Vhost-user Protocol"; only what a virtio-vsock device can meet is here.
//
//   | request | flags | size | size bytes of payload |     descriptors: SCM_RIGHTS of the header
#ifndef ARGOSY_BACKENDS_VHOST_USER_PROTOCOL_H_
#define ARGOSY_BACKENDS_VHOST_USER_PROTOCOL_H_

#include <bit>
#include <cstddef>
#include <cstdint>

namespace argosy::vhost_user {

static_assert(std::endian::native == std::endian::little);

// The front end (VMM) asks, the back end (we) answers.  Any other number may arrive too.
enum class Request : uint32_t {
  kGetFeatures = 1,
  kSetFeatures = 2,
  kSetOwner = 3,
  kResetOwner = 4,
  kSetMemTable = 5,
  kSetVringNum = 8,
  kSetVringAddr = 9,
  kSetVringBase = 10,
  kGetVringBase = 11,
  kSetVringKick = 12,
  kSetVringCall = 13,
  kSetVringErr = 14,
  kGetProtocolFeatures = 15,
  kSetProtocolFeatures = 16,
  kGetQueueNum = 17,
  kSetVringEnable = 18,
  kGetConfig = 24,
  kSetConfig = 25,
  kResetDevice = 34,
  kGetMaxMemSlots = 36,
  kAddMemReg = 37,
  kRemMemReg = 38,
};

struct Header {
  uint32_t request;
  uint32_t flags;
  uint32_t size;  // bytes of the payload
};
static_assert(sizeof(Header) == 12);

// Header::flags.
inline constexpr uint32_t kVersion = 1;
inline constexpr uint32_t kVersionMask = 3;
inline constexpr uint32_t kReplyFlag = 1 << 2;
inline constexpr uint32_t kNeedReplyFlag = 1 << 3;
inline constexpr uint32_t kKnownFlags = kVersionMask | kReplyFlag | kNeedReplyFlag;

// One piece of the guest's memory, and where it lies in the VMM and in the file sent along.
struct MemoryRegion {
  uint64_t guest_address;  // physical
  uint64_t size;           // bytes
  uint64_t vmm_address;    // virtual, in the VMM's process: rings are named by it
  uint64_t file_offset;    // of the region's first byte
};
static_assert(sizeof(MemoryRegion) == 32);

// SET_MEM_TABLE: this, and `count` regions behind it, each with one descriptor.
struct MemoryTableHeader {
  uint32_t count;
  uint32_t padding;
};
static_assert(sizeof(MemoryTableHeader) == 8);

// ADD_MEM_REG, REM_MEM_REG.
struct SingleRegion {
  uint64_t padding;
  MemoryRegion region;
};
static_assert(sizeof(SingleRegion) == 40);

// SET_VRING_NUM, SET_VRING_BASE, GET_VRING_BASE, SET_VRING_ENABLE.
struct VringState {
  uint32_t index;
  uint32_t number;
};
static_assert(sizeof(VringState) == 8);

// SET_VRING_ADDR.  Addresses are the VMM's virtual ones.
struct VringAddress {
  uint32_t index;
  uint32_t flags;  // bit 0: log writes; void, as we do not offer the log
  uint64_t descriptors;
  uint64_t used;
  uint64_t available;
  uint64_t log;
};
static_assert(sizeof(VringAddress) == 40);

// SET_VRING_KICK, _CALL, _ERR: a u64 of these.
inline constexpr uint64_t kVringIndexMask = 0xFF;
inline constexpr uint64_t kVringNoDescriptor = 1 << 8;

// GET_CONFIG, SET_CONFIG: this, and `size` bytes behind it.
struct ConfigHeader {
  uint32_t offset;
  uint32_t size;
  uint32_t flags;
};
static_assert(sizeof(ConfigHeader) == 12);

// VHOST_USER_PROTOCOL_F_*.
inline constexpr uint64_t kProtocolMq = uint64_t{1} << 0;
inline constexpr uint64_t kProtocolReplyAck = uint64_t{1} << 3;
inline constexpr uint64_t kProtocolConfig = uint64_t{1} << 9;
inline constexpr uint64_t kProtocolResetDevice = uint64_t{1} << 13;
inline constexpr uint64_t kProtocolConfigureMemSlots = uint64_t{1} << 15;

// Feature bits of the ring and the transport (virtio 1.3, 6), and the one that vhost-user keeps for
// itself: it says that protocol features are there.
inline constexpr uint64_t kFeatureIndirectDescriptors = uint64_t{1} << 28;
inline constexpr uint64_t kFeatureEventIndex = uint64_t{1} << 29;
inline constexpr uint64_t kFeatureProtocolFeatures = uint64_t{1} << 30;
inline constexpr uint64_t kFeatureVersion1 = uint64_t{1} << 32;

// Limits of ours.

// Memory regions of a VMM: what QEMU asks for at most with its default of memory slots.
inline constexpr uint32_t kMaxRegions = 32;
// Descriptors of one message: a whole memory table.
inline constexpr size_t kMaxDescriptors = kMaxRegions;
// The protocol's own limit for a device's configuration space.
inline constexpr uint32_t kMaxConfigSize = 256;
// The largest message is a whole memory table.
inline constexpr size_t kMaxPayload =
    sizeof(MemoryTableHeader) + kMaxRegions * sizeof(MemoryRegion);
static_assert(kMaxPayload >= sizeof(ConfigHeader) + kMaxConfigSize);

}  // namespace argosy::vhost_user

#endif  // ARGOSY_BACKENDS_VHOST_USER_PROTOCOL_H_
