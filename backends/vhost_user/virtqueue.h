// SPDX-License-Identifier: Apache-2.0
// File: backends/vhost_user/virtqueue.h
//
// The device's side of a split virtqueue (virtio 1.3, 2.7): chains of buffers that the driver made
// available come out, used ones go back.
//
//   iovec room[64];
//   Chain chain;
//   absl::StatusOr<Virtqueue::PopResult> got = queue.Pop(room, &chain);
//   ... readv() into chain.writable ...
//   queue.PushUsed(chain.head, bytes_written);
//   if (queue.Flush()) notify the driver        // once for many chains
//
// The driver is not trusted.  Each word of its memory is read once, and what was read is checked
// before it is used; a driver that breaks a rule gets an error, after which its device is ended.
// What lies in the buffers the driver may change at any time.
//
// Nothing is allocated after Configure().  One thread at a time.
#ifndef ARGOSY_BACKENDS_VHOST_USER_VIRTQUEUE_H_
#define ARGOSY_BACKENDS_VHOST_USER_VIRTQUEUE_H_

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "backends/vhost_user/memory_table.h"
#include "backends/vhost_user/ring_layout.h"

namespace argosy::vhost_user {

// One chain of buffers, as pieces of this process's memory.
struct Chain {
  uint16_t head = 0;  // names the chain when it is given back
  // Within the room that Pop() was given, one behind the other.
  absl::Span<iovec> readable;
  absl::Span<iovec> writable;
  uint64_t readable_bytes = 0;
  uint64_t writable_bytes = 0;
};

class Virtqueue {
 public:
  // Pieces of one chain: what one readv() takes (IOV_MAX).  Virtio allows a chain as many buffers
  // as its queue has descriptors, but no driver of a socket device needs this many.
  static constexpr size_t kMaxPieces = 1024;

  // Where the VMM says the queue is: its virtual addresses.
  struct Layout {
    uint32_t size = 0;
    uint64_t descriptors = 0;
    uint64_t available = 0;
    uint64_t used = 0;
  };

  enum class PopResult {
    kChain,
    kEmpty,   // the driver has made nothing more available
    kNoRoom,  // the next chain has more pieces than the room; it is still the next one
  };

  // Takes the queue into use, from chain number `base` on; `features` are those the driver
  // accepted.  The used index is read from the ring, where an earlier user of it left it.  `memory`
  // outlives the queue or its next Configure(), and so does what it maps of the rings.  After an
  // error the queue may not be used:
  //   EINVAL  the size is no power of two up to kMaxQueueSize, an address is not aligned
  //   EFAULT  a ring is not in guest memory, or not in one region
  absl::Status Configure(const MemoryTable& memory, const Layout& layout, uint16_t base,
                         uint64_t features);

  // The next available chain.  Its pieces are written to `room` from the start; unless kChain is
  // returned, `room` holds nothing of use.  A room of kMaxPieces takes any chain.  Buffers without
  // bytes leave no piece.  EPROTO, with the reason, when the driver broke a rule; nothing is
  // consumed then.
  absl::StatusOr<PopResult> Pop(absl::Span<iovec> room, Chain* chain);

  // Un-pops the last `chains` chains that were popped and not pushed: the next Pop() reads them
  // again, and may find others if the driver changed them.
  void Rewind(uint32_t chains);

  // Gives a popped chain back, with `length` bytes written into it.  The driver sees it after
  // Flush().  Chains may go back in any order, but not those to be rewound.
  void PushUsed(uint16_t head, uint32_t length);

  // Shows the driver what was pushed since the last Flush(), and says whether it wants to be
  // notified of that.  The first one after Configure() says yes, as nobody knows what the driver
  // was told before.
  bool Flush();

  // Asks the driver to kick when it adds chains beyond those Pop() has seen; call it when Pop()
  // said kEmpty.  True if there are some already: no kick may come for them, so go on popping.
  bool EnableKicks();
  // While the device is busy.  Only a hint: a kick may come nonetheless.
  void DisableKicks();

  // Chains that Pop() knows to be there, without a look at the ring.
  uint16_t seen() const { return static_cast<uint16_t>(seen_available_ - next_available_); }
  // Chains popped and neither pushed nor rewound.
  uint32_t outstanding() const { return outstanding_; }
  // The number of the next chain: GET_VRING_BASE.
  uint16_t next_available() const { return next_available_; }
  uint32_t size() const { return size_; }

 private:
  struct Pieces;

  absl::Status Walk(uint16_t head, Pieces* pieces) const;
  absl::Status AddBuffer(const Descriptor& descriptor, Pieces* pieces) const;
  absl::Status EnterIndirect(const Descriptor& descriptor, const uint8_t** table,
                             uint32_t* entries) const;
  Descriptor CopyDescriptor(uint64_t address) const;

  const MemoryTable* memory_ = nullptr;
  const uint8_t* descriptors_ = nullptr;
  uint8_t* available_ = nullptr;
  uint8_t* used_ = nullptr;
  uint32_t size_ = 0;
  uint16_t mask_ = 0;
  bool event_index_ = false;
  bool indirect_ = false;
  bool notify_always_ = true;

  uint16_t seen_available_ = 0;  // the driver's index when last looked at
  uint16_t next_available_ = 0;
  uint16_t next_used_ = 0;
  uint16_t flushed_used_ = 0;  // what the driver has been shown
  uint32_t outstanding_ = 0;
};

}  // namespace argosy::vhost_user

#endif  // ARGOSY_BACKENDS_VHOST_USER_VIRTQUEUE_H_
