// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/testing/echo_device.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "transport/error.h"

namespace argosy::vhost_user {
namespace {

// As much as a packet of vsock has.  A hostile chain may name the same memory many times.
constexpr size_t kMaxEcho = 65536;

// Copies as much as fits.  The driver may change both sides meanwhile; only bytes move.
uint32_t Echo(const Chain& chain) {
  uint32_t written = 0;
  size_t from = 0, from_done = 0, to = 0, to_done = 0;
  while (from < chain.readable.size() && to < chain.writable.size() && written < kMaxEcho) {
    const iovec& source = chain.readable[from];
    const iovec& target = chain.writable[to];
    const size_t n = std::min(
        {source.iov_len - from_done, target.iov_len - to_done, kMaxEcho - size_t{written}});
    std::memmove(static_cast<uint8_t*>(target.iov_base) + to_done,
                 static_cast<const uint8_t*>(source.iov_base) + from_done, n);
    written += static_cast<uint32_t>(n);
    from_done += n;
    to_done += n;
    if (from_done == source.iov_len) ++from, from_done = 0;
    if (to_done == target.iov_len) ++to, to_done = 0;
  }
  return written;
}

}  // namespace

absl::Status EchoDevice::OnRingEnabled(uint32_t queue) {
  events_.push_back(absl::StrCat("enabled ", queue));
  if (std::exchange(fail_to_enable_, false)) return ErrnoError(EPERM, "the device does not want");
  return absl::OkStatus();
}

void EchoDevice::OnRingStopped(uint32_t queue) {
  events_.push_back(absl::StrCat("stopped ", queue));
}

void EchoDevice::OnRefused(const absl::Status& reason) {
  events_.push_back("refused");
  last_refusal_ = std::string(reason.message());
}

void EchoDevice::Serve(Server& server) {
  for (uint32_t i = 0; i < kQueues; ++i) {
    if (!server.running(i)) continue;
    absl::Status status = ServeQueue(server, i);
    // The memory may have gone under it.
    if (status.ok()) status = server.memory().Check();
    if (!status.ok()) server.Stop(Annotate(status, absl::StrCat("queue ", i)));
  }
}

absl::Status EchoDevice::ServeQueue(Server& server, uint32_t index) {
  Virtqueue& queue = server.queue(index);
  queue.DisableKicks();
  absl::Status status;
  // A driver that refills faster than we serve shall not keep us here.
  for (uint32_t budget = 4 * queue.size(); budget > 0; --budget) {
    Chain chain;
    absl::StatusOr<Virtqueue::PopResult> got = queue.Pop(absl::MakeSpan(room_), &chain);
    if (!got.ok()) {
      status = got.status();
      break;
    }
    if (*got == Virtqueue::PopResult::kEmpty) {
      if (queue.EnableKicks()) continue;
      break;
    }
    queue.PushUsed(chain.head, Echo(chain));
    ++chains_;
  }
  if (queue.Flush()) server.Notify(index);
  return status;
}

}  // namespace argosy::vhost_user
