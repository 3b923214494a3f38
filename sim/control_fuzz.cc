// SPDX-License-Identifier: Apache-2.0
// A whole daemon in this process against programs whose records, descriptors and hang-ups the input
// chooses.  Whatever they do, a connection between two other domains passes a byte afterwards.
//
// The input is a row of steps; see Step().
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "sim/control.h"
#include "sim/machine.h"
#include "sim/server.h"
#include "spdlog/spdlog.h"
#include "transport/packet/wire.h"
#include "transport/unique_fd.h"
#include "transport/unix_socket.h"

namespace argosy::sim {
namespace {

using control::Kind;
using control::Request;

void Must(bool ok) {
  if (!ok) abort();
}

class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool empty() const { return size_ == 0; }
  uint8_t Byte() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }
  // Up to n bytes.
  std::string Bytes(size_t n) {
    std::string out;
    while (n-- > 0 && size_ > 0) out.push_back(static_cast<char>(Byte()));
    return out;
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

class World {
 public:
  World() : machine_({.buffer_budget = 8 << 20}), server_(machine_, loop_) {
    for (uint16_t id = 0; id < 4; ++id) Must(machine_.Create({.domid = id}).ok());
    path_ = "/tmp/argosy-fuzz-" + std::to_string(getpid()) + ".sock";
    Must(server_.Start(path_).ok());
    Pump();
    // dom0 listens, dom3 connects.
    listener_program_ = Join("dom0");
    Request listen = Make(Kind::kListen, 1);
    listen.port = 5000;
    listen.backlog = 1;
    channel_ = Ask(listener_program_, listen, SOCK_SEQPACKET);
    control::ListenResult listening;
    Must(recv(channel_.get(), &listening, sizeof(listening), MSG_DONTWAIT) == sizeof(listening));
    Must(listening.error == 0);
    client_program_ = Join("dom3");
    Request connect = Make(Kind::kConnect, 2);
    connect.cid = 2;
    connect.port = 5000;
    connect.local_port = 0xFFFFFFFF;
    connect.timeout_ms = 60000;
    near_ = Ask(client_program_, connect, SOCK_STREAM);
    control::ConnectResult connected;
    Must(recv(near_.get(), &connected, sizeof(connected), MSG_DONTWAIT) == sizeof(connected));
    Must(connected.error == 0);
    far_ = TakeDescriptor(channel_.get());
    for (UniqueFd& program : programs_) program = Dial();
  }

  ~World() { server_.Stop("the end"); }

  void Step(Input& in) {
    const uint8_t what = in.Byte();
    UniqueFd& program = programs_[(what >> 3) % 3];
    switch (what & 7) {
      case 0:
      case 1:
      case 2: {  // a request with fields of the input
        Request request = Make(static_cast<Kind>(1 + in.Byte() % 8), in.Byte() % 8);
        request.cid = in.Byte() % 8;
        request.port = in.Byte() % 4 == 0 ? 0xFFFFFFFF : 5000 + in.Byte() % 4;
        request.local_port = in.Byte() % 2 == 0 ? 0xFFFFFFFF : in.Byte() * 256u;
        request.timeout_ms = in.Byte();
        request.backlog = in.Byte() - 100;
        request.type = in.Byte() % 2 == 0 ? VSOCK_TYPE_STREAM : VSOCK_TYPE_SEQPACKET;
        request.verb = static_cast<control::Verb>(1 + in.Byte() % 6);
        static constexpr const char* kNames[] = {"dom1", "dom2", "", "nobody", "dom1"};
        control::SetText(request.name, kNames[in.Byte() % 5]);
        const int type = in.Byte() % 4 == 0 ? SOCK_DGRAM
                         : request.kind == Kind::kConnect && request.type == VSOCK_TYPE_STREAM
                             ? SOCK_STREAM
                             : SOCK_SEQPACKET;
        sockets_.push_back(SendRequest(program.get(), request, in.Byte() % 8 == 0 ? -1 : type));
        break;
      }
      case 3: {  // any record
        const std::string bytes = in.Bytes(in.Byte());
        send(program.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        break;
      }
      case 4:
        program = Dial();
        break;
      case 5:  // data, or nonsense on a listener's channel
        if (!sockets_.empty()) {
          const std::string bytes(in.Byte() * 16, 'd');
          send(sockets_[in.Byte() % sockets_.size()].get(), bytes.data(), bytes.size(),
               MSG_DONTWAIT | MSG_NOSIGNAL);
        }
        break;
      case 6:
        if (!sockets_.empty()) {
          const size_t i = in.Byte() % sockets_.size();
          const uint8_t how = in.Byte() % 4;
          if (how < 3) {
            shutdown(sockets_[i].get(), how);
          } else {
            sockets_.erase(sockets_.begin() + i);
          }
        }
        break;
      case 7:  // read, and keep the descriptors that come along
        if (!sockets_.empty()) {
          UniqueFd fd = TakeDescriptor(sockets_[in.Byte() % sockets_.size()].get());
          if (fd.valid()) sockets_.push_back(std::move(fd));
        }
        break;
    }
    Pump();
    if (sockets_.size() > 64) sockets_.erase(sockets_.begin());
  }

  void ExpectBystanderAlive() {
    char byte = 'b';
    Must(send(near_.get(), &byte, 1, MSG_NOSIGNAL) == 1);
    byte = 0;
    for (int i = 0; i < 100 && recv(far_.get(), &byte, 1, MSG_DONTWAIT) != 1; ++i) Pump();
    Must(byte == 'b');
  }

 private:
  static Request Make(Kind kind, uint32_t id) {
    Request request;
    request.kind = kind;
    request.id = id;
    request.version = control::kVersion;
    request.type = VSOCK_TYPE_STREAM;
    return request;
  }

  void Pump() {
    for (int i = 0; i < 6; ++i) Must(server_.RunOnce(absl::InfinitePast()).ok());
  }

  UniqueFd Dial() {
    UniqueFd fd = ConnectUnix(path_, SOCK_SEQPACKET).value();
    Pump();
    return fd;
  }

  UniqueFd Join(const char* domain) {
    UniqueFd fd = Dial();
    Request hello = Make(Kind::kHello, 9);
    control::SetText(hello.name, domain);
    Must(send(fd.get(), &hello, sizeof(hello), 0) == sizeof(hello));
    Pump();
    return fd;
  }

  // Sends a request, with one end of a new pair of this type (-1: without); returns the other.
  UniqueFd SendRequest(int program, const Request& request, int type) {
    int pair[2] = {-1, -1};
    if (type >= 0) Must(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair) == 0);
    UniqueFd ours(pair[0]), theirs(pair[1]);
    control::SendRecord(program, control::Bytes(request), theirs.get(), MSG_DONTWAIT);
    return ours;
  }

  UniqueFd Ask(const UniqueFd& program, const Request& request, int type) {
    UniqueFd ours = SendRequest(program.get(), request, type);
    Pump();
    return ours;
  }

  // One record from a channel; acknowledges a connection as a program does.
  static UniqueFd TakeDescriptor(int channel) {
    control::Incoming incoming;
    UniqueFd fd;
    bool truncated;
    auto* const bytes = reinterpret_cast<uint8_t*>(&incoming);
    control::ReceiveRecord(channel, absl::MakeSpan(bytes, sizeof(incoming)), &fd, &truncated);
    if (!fd.valid()) return fd;
    const control::AcceptAck ack = {incoming.id};
    send(channel, &ack, sizeof(ack), MSG_DONTWAIT | MSG_NOSIGNAL);
    return fd;
  }

  std::string path_;
  EventLoop loop_;
  Machine machine_;
  Server server_;
  UniqueFd listener_program_, client_program_, channel_, near_, far_;
  UniqueFd programs_[3];
  std::vector<UniqueFd> sockets_;
};

}  // namespace
}  // namespace argosy::sim

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  spdlog::set_level(spdlog::level::off);
  argosy::sim::Input in(data, size);
  argosy::sim::World world;
  for (int steps = 0; steps < 64 && !in.empty(); ++steps) world.Step(in);
  world.ExpectBystanderAlive();
  return 0;
}
