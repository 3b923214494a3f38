// SPDX-License-Identifier: Apache-2.0
// File: sim/server.h
//
// The simulated machine as a service on a UNIX socket: programs join a domain and get descriptors.
// See control.h for the protocol, program_socket.h for the data.
//
// One thread.  Nothing blocks it: every descriptor is used without waiting, what a program does not
// take is dropped or kept within bounds, and a program that breaks the protocol is disconnected
// alone.
#ifndef ARGOSY_SIM_SERVER_H_
#define ARGOSY_SIM_SERVER_H_

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "sim/control.h"
#include "sim/machine.h"
#include "sim/program_socket.h"
#include "transport/event_loop.h"
#include "transport/unique_fd.h"
#include "transport/unix_listener.h"

namespace argosy::sim {

class Server : public SocketOwner {
 public:
  // Control connections at once; each program has one.
  static constexpr size_t kMaxClients = 4096;
  // Sockets, listeners and datagram sockets of one program: with both ends of 4096 connections it has half of the default
  // budget.
  static constexpr size_t kMaxSocketsPerClient = 8192;
  // With those that have ended and that it may ask about.
  static constexpr size_t kMaxKnownPerClient = 65536;

  // `machine` and `loop` outlive the server.
  Server(Machine& machine, EventLoop& loop);
  ~Server() override;

  // Listens at `path`.  Errors of UnixListener::Create().
  absl::Status Start(const std::string& path);

  // Lets the domains handle what is pending; then waits for events, until `until` at most, and
  // handles one round.
  absl::Status RunOnce(absl::Time until = absl::InfiniteFuture());

  // Says goodbye to every program and removes the socket.
  void Stop(absl::string_view reason);

 private:
  class Client;
  class Acceptor;
  template <typename T>
  using Owned = absl::flat_hash_map<T*, std::unique_ptr<T>>;

  // Takes an object in, as its program's.
  template <typename T>
  void Own(Owned<T>& all, std::unique_ptr<T> object);
  // Takes an object out; it is destroyed when the loop can reach it no more.
  template <typename T>
  void Retire(Owned<T>& all, T* object);
  template <typename T>
  void RetireAll(Owned<T>& all, const Domain& domain);

  void AcceptClients();
  // Logs, at most once a second.
  void Warn(absl::string_view text);
  static absl::Status CheckLimits(const Client& client);
  void Dispatch(Client& client, const control::Request& request, UniqueFd fd);
  void Hello(Client& client, const control::Request& request);
  void Connect(Client& client, const control::Request& request, UniqueFd fd);
  // Checks what listeners and datagram sockets share; an error was told on `fd`.
  absl::Status CheckBind(const Client& client, const control::Request& request, const UniqueFd& fd);
  void Listen(Client& client, const control::Request& request, UniqueFd fd);
  void BindDatagram(Client& client, const control::Request& request, UniqueFd fd);
  void Finish(Client& client, const control::Request& request);
  void Resolve(Client& client, const control::Request& request);
  void Command(Client& client, const control::Request& request);
  absl::Status RunCommand(control::Verb verb, const std::string& name);
  // Ends everything of a domain, then the domain.
  absl::Status KillDomain(Domain& domain);
  void Disconnect(Client& client);

  // SocketOwner
  void SocketEnded(ProgramSocket* socket, int error, absl::string_view message) override;
  ProgramSocket* SocketArrived(ProgramListener* listener, packet::Connection& connection) override;
  void ListenerClosed(ProgramListener* listener) override;
  void DatagramClosed(ProgramDatagram* datagram) override;

  Machine& machine_;
  EventLoop& loop_;
  std::unique_ptr<Acceptor> acceptor_;
  uint64_t next_client_ = 1;
  absl::Time retry_accept_ = absl::InfiniteFuture();
  absl::Time next_warning_ = absl::InfinitePast();
  uint32_t next_accepted_ = control::kDaemonIds;
  absl::flat_hash_map<uint64_t, std::unique_ptr<Client>> clients_;
  Owned<ProgramSocket> sockets_;
  Owned<ProgramListener> listeners_;
  Owned<ProgramDatagram> datagrams_;
};

}  // namespace argosy::sim

#endif  // ARGOSY_SIM_SERVER_H_
