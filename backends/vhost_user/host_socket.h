// SPDX-License-Identifier: Apache-2.0
// File: backends/vhost_user/host_socket.h
//
// A socket of the host on one side, a connection of the guest on the other.
//
//   host to guest:  recvmsg() into the guest's buffers (VsockDevice::Room)
//   guest to host:  one sendmsg() for all that a pass over the tx ring had for this socket
//
// What a host program has not read stays in the connection, bounded by credit; what a pass wrote and
// the socket did not take is kept here, at most what one pass brings.  What the connection cannot send
// stays in the host's socket, but for one message, whose size is known only once it is read.
//
//   client of the host   reading the line (connect_line.h) -> connecting -> open
//   ... over AF_VSOCK    connecting -> open
//   from the guest       open
//   ... over AF_VSOCK    dialing -> open
//
// A clean end is passed on as shutdown() or close(); neither AF_UNIX nor AF_VSOCK has a word for a
// reset that a program could say, so a reset closes the socket, too.  The other way round, a reset
// of AF_VSOCK reads like the close of a program.
//
// One thread, the loop's; nothing here waits.
#ifndef ARGOSY_BACKENDS_VHOST_USER_HOST_SOCKET_H_
#define ARGOSY_BACKENDS_VHOST_USER_HOST_SOCKET_H_

#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "backends/vhost_user/message_writer.h"
#include "backends/vhost_user/vsock_device.h"
#include "transport/event_loop.h"
#include "transport/packet/connection.h"
#include "transport/unique_fd.h"

namespace argosy::vhost_user {

class HostSocket;

class HostSocketOwner {
 public:
  virtual ~HostSocketOwner() = default;
  // A client asks for a port of the guest; the connection's user is the socket.
  virtual absl::StatusOr<packet::Connection*> ConnectGuest(HostSocket* socket, uint32_t port) = 0;
  // The client has sent its line, or will not.
  virtual void LineEnded(HostSocket* socket) = 0;
  // It is over: the owner retires the socket, which does nothing more.
  virtual void SocketEnded(HostSocket* socket) = 0;
};

class HostSocket : public EventLoop::Handler,
                   public packet::ConnectionUser,
                   public VsockDevice::PassUser {
 public:
  // `domain` is AF_UNIX or AF_VSOCK; `type` is VSOCK_TYPE_*, of both sides.
  HostSocket(EventLoop& loop, HostSocketOwner& owner, VsockDevice& device, UniqueFd fd, int domain,
             uint16_t type)
      : loop_(loop),
        owner_(owner),
        device_(device),
        fd_(std::move(fd)),
        domain_(domain),
        type_(type) {}

  uint16_t type() const { return type_; }

  // A client that has been accepted and must send its line.  The error is epoll's.
  absl::Status ReadLine();
  // A client that has been accepted, and wants this port of the guest.  The error is epoll's.
  absl::Status AskForPort(uint32_t port);
  // The host's end of a connection that the guest asked for, which answers later
  // (Connection::AnswerLater): the socket is connecting.  The error is epoll's.
  absl::Status Dial(packet::Connection* connection);
  // The host's end of a connection that the guest asked for.  The error is epoll's.
  absl::Status Open(packet::Connection* connection);
  // Ends it now, the guest's side by a reset.
  void GiveUp();

  // EventLoop::Handler
  void OnEvents(uint32_t events) override;
  void OnTurn() override { Pump(); }

  // packet::ConnectionUser
  void OnConnected(packet::Connection& connection) override;
  size_t OnData(packet::Connection& connection, const packet::Payload& data) override;
  bool OnMessage(packet::Connection& connection, const packet::Payload& message,
                 bool end_of_record) override;
  void OnCanSend(packet::Connection& connection) override;
  void OnPeerFinished(packet::Connection& connection) override;
  void OnPeerStoppedReading(packet::Connection& connection) override;
  void OnEnded(packet::Connection& connection, packet::End end) override;

  // VsockDevice::PassUser
  void OnPassEnded() override { WritePending(); }

 private:
  enum class State {
    kLine,
    kConnecting,  // the guest must answer
    kDialing,     // the host must
    kOpen,
    kEnding,  // the connection is over; what it brought is still to be written
    kEnded,
  };

  struct Message {
    std::vector<uint8_t> bytes;
    bool end_of_record;
  };

  void Finish();
  void TakeLine();
  void AskGuest(uint32_t port);
  // The host has answered, if `events` say so.
  void OnDialed(uint32_t events);
  // Moves what the host's program wrote, until the socket is empty, or credit is used up, or others
  // have their turn.
  void Pump();
  // One read; bytes moved, or -1: nothing more can be done now.
  ssize_t PumpStream();
  ssize_t PumpMessage();
  // Into message_; if there is none, the result is that of the above.
  ssize_t ReadMessage();
  ssize_t ReadFailed(int error);
  void EndOfInput();
  // Whether the host's program has closed its socket.  Not once we have shut down writing.
  bool PeerIsGone() const;
  // Bytes written, or -1: there is no room, or the program is gone (write_failed_).  The loop tells
  // when there is room again.
  ssize_t Write(const iovec* pieces, size_t count, size_t bytes);
  void WritePending();
  void WriteBacklog();
  void OnMessageWritten(bool ok);
  bool AllWritten() const { return backlog_.empty() && (writer_ == nullptr || !writer_->busy()); }
  // What waited for that.
  void AfterAllWritten();
  void EndOutput();

  EventLoop& loop_;
  HostSocketOwner& owner_;
  VsockDevice& device_;
  UniqueFd fd_;
  const int domain_;
  const uint16_t type_;
  State state_ = State::kLine;
  packet::Connection* connection_ = nullptr;
  uint32_t port_ = 0;  // that a client asked for
  bool can_read_ = true;
  bool can_write_ = true;
  bool end_is_near_ = false;  // an event told of a hang-up: read until end-of-file
  bool input_ended_ = false;
  bool lost_unread_ = false;    // the program closed with messages unread
  bool output_ending_ = false;  // end-of-file follows what is left to write
  bool write_failed_ = false;   // the host's program is gone
  std::vector<iovec> pending_;  // guest memory, until the pass ends
  size_t pending_bytes_ = 0;
  std::vector<uint8_t> backlog_;  // what the socket did not take
  size_t backlog_written_ = 0;
  std::unique_ptr<MessageWriter> writer_;  // of AF_VSOCK's SEQPACKET
  std::optional<Message> message_;         // for the guest
};

}  // namespace argosy::vhost_user

#endif  // ARGOSY_BACKENDS_VHOST_USER_HOST_SOCKET_H_
