// SPDX-License-Identifier: Apache-2.0
#include "hatch/message_sender.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cerrno>

#include "absl/memory/memory.h"
#include "transport/error.h"

namespace argosy::hatch {
namespace {

struct Result {
  ssize_t sent;
  int error;
};

// Years.  Without a time-out the kernel begins a send() that SIGSTOP broke off again by itself, with
// the whole message; with one it is EINTR.
constexpr timeval kSendTimeout = {100'000'000, 0};

}  // namespace

absl::StatusOr<std::unique_ptr<MessageSender>> MessageSender::Start(int socket) {
  if (setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &kSendTimeout, sizeof(kSendTimeout)) != 0) {
    return SystemError(errno, "SO_SNDTIMEO");
  }
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
    return SystemError(errno, "socketpair");
  }
  auto sender = absl::WrapUnique(new MessageSender(socket, UniqueFd(pair[0]), UniqueFd(pair[1])));
  const auto run = [](void* self) -> void* {
    static_cast<MessageSender*>(self)->Run();
    return nullptr;
  };
  if (int err = pthread_create(&sender->thread_, nullptr, run, sender.get()); err != 0) {
    sender->channel_.reset();  // says that there is no thread
    return SystemError(err, "cannot start a thread");
  }
  return sender;
}

MessageSender::~MessageSender() {
  if (!channel_.valid()) return;
  // Wakes a send() that waits.  An error means that the connection is over, which it has noticed.
  if (under_way_) (void)shutdown(socket_, SHUT_WR);
  channel_.reset();
  pthread_join(thread_, nullptr);
}

ssize_t MessageSender::Send(absl::Span<const uint8_t> message) {
  if (!under_way_) {
    if (send(fd(), &message, sizeof(message), MSG_NOSIGNAL) < 0) return -1;
    under_way_ = true;
  }
  Result result;
  if (recv(fd(), &result, sizeof(result), MSG_DONTWAIT) < 0) return -1;
  under_way_ = false;
  errno = result.error;
  return result.sent;
}

void MessageSender::Run() {
  // A signal would end send() in the middle of a message.
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
  absl::Span<const uint8_t> message;
  while (recv(thread_channel_.get(), &message, sizeof(message), 0) > 0) {
    Result result;
    result.sent = send(socket_, message.data(), message.size(), MSG_NOSIGNAL);
    result.error = errno;
    if (send(thread_channel_.get(), &result, sizeof(result), MSG_NOSIGNAL) < 0) return;
  }
}

}  // namespace argosy::hatch
