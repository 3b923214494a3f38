// SPDX-License-Identifier: Apache-2.0
// File: transport/conformance/far_end.h
//
// The script's hold of the far end: each call is done there by an agent (agent.h), and returns with
// its answer.
//
//   absl::StatusOr<FarListener> listener = far.Listen(SocketType::kStream);
//   ... connect here, to {far.cid(), listener->port} ...
//   absl::StatusOr<FarSocket> accepted = far.Accept(*listener);
//   far.Send(*accepted, "hello");
//
// What takes long is started, so that both ends are at work, and awaited later:
//
//   Pending<absl::StatusOr<Received>> receives = far.StartReceivePattern(*accepted, {1 << 30});
//   ... send here ...
//   absl::StatusOr<Received> received = receives.Get();
//
// Every call: the errno and the message of the far end, or ENOTCONN (the agent hung up).  What is
// opened there is closed with the FarEnd at the latest.  One thread.
#ifndef ARGOSY_TRANSPORT_CONFORMANCE_FAR_END_H_
#define ARGOSY_TRANSPORT_CONFORMANCE_FAR_END_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "transport/conformance/agent.h"
#include "transport/conformance/pattern.h"
#include "transport/conformance/protocol.h"
#include "transport/transport.h"

namespace argosy::conformance {

// A case that waits so long has failed.
inline constexpr absl::Duration kPatience = absl::Seconds(60);

struct FarListener {
  uint64_t id = 0;
  uint32_t port = 0;
};

struct FarSocket {
  uint64_t id = 0;
  Address local;
  Address peer;
  SocketType type = SocketType::kStream;
  bool blocks = false;
  bool close_on_exec = false;
};

struct FarDatagramSocket {
  uint64_t id = 0;
  uint32_t port = 0;
};

// A process that holds a connection.
struct FarChild {
  uint64_t id = 0;
};

struct FarDatagram {
  size_t size = 0;
  Address from;
  bool matches = true;  // is the beginning of Pattern{size}
  std::string text;     // the first 2048 bytes
};

struct FarMessage {
  size_t size = 0;      // of the message, also if it was cut
  bool matches = true;  // what was kept is that of the pattern
  int flags = 0;        // msg_flags
};

struct FarText {
  std::string text;  // "": end-of-file (or an empty message)
  size_t size = 0;   // as recvmsg() returned it
  int flags = 0;     // msg_flags
};

class FarEnd;

// The answer to a command that runs at the far end meanwhile.
template <typename T>
class Pending {
 public:
  // Waits for it.  Once.
  T Get() { return get_(); }

 private:
  friend class FarEnd;
  explicit Pending(std::function<T()> get) : get_(std::move(get)) {}
  std::function<T()> get_;
};

class FarEnd {
 public:
  // An agent in this process.  Errors of AgentThread::Start() and LocalCid().
  static absl::StatusOr<std::unique_ptr<FarEnd>> OnThread(std::unique_ptr<Transport> transport);
  // An agent elsewhere, at the other end of `control`.
  static absl::StatusOr<std::unique_ptr<FarEnd>> Over(Socket control);

  uint32_t cid() const { return cid_; }

  absl::StatusOr<FarListener> Listen(SocketType type, uint32_t port = kPortAny, int backlog = 128);
  // EAGAIN: none came within `wait`.
  absl::StatusOr<FarSocket> Accept(FarListener listener, absl::Duration wait = kPatience);
  absl::StatusOr<FarSocket> Connect(Address peer, SocketType type,
                                    const ConnectOptions& options = {});
  Pending<absl::StatusOr<FarSocket>> StartConnect(Address peer, SocketType type,
                                                  const ConnectOptions& options = {});

  // One send() and what it returned.
  absl::StatusOr<size_t> Send(const FarSocket& socket, absl::string_view text, int flags = 0);
  // One recvmsg() into `size` bytes, 2048 at most.
  absl::StatusOr<FarText> Receive(const FarSocket& socket, size_t size = 256, int flags = 0);
  Pending<absl::StatusOr<FarText>> StartReceive(const FarSocket& socket, size_t size = 256,
                                                int flags = 0);
  // Text of one receive; "errno N" if it failed.
  std::string ReadSome(const FarSocket& socket);

  // All of a pattern, in pieces of `chunk`: on a SEQPACKET socket, messages of that size.
  absl::Status SendPattern(const FarSocket& socket, Pattern pattern, uint64_t chunk = kChunk);
  Pending<absl::Status> StartSendPattern(const FarSocket& socket, Pattern pattern,
                                         uint64_t chunk = kChunk);
  // See ReceivePattern().
  absl::StatusOr<Received> ReceivePattern(const FarSocket& socket, Pattern pattern,
                                          uint64_t chunk = kChunk);
  Pending<absl::StatusOr<Received>> StartReceivePattern(const FarSocket& socket, Pattern pattern,
                                                        uint64_t chunk = kChunk);
  // One message, into a buffer of the pattern's size.
  absl::StatusOr<FarMessage> ReceiveMessage(const FarSocket& socket, Pattern pattern);

  absl::Status Shutdown(const FarSocket& socket, int how);
  // Socket::Finish().
  absl::Status Finish(const FarSocket& socket, absl::Duration wait = kPatience);
  Pending<absl::Status> StartFinish(const FarSocket& socket, absl::Duration wait = kPatience);
  // The events that came within `wait`: 0 if none did.
  absl::StatusOr<short> Poll(const FarSocket& socket, short events, absl::Duration wait);

  absl::Status Close(const FarSocket& socket) { return Close(socket.id); }
  Pending<absl::Status> StartClose(const FarSocket& socket);
  absl::Status Close(const FarListener& listener) { return Close(listener.id); }
  absl::Status Close(const FarDatagramSocket& socket) { return Close(socket.id); }

  // Gives a connection to a process that does nothing with it.  `socket` is gone.
  absl::StatusOr<FarChild> Hold(const FarSocket& socket);
  // Kills it.
  absl::Status Kill(FarChild child);

  absl::StatusOr<FarDatagramSocket> BindDatagram(uint32_t port = kPortAny);
  absl::Status SendTo(FarDatagramSocket socket, absl::string_view text, Address to);
  // One datagram, of which `buffer` bytes are looked at.  EAGAIN: none came within `wait`.
  absl::StatusOr<FarDatagram> ReceiveFrom(FarDatagramSocket socket, size_t buffer = 2048,
                                          absl::Duration wait = kPatience);

 private:
  explicit FarEnd(int control) : channel_(control) {}
  absl::Status Hello();

  // Sends a command; returns its tag, 0 if the agent is gone.
  uint64_t Start(bool background, absl::string_view verb, std::initializer_list<uint64_t> numbers,
                 absl::string_view bytes = "");
  // Waits for the answer; answers to other commands are kept for them.  At least `numbers` numbers
  // behind the errno.
  absl::StatusOr<Message> Await(uint64_t tag, size_t numbers);
  absl::StatusOr<Message> Do(absl::string_view verb, size_t results,
                             std::initializer_list<uint64_t> numbers, absl::string_view bytes = "");
  absl::Status Close(uint64_t id);
  uint64_t StartConnecting(bool background, Address peer, SocketType type,
                           const ConnectOptions& options);
  absl::StatusOr<FarSocket> AwaitSocket(uint64_t tag);
  absl::StatusOr<FarText> AwaitText(uint64_t tag);
  absl::Status AwaitSent(uint64_t tag, Pattern pattern);
  absl::StatusOr<Received> AwaitReceived(uint64_t tag);

  std::unique_ptr<AgentThread> thread_;
  std::optional<Socket> control_;
  MessageChannel channel_;
  uint32_t cid_ = 0;
  uint64_t last_tag_ = 0;
  std::map<uint64_t, Message> answers_;  // that nobody has asked for yet
};

}  // namespace argosy::conformance

#endif  // ARGOSY_TRANSPORT_CONFORMANCE_FAR_END_H_
