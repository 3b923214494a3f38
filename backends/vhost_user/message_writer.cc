// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/message_writer.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "absl/memory/memory.h"
#include "transport/error.h"

namespace argosy::vhost_user {

absl::StatusOr<std::unique_ptr<MessageWriter>> MessageWriter::Create(
    EventLoop& loop, int fd, std::function<void(bool)> written) {
  UniqueFd done(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!done.valid()) return SystemError(errno, "eventfd");
  if (fcntl(fd, F_SETFL, 0) != 0) return SystemError(errno, "fcntl");
  auto writer = absl::WrapUnique(new MessageWriter(fd, std::move(done), std::move(written)));
  if (absl::Status s = loop.Add(writer->done_.get(), writer.get()); !s.ok()) return s;
  // The library throws if there are too many threads; nothing of it passes this function.
  try {
    writer->thread_ = std::thread([w = writer.get()] { w->Run(); });
  } catch (const std::system_error& e) {
    loop.Retire(std::move(writer));
    return SystemError(e.code().value(), "no thread for a connection's messages");
  }
  return writer;
}

MessageWriter::MessageWriter(int fd, UniqueFd done, std::function<void(bool)> written)
    : fd_(fd), done_(std::move(done)), written_(std::move(written)) {}

MessageWriter::~MessageWriter() {
  // Wakes the thread out of its write.
  if (busy_) shutdown(fd_, SHUT_RDWR);
  {
    absl::MutexLock lock(&mutex_);
    stop_ = true;
  }
  if (thread_.joinable()) thread_.join();
}

bool MessageWriter::Write(const packet::Payload& message, bool end_of_record) {
  if (busy_) return false;
  auto copy = std::make_unique<Message>();
  copy->bytes.resize(message.size());
  message.CopyTo(copy->bytes.data());
  copy->end_of_record = end_of_record;
  busy_ = true;
  absl::MutexLock lock(&mutex_);
  next_ = std::move(copy);
  return true;
}

void MessageWriter::OnEvents(uint32_t) {
  uint64_t count;
  if (read(done_.get(), &count, sizeof(count)) < 0) return;
  bool failed;
  {
    absl::MutexLock lock(&mutex_);
    failed = failed_;
  }
  busy_ = false;
  written_(!failed);
}

void MessageWriter::Run() {
  for (;;) {
    std::unique_ptr<Message> message;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(this, &MessageWriter::HasWork));
      if (stop_) return;
      message = std::move(next_);
    }
    const int flags = MSG_NOSIGNAL | (message->end_of_record ? MSG_EOR : 0);
    const ssize_t n = send(fd_, message->bytes.data(), message->bytes.size(), flags);
    {
      absl::MutexLock lock(&mutex_);
      failed_ = n < 0;
    }
    const uint64_t one = 1;
    // Cannot fail: at most one message is under way.
    if (write(done_.get(), &one, sizeof(one)) < 0) return;
  }
}

}  // namespace argosy::vhost_user
