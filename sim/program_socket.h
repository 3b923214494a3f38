// SPDX-License-Identifier: Apache-2.0
// File: sim/program_socket.h
//
// The daemon's end of a program's descriptors: AF_UNIX on one side, the domain's endpoint on the
// other.
//
//   ProgramSocket    a connection: bytes or messages
//   ProgramListener  a listener: hands over accepted connections, one at a time
//   ProgramDatagram  a datagram socket: records with a DatagramHeader
//
// Nothing is buffered here.  What the program has not read stays in the connection (bounded by
// credit); what the connection cannot send stays in the AF_UNIX socket.
#ifndef ARGOSY_SIM_PROGRAM_SOCKET_H_
#define ARGOSY_SIM_PROGRAM_SOCKET_H_

#include <sys/types.h>
#include <cstddef>

#include <cstdint>
#include <deque>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "sim/control.h"
#include "sim/domain.h"
#include "transport/event_loop.h"
#include "transport/packet/endpoint.h"
#include "transport/unique_fd.h"

namespace argosy::sim {

class ProgramDatagram;
class ProgramListener;
class ProgramSocket;

// The first record on the channel of a listener or a datagram socket.
void SendListenResult(int fd, const absl::Status& status, uint32_t port);

// What the sockets ask of the server.
class SocketOwner {
 public:
  virtual ~SocketOwner() = default;
  // The connection ended (errno 0: cleanly).  The server takes the socket away; the caller touches
  // it no more.
  virtual void SocketEnded(ProgramSocket* socket, int error, absl::string_view message) = 0;
  // A connection arrived at a listener; returns its socket, which the server owns.
  virtual ProgramSocket* SocketArrived(ProgramListener* listener,
                                       packet::Connection& connection) = 0;
  // The program closed its end.
  virtual void ListenerClosed(ProgramListener* listener) = 0;
  virtual void DatagramClosed(ProgramDatagram* datagram) = 0;
};

class ProgramSocket : public EventLoop::Handler, public packet::ConnectionUser {
 public:
  // `client` and `id`: by what name the program knows it.
  ProgramSocket(EventLoop& loop, SocketOwner& owner, Domain& domain, uint64_t client, uint32_t id)
      : loop_(loop), owner_(owner), domain_(domain), client_(client), id_(id) {}

  Domain& domain() { return domain_; }
  uint64_t client() const { return client_; }
  uint32_t id() const { return id_; }
  const packet::Connection* connection() const { return connection_; }
  // Set when the connection exists.
  void set_connection(packet::Connection* connection) { connection_ = connection; }
  // Which listener it waits at, or null.
  void set_listener(ProgramListener* listener) { listener_ = listener; }

  // Checks a descriptor that a program sent (EINVAL: no AF_UNIX socket of that type) and sets its
  // buffer so that a largest message fits.  `type` is VSOCK_TYPE_*.
  static absl::Status PrepareDescriptor(int fd, uint16_t type);
  // Starts to move data between the connection and `fd`.
  absl::Status Attach(UniqueFd fd);
  // Resets the connection.
  void GiveUp();
  // The program took it from its listener.
  void Accepted();
  // Answers on the descriptor of a connect that failed before there was a connection.
  static void Refuse(const UniqueFd& fd, int error, absl::string_view message);
  // The domain is gone: the connection must not be touched any more.
  void Abandon() { connection_ = nullptr; }

  // EventLoop::Handler
  void OnEvents(uint32_t events) override;
  void OnTurn() override;

  // packet::ConnectionUser
  void OnConnected(packet::Connection& connection) override;
  size_t OnData(packet::Connection& connection, const packet::Payload& data) override;
  bool OnMessage(packet::Connection& connection, const packet::Payload& message,
                 bool end_of_record) override;
  void OnCanSend(packet::Connection& connection) override;
  void OnPeerFinished(packet::Connection& connection) override;
  void OnPeerStoppedReading(packet::Connection& connection) override;
  void OnEnded(packet::Connection& connection, packet::End end) override;

 private:
  void PumpIn();
  // One read from the program; bytes moved, or -1: nothing more can be done now.
  ssize_t PumpStream();
  ssize_t PumpMessage();
  // What recv() answered other than bytes; -1, or 0 to read again.
  ssize_t ReadFailed(int error);
  void EndOfInput();
  // End-of-file for the program, behind what it has not read.
  void EndOutput();
  void ConfirmIfRead();
  // One write to the program; bytes taken, or -1 with nothing taken.
  ssize_t Write(const packet::Payload& data);

  EventLoop& loop_;
  SocketOwner& owner_;
  Domain& domain_;
  const uint64_t client_;
  const uint32_t id_;
  packet::Connection* connection_ = nullptr;
  ProgramListener* listener_ = nullptr;
  UniqueFd fd_;
  bool connected_ = false;
  bool can_read_ = false;
  bool can_write_ = false;
  bool input_ended_ = false;
  bool output_shut_ = false;  // by us: end-of-file for the program
  bool lost_unread_ = false;  // the program closed with data unread
};

class ProgramListener : public EventLoop::Handler, public packet::ListenerUser {
 public:
  ProgramListener(EventLoop& loop, SocketOwner& owner, Domain& domain, uint64_t client,
                  uint16_t type, UniqueFd channel)
      : loop_(loop),
        owner_(owner),
        domain_(domain),
        client_(client),
        type_(type),
        channel_(std::move(channel)) {}
  // The endpoint's listener must be stopped before (unless the domain is gone).
  ~ProgramListener() override = default;

  Domain& domain() { return domain_; }
  uint64_t client() const { return client_; }
  uint32_t port() const { return port_; }

  // Listens and answers on the channel.  On an error the program was told; drop the object.
  absl::Status Start(uint32_t port, int backlog);
  // A connection that waited here has ended.
  void Forget(ProgramSocket* socket);

  void OnEvents(uint32_t events) override;
  packet::ConnectionUser* OnIncoming(packet::Connection& connection) override;

 private:
  void HandOver();

  EventLoop& loop_;
  SocketOwner& owner_;
  Domain& domain_;
  const uint64_t client_;
  const uint16_t type_;
  UniqueFd channel_;
  uint32_t port_ = 0;
  ProgramSocket* handed_over_ = nullptr;  // until its AcceptAck
  bool ack_expected_ = false;
  std::deque<ProgramSocket*> waiting_;
};

class ProgramDatagram : public EventLoop::Handler, public packet::DatagramUser {
 public:
  ProgramDatagram(EventLoop& loop, SocketOwner& owner, Domain& domain, uint64_t client,
                  UniqueFd channel)
      : loop_(loop),
        owner_(owner),
        domain_(domain),
        client_(client),
        channel_(std::move(channel)) {}

  Domain& domain() { return domain_; }
  uint64_t client() const { return client_; }
  uint32_t port() const { return port_; }
  absl::Status Start(uint32_t port);

  void OnEvents(uint32_t events) override;
  void OnTurn() override { Pump(); }
  bool OnDatagram(Address from, const packet::Payload& datagram) override;

 private:
  void Pump();

  EventLoop& loop_;
  SocketOwner& owner_;
  Domain& domain_;
  const uint64_t client_;
  UniqueFd channel_;
  uint32_t port_ = 0;
};

}  // namespace argosy::sim

#endif  // ARGOSY_SIM_PROGRAM_SOCKET_H_
