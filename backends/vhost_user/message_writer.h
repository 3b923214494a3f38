// SPDX-License-Identifier: Apache-2.0
// File: backends/vhost_user/message_writer.h
//
// Writes SEQPACKET messages to an AF_VSOCK socket, on a thread of its own, which may wait.
//
// For that is the one call by which Linux keeps a message whole: a write that must not wait sends as
// much as there is credit for, and then says EAGAIN, not how much that was; to try again would put the
// message's beginning into it twice.  POLLOUT tells of the first byte's credit only.
#ifndef ARGOSY_BACKENDS_VHOST_USER_MESSAGE_WRITER_H_
#define ARGOSY_BACKENDS_VHOST_USER_MESSAGE_WRITER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "transport/event_loop.h"
#include "transport/packet/link.h"
#include "transport/unique_fd.h"

namespace argosy::vhost_user {

// All is called by the loop's thread.  The owner retires it (EventLoop::Retire) before `fd` is closed.
class MessageWriter : public EventLoop::Handler {
 public:
  // Makes `fd` blocking: others that use it say MSG_DONTWAIT.  `written` is called for each message:
  // true once the socket has all of it, false if it never will.  Errors of the system, such as EAGAIN:
  // it has no thread left.
  static absl::StatusOr<std::unique_ptr<MessageWriter>> Create(EventLoop& loop, int fd,
                                                               std::function<void(bool)> written);
  // Shuts the socket down, if a message is still to be written: it is lost.
  ~MessageWriter() override;

  // Whether a message is being written.
  bool busy() const { return busy_; }
  // Takes a copy of the message; false while busy.
  bool Write(const packet::Payload& message, bool end_of_record);

  // EventLoop::Handler
  void OnEvents(uint32_t events) override;

 private:
  struct Message {
    std::vector<uint8_t> bytes;
    bool end_of_record = false;
  };

  MessageWriter(int fd, UniqueFd done, std::function<void(bool)> written);
  void Run();
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stop_ || next_ != nullptr; }

  const int fd_;
  const UniqueFd done_;  // an eventfd
  const std::function<void(bool)> written_;
  bool busy_ = false;
  absl::Mutex mutex_;
  std::unique_ptr<Message> next_ ABSL_GUARDED_BY(mutex_);
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  bool failed_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace argosy::vhost_user

#endif  // ARGOSY_BACKENDS_VHOST_USER_MESSAGE_WRITER_H_
