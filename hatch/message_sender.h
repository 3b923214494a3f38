// SPDX-License-Identifier: Apache-2.0
// File: hatch/message_sender.h
//
// Sends messages where a refused one may have gone in part (no refuses_whole_messages: Linux's
// AF_VSOCK).  Only a blocking send() is right there, and only a thread of its own keeps it from
// blocking the other direction.
#ifndef ARGOSY_HATCH_MESSAGE_SENDER_H_
#define ARGOSY_HATCH_MESSAGE_SENDER_H_

#include <pthread.h>
#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "transport/unique_fd.h"

namespace argosy::hatch {

// For one thread, beside its own.
class MessageSender {
 public:
  // `socket`, a SEQPACKET socket without O_NONBLOCK, stays the caller's and must live longer.  It
  // gets an SO_SNDTIMEO.  Errors: those of system calls.
  static absl::StatusOr<std::unique_ptr<MessageSender>> Start(int socket);

  // Gives up a message that is under way: shuts the socket's write side down.
  ~MessageSender();

  MessageSender(const MessageSender&) = delete;
  MessageSender& operator=(const MessageSender&) = delete;

  // As send() on a non-blocking descriptor: -1 and EAGAIN means that fd() is to be polled for
  // POLLIN and Send() to be called again with the same message, whose bytes must stay until then.
  // EINTR: the process was stopped (SIGSTOP) meanwhile; nobody knows how much of the message went,
  // so the connection is of no more use.
  ssize_t Send(absl::Span<const uint8_t> message);
  int fd() const { return channel_.get(); }

 private:
  MessageSender(int socket, UniqueFd channel, UniqueFd thread_channel)
      : socket_(socket), channel_(std::move(channel)), thread_channel_(std::move(thread_channel)) {}
  void Run();

  const int socket_;
  // A SEQPACKET pair: messages to send go one way, what became of them the other; the thread ends
  // with it.
  UniqueFd channel_;
  const UniqueFd thread_channel_;
  pthread_t thread_ = {};
  bool under_way_ = false;
};

}  // namespace argosy::hatch

#endif  // ARGOSY_HATCH_MESSAGE_SENDER_H_
