// SPDX-License-Identifier: Apache-2.0
#include "transport/conformance/far_end.h"

#include <algorithm>
#include <cerrno>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "transport/error.h"

namespace argosy::conformance {
namespace {

uint64_t TypeNumber(SocketType type) { return type == SocketType::kStream ? 0 : 1; }

uint64_t Ms(absl::Duration wait) {
  return static_cast<uint64_t>(std::max<int64_t>(absl::ToInt64Milliseconds(wait), 0));
}

}  // namespace

absl::StatusOr<std::unique_ptr<FarEnd>> FarEnd::OnThread(std::unique_ptr<Transport> transport) {
  absl::StatusOr<std::unique_ptr<AgentThread>> thread = AgentThread::Start(std::move(transport));
  if (!thread.ok()) return thread.status();
  auto far = absl::WrapUnique(new FarEnd((*thread)->control()));
  far->thread_ = *std::move(thread);
  if (absl::Status s = far->Hello(); !s.ok()) return s;
  return far;
}

absl::StatusOr<std::unique_ptr<FarEnd>> FarEnd::Over(Socket control) {
  auto far = absl::WrapUnique(new FarEnd(control.fd()));
  far->control_ = std::move(control);
  if (absl::Status s = far->Hello(); !s.ok()) return s;
  return far;
}

absl::Status FarEnd::Hello() {
  absl::StatusOr<Message> answer = Do("cid", 1, {});
  if (answer.ok()) cid_ = static_cast<uint32_t>(answer->numbers[1]);
  return answer.status();
}

uint64_t FarEnd::Start(bool background, absl::string_view verb,
                       std::initializer_list<uint64_t> numbers, absl::string_view bytes) {
  const Message command = {++last_tag_, background, std::string(verb), numbers, std::string(bytes)};
  return channel_.Write(command).ok() ? command.tag : 0;
}

absl::StatusOr<Message> FarEnd::Await(uint64_t tag, size_t numbers) {
  if (tag == 0) return ErrnoError(ENOTCONN, "the agent at the far end is gone");
  while (answers_.find(tag) == answers_.end()) {
    absl::StatusOr<Message> message = channel_.Read();
    if (!message.ok()) return Annotate(message.status(), "the agent at the far end");
    if (message->verb != "done" || message->numbers.empty()) {
      return ErrnoError(EPROTO, "the far end is no agent of this version");
    }
    const uint64_t answered = message->tag;
    answers_[answered] = *std::move(message);
  }
  Message answer = std::move(answers_.extract(tag).mapped());
  if (answer.numbers[0] != 0) {
    return ErrnoError(static_cast<int>(answer.numbers[0]),
                      absl::StrCat("at the far end: ", answer.bytes));
  }
  if (answer.numbers.size() < numbers + 1) {
    return ErrnoError(EPROTO, "the far end is no agent of this version");
  }
  return answer;
}

absl::StatusOr<Message> FarEnd::Do(absl::string_view verb, size_t results,
                                   std::initializer_list<uint64_t> numbers,
                                   absl::string_view bytes) {
  return Await(Start(false, verb, numbers, bytes), results);
}

absl::StatusOr<FarListener> FarEnd::Listen(SocketType type, uint32_t port, int backlog) {
  absl::StatusOr<Message> answer =
      Do("listen", 2, {TypeNumber(type), port, static_cast<uint64_t>(backlog)});
  if (!answer.ok()) return answer.status();
  return FarListener{answer->numbers[1], static_cast<uint32_t>(answer->numbers[2])};
}

absl::StatusOr<FarSocket> FarEnd::AwaitSocket(uint64_t tag) {
  absl::StatusOr<Message> answer = Await(tag, 8);
  if (!answer.ok()) return answer.status();
  const auto number = [&](int i) { return static_cast<uint32_t>(answer->numbers[i]); };
  return FarSocket{.id = answer->numbers[1],
                   .local = {number(2), number(3)},
                   .peer = {number(4), number(5)},
                   .type = number(6) == 0 ? SocketType::kStream : SocketType::kSeqpacket,
                   .blocks = number(7) != 0,
                   .close_on_exec = number(8) != 0};
}

absl::StatusOr<FarSocket> FarEnd::Accept(FarListener listener, absl::Duration wait) {
  return AwaitSocket(Start(false, "accept", {listener.id, Ms(wait)}));
}

absl::StatusOr<FarSocket> FarEnd::Connect(Address peer, SocketType type,
                                          const ConnectOptions& options) {
  return AwaitSocket(StartConnecting(false, peer, type, options));
}

uint64_t FarEnd::StartConnecting(bool background, Address peer, SocketType type,
                                 const ConnectOptions& options) {
  return Start(background, "connect",
               {peer.cid, peer.port, TypeNumber(type), options.local_port,
                Ms(std::max(options.timeout, kPatience))});
}

Pending<absl::StatusOr<FarSocket>> FarEnd::StartConnect(Address peer, SocketType type,
                                                        const ConnectOptions& options) {
  const uint64_t tag = StartConnecting(true, peer, type, options);
  return Pending<absl::StatusOr<FarSocket>>([this, tag] { return AwaitSocket(tag); });
}

absl::StatusOr<size_t> FarEnd::Send(const FarSocket& socket, absl::string_view text, int flags) {
  absl::StatusOr<Message> answer = Do("send", 1, {socket.id, static_cast<uint64_t>(flags)}, text);
  if (!answer.ok()) return answer.status();
  return answer->numbers[1];
}

absl::StatusOr<FarText> FarEnd::AwaitText(uint64_t tag) {
  absl::StatusOr<Message> answer = Await(tag, 2);
  if (!answer.ok()) return answer.status();
  return FarText{std::move(answer->bytes), answer->numbers[1],
                 static_cast<int>(answer->numbers[2])};
}

absl::StatusOr<FarText> FarEnd::Receive(const FarSocket& socket, size_t size, int flags) {
  return AwaitText(Start(false, "receive", {socket.id, size, static_cast<uint64_t>(flags)}));
}

Pending<absl::StatusOr<FarText>> FarEnd::StartReceive(const FarSocket& socket, size_t size,
                                                      int flags) {
  const uint64_t tag = Start(true, "receive", {socket.id, size, static_cast<uint64_t>(flags)});
  return Pending<absl::StatusOr<FarText>>([this, tag] { return AwaitText(tag); });
}

std::string FarEnd::ReadSome(const FarSocket& socket) {
  absl::StatusOr<FarText> got = Receive(socket);
  return got.ok() ? std::move(got->text) : absl::StrCat("errno ", ErrnoOf(got.status()));
}

absl::Status FarEnd::AwaitSent(uint64_t tag, Pattern pattern) {
  absl::StatusOr<Message> answer = Await(tag, 2);
  if (!answer.ok()) return answer.status();
  if (answer->numbers[1] == pattern.size) return absl::OkStatus();
  return SystemError(
      static_cast<int>(answer->numbers[2]),
      absl::StrCat("at the far end, after ", answer->numbers[1], " of ", pattern.size, " bytes"));
}

absl::Status FarEnd::SendPattern(const FarSocket& socket, Pattern pattern, uint64_t chunk) {
  return AwaitSent(Start(false, "send-pattern", {socket.id, pattern.size, pattern.first, chunk}),
                   pattern);
}

Pending<absl::Status> FarEnd::StartSendPattern(const FarSocket& socket, Pattern pattern,
                                               uint64_t chunk) {
  const uint64_t tag = Start(true, "send-pattern", {socket.id, pattern.size, pattern.first, chunk});
  return Pending<absl::Status>([this, tag, pattern] { return AwaitSent(tag, pattern); });
}

absl::StatusOr<Received> FarEnd::AwaitReceived(uint64_t tag) {
  absl::StatusOr<Message> answer = Await(tag, 4);
  if (!answer.ok()) return answer.status();
  return Received{answer->numbers[1], static_cast<int>(answer->numbers[2]), answer->numbers[3] == 0,
                  answer->numbers[4]};
}

absl::StatusOr<Received> FarEnd::ReceivePattern(const FarSocket& socket, Pattern pattern,
                                                uint64_t chunk) {
  return AwaitReceived(
      Start(false, "receive-pattern", {socket.id, pattern.size, pattern.first, chunk}));
}

Pending<absl::StatusOr<Received>> FarEnd::StartReceivePattern(const FarSocket& socket,
                                                              Pattern pattern, uint64_t chunk) {
  const uint64_t tag =
      Start(true, "receive-pattern", {socket.id, pattern.size, pattern.first, chunk});
  return Pending<absl::StatusOr<Received>>([this, tag] { return AwaitReceived(tag); });
}

absl::StatusOr<FarMessage> FarEnd::ReceiveMessage(const FarSocket& socket, Pattern pattern) {
  absl::StatusOr<Message> answer =
      Do("receive-message", 3, {socket.id, pattern.size, pattern.first});
  if (!answer.ok()) return answer.status();
  return FarMessage{answer->numbers[1], answer->numbers[2] == 0,
                    static_cast<int>(answer->numbers[3])};
}

absl::Status FarEnd::Shutdown(const FarSocket& socket, int how) {
  return Do("shutdown", 0, {socket.id, static_cast<uint64_t>(how)}).status();
}

absl::Status FarEnd::Finish(const FarSocket& socket, absl::Duration wait) {
  return Do("finish", 0, {socket.id, Ms(wait)}).status();
}

Pending<absl::Status> FarEnd::StartFinish(const FarSocket& socket, absl::Duration wait) {
  const uint64_t tag = Start(true, "finish", {socket.id, Ms(wait)});
  return Pending<absl::Status>([this, tag] { return Await(tag, 0).status(); });
}

absl::StatusOr<short> FarEnd::Poll(const FarSocket& socket, short events, absl::Duration wait) {
  absl::StatusOr<Message> answer =
      Do("poll", 1, {socket.id, static_cast<uint16_t>(events), Ms(wait)});
  if (!answer.ok()) return answer.status();
  return static_cast<short>(answer->numbers[1]);
}

absl::Status FarEnd::Close(uint64_t id) { return Do("close", 0, {id}).status(); }

Pending<absl::Status> FarEnd::StartClose(const FarSocket& socket) {
  const uint64_t tag = Start(true, "close", {socket.id});
  return Pending<absl::Status>([this, tag] { return Await(tag, 0).status(); });
}

absl::StatusOr<FarChild> FarEnd::Hold(const FarSocket& socket) {
  absl::StatusOr<Message> answer = Do("hold", 1, {socket.id});
  if (!answer.ok()) return answer.status();
  return FarChild{answer->numbers[1]};
}

absl::Status FarEnd::Kill(FarChild child) { return Do("kill", 0, {child.id}).status(); }

absl::StatusOr<FarDatagramSocket> FarEnd::BindDatagram(uint32_t port) {
  absl::StatusOr<Message> answer = Do("bind-datagram", 2, {port});
  if (!answer.ok()) return answer.status();
  return FarDatagramSocket{answer->numbers[1], static_cast<uint32_t>(answer->numbers[2])};
}

absl::Status FarEnd::SendTo(FarDatagramSocket socket, absl::string_view text, Address to) {
  return Do("send-datagram", 0, {socket.id, to.cid, to.port}, text).status();
}

absl::StatusOr<FarDatagram> FarEnd::ReceiveFrom(FarDatagramSocket socket, size_t buffer,
                                                absl::Duration wait) {
  absl::StatusOr<Message> answer = Do("receive-datagram", 4, {socket.id, buffer, Ms(wait)});
  if (!answer.ok()) return answer.status();
  return FarDatagram{
      answer->numbers[1],
      {static_cast<uint32_t>(answer->numbers[2]), static_cast<uint32_t>(answer->numbers[3])},
      answer->numbers[4] == 0,
      std::move(answer->bytes)};
}

}  // namespace argosy::conformance
