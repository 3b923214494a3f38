// SPDX-License-Identifier: Apache-2.0
// File: backends/vhost_user/bench/linux_guest.h
//
// A guest that treats its rings as Linux's driver does, on a thread of its own, which sleeps until
// an interrupt comes.
//
//   auto guest = *LinuxGuest::Start(std::move(socket), {.echo = true});
//
// Its receive buffers are of 4 KiB, header included, given to the device again when less than half
// of them are left; it announces 256 KiB of buffer, and tells of credit when less than 64 KiB of
// that may be left.  A packet to the host is one write of a program, as far as credit goes, in two
// buffers.  It reads no payload and writes none: what a program would copy costs the same whatever
// the device is.
#ifndef ARGOSY_BACKENDS_VHOST_USER_BENCH_LINUX_GUEST_H_
#define ARGOSY_BACKENDS_VHOST_USER_BENCH_LINUX_GUEST_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "backends/vhost_user/testing/driver_queue.h"
#include "backends/vhost_user/testing/front_end.h"
#include "backends/vhost_user/testing/guest_memory.h"
#include "transport/packet/link.h"
#include "transport/unique_fd.h"

namespace argosy::vhost_user {

class LinuxGuest {
 public:
  struct Options {
    uint32_t queue_size = 128;
    // Programs of the guest listen at every port.  They send back what they get, or swallow it.
    bool echo = false;
    // One more connects to this port of the host and writes without end; 0: none does.
    uint32_t send_to = 0;
    uint32_t write_size = 0;
  };

  // Negotiates, starts both rings and the thread.  Errors of FrontEnd.
  static absl::StatusOr<std::unique_ptr<LinuxGuest>> Start(UniqueFd socket, const Options& options);
  ~LinuxGuest();

  // Payload that programs of the guest have got.
  uint64_t received() const { return received_.load(std::memory_order_relaxed); }
  // CPU time of the thread.
  absl::Duration CpuTime();
  // What the device did wrong, if it did.  After the thread has ended: it does so then.
  bool failed() const { return failed_.load(std::memory_order_acquire); }
  const absl::Status& failure() const { return failure_; }

 private:
  struct Connection {
    uint32_t peer_buf_alloc = 0;
    uint32_t peer_fwd_cnt = 0;
    uint32_t tx_cnt = 0;
    uint32_t fwd_cnt = 0;
    uint32_t last_fwd_cnt = 0;  // that the host was told
    uint32_t ended = 0;         // VSOCK_SHUTDOWN_* of the host
    bool closing = false;       // ours was sent
  };
  // The host's port and the guest's.
  using Key = std::pair<uint32_t, uint32_t>;

  explicit LinuxGuest(const Options& options) : options_(options) {}
  absl::Status Init(UniqueFd socket);
  void Run();
  absl::Status Work();
  absl::Status TakeRx();
  absl::Status TakeTx();
  void FillRx();
  void OnPacket(const packet::Header& header, const uint8_t* payload);
  void OnShutdown(const Key& key, uint32_t flags);
  // A packet of a connection; waits in line if the ring is full.
  void Reply(const Key& key, uint16_t op, uint32_t flags = 0, std::string payload = "");
  bool Transmit(const Key& key, uint16_t op, uint32_t flags, uint32_t length,
                const std::string* payload);
  void SendWrites();

  const Options options_;
  uint32_t cid_ = 0;
  std::unique_ptr<GuestMemory> memory_;
  std::unique_ptr<FrontEnd> vmm_;
  std::unique_ptr<DriverQueue> rx_, tx_;
  std::vector<uint64_t> rx_address_, tx_address_;  // by head
  std::vector<uint64_t> rx_free_, tx_free_;        // addresses of buffers
  absl::flat_hash_map<Key, Connection> connections_;
  struct Waiting {
    Key key;
    uint16_t op;
    uint32_t flags;
    std::string payload;
  };
  std::deque<Waiting> waiting_;
  bool sender_open_ = false;
  uint32_t write_left_ = 0;

  std::atomic<uint64_t> received_ = 0;
  std::atomic<bool> failed_ = false;
  absl::Status failure_;
  UniqueFd stop_;  // an eventfd
  std::thread thread_;
};

}  // namespace argosy::vhost_user

#endif  // ARGOSY_BACKENDS_VHOST_USER_BENCH_LINUX_GUEST_H_
