// SPDX-License-Identifier: Apache-2.0
// A guest that sends what packets it likes through good rings, and programs of the host that write,
// read, half-close and vanish, against a whole machine's device.  Whatever they do: what a program
// reads is what the guest sent on its connection, from the start and without a gap; what the guest
// gets are packets from the host to it; and of a guest that is gone no connection is left.
//
// An input is a row of steps: see Fuzz::Step().
#include "backends/vhost_user/host_vm.h"

#include <sys/socket.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backends/vhost_user/testing/vsock_guest.h"
#include "spdlog/spdlog.h"
#include "transport/testing/listen_unix.h"
#include "transport/testing/temporary_directory.h"
#include "transport/unix_socket.h"

namespace argosy::vhost_user {
namespace {

constexpr uint32_t kCid = 7;
// Of the host's programs that listen: two for streams, one for messages.
constexpr uint32_t kHostPorts[] = {10, 11, 12};
constexpr uint32_t kGuestPort = 100;
// Of no connection.
constexpr uint16_t kUnknownType = 9;

void Check(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "%s\n", what);
  std::abort();
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
  uint16_t Short() {
    const uint16_t low = Byte();
    return static_cast<uint16_t>(low | Byte() << 8);
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

// The host's listeners, the same for all inputs.
struct Host {
  Host() {
    spdlog::set_level(spdlog::level::off);
    for (const uint32_t port : kHostPorts) {
      const int type = port == 12 ? SOCK_SEQPACKET : SOCK_STREAM;
      listeners[port] =
          ListenUnix(absl::StrCat(folder.path(), "/host_", port), type | SOCK_NONBLOCK, 4);
    }
  }
  UniqueFd Accept(uint32_t port) {
    return UniqueFd(accept4(listeners[port].get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  }

  TemporaryDirectory folder;
  std::map<uint32_t, UniqueFd> listeners;
};

// A program of the host, and the guest's end of its connection.
struct Program {
  UniqueFd fd;
  uint32_t guest_port = 0;  // 0: a client
  uint32_t host_port = 0;
  uint8_t seed = 0;
  size_t sent = 0;  // by the guest
  size_t got = 0;   // by the program
};

// The byte of a stream at this place.
char Pattern(uint8_t seed, size_t at) { return static_cast<char>(at * 31 + at / 251 + seed * 7); }

class Fuzz {
 public:
  Fuzz(Host& host, Input in) : host_(host), in_(in) {
    auto vm = HostVm::Create(loop_, siblings_,
                             {.guest_cid = kCid,
                              .socket = host_.folder.path() + "/vmm",
                              .uds_path = host_.folder.path() + "/host",
                              .tx_buffer_size = 16384,
                              .max_connections = 8});
    Check(vm.ok(), "no machine");
    vm_ = *std::move(vm);
    auto vmm = ConnectUnix(host_.folder.path() + "/vmm", SOCK_STREAM);
    Check(vmm.ok(), "no VMM");
    auto guest = VsockGuest::Start(*std::move(vmm), {.queue_size = 32,
                                                     .rx_two_buffers = in_.Byte() % 2 == 1,
                                                     .buf_alloc = 8192,
                                                     .timeout = absl::Milliseconds(200),
                                                     .pump = [this] { Pump(); }});
    Check(guest.ok(), "no guest");
    guest_ = *std::move(guest);
    Pump();
  }

  void Run() {
    for (int steps = 0; steps < 200 && !in_.empty() && !Ended(); ++steps) {
      Step();
      Pump();
    }
    for (auto& program : programs_) Read(*program, ~size_t{0});
    guest_.reset();
    Pump();
    Check(vm_->endpoint().connections() == 0, "a connection without a guest");
    programs_.clear();
    Pump();
    vm_.reset();
    Pump();
    for (const uint32_t port : kHostPorts) {
      while (host_.Accept(port).valid()) {
      }
    }
  }

 private:
  void Pump() {
    for (int i = 0; i < 6; ++i) {
      if (vm_ != nullptr) vm_->Advance(now_);
      Check(loop_.RunOnce(absl::InfinitePast()).ok(), "the loop failed");
    }
  }

  // Whether the device has hung up.
  bool Ended() {
    char byte;
    return recv(guest_->vmm().descriptor(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
  }

  void Step() {
    switch (in_.Byte() % 10) {
      case 0: {  // a packet with anything in it
        static constexpr uint32_t kBuffers[] = {0, 1, 100, 8192, 262144, ~0u};
        packet::Header header;
        header.op = in_.Byte() % 9;
        header.src_port = kGuestPort + in_.Byte() % 4;
        header.dst_port = HostPort();
        const uint8_t how = in_.Byte();
        header.type = (how & 7) == 0   ? kUnknownType
                      : (how & 8) == 0 ? VSOCK_TYPE_STREAM
                                       : VSOCK_TYPE_SEQPACKET;
        header.flags = how >> 4 & 3;
        header.buf_alloc = kBuffers[in_.Byte() % std::size(kBuffers)];
        header.fwd_cnt =
            (how & 64) != 0 ? in_.Short() : received_[{header.src_port, header.dst_port}];
        const bool has_payload = header.op == VSOCK_OP_RW || (how & 128) != 0;
        const size_t size = has_payload ? in_.Short() % 6000 : 0;
        SendPacket(header, size, 1 + in_.Byte() % 5);
        break;
      }
      case 1:  // what a good guest sends
        SendPacket({.src_port = kGuestPort + in_.Byte() % 4,
                    .dst_port = HostPort(),
                    .type = VSOCK_TYPE_STREAM,
                    .op = VSOCK_OP_REQUEST},
                   0, 1);
        break;
      case 2:
        if (Program* program = Any(); program != nullptr && program->guest_port != 0) {
          const size_t size = in_.Short() % 6000;
          SendPacket({.src_port = program->guest_port,
                      .dst_port = program->host_port,
                      .type = VSOCK_TYPE_STREAM,
                      .op = VSOCK_OP_RW,
                      .fwd_cnt = received_[{program->guest_port, program->host_port}]},
                     size, 1 + in_.Byte() % 5);
        }
        break;
      case 3: {  // a client
        const std::string path =
            host_.folder.path() + (in_.Byte() % 4 == 0 ? "/host_seqpacket" : "/host");
        const int type = path.ends_with("seqpacket") ? SOCK_SEQPACKET : SOCK_STREAM;
        UniqueFd fd = ConnectUnix(path, type | SOCK_NONBLOCK).value();
        const std::string line =
            absl::StrCat("CONNECT ", kGuestPort + in_.Byte() % 4, "\nand more");
        send(fd.get(), line.data(), in_.Byte() % (line.size() + 1), MSG_NOSIGNAL);
        programs_.push_back(std::make_unique<Program>(Program{.fd = std::move(fd)}));
        break;
      }
      case 4:
        if (Program* program = Any(); program != nullptr) {
          const std::string bytes(in_.Short() % 20'000, 'h');
          send(program->fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        }
        break;
      case 5:
        if (Program* program = Any(); program != nullptr) Read(*program, in_.Short());
        break;
      case 6:
        if (Program* program = Any(); program != nullptr) {
          const uint8_t how = in_.Byte() % 4;
          if (how < 3) {
            shutdown(program->fd.get(), how);  // SHUT_RD, SHUT_WR, SHUT_RDWR
          } else {
            programs_.erase(std::find_if(programs_.begin(), programs_.end(),
                                         [&](const auto& p) { return p.get() == program; }));
          }
        }
        break;
      case 7:
        Take(in_.Byte());
        break;
      case 8:
        now_ += absl::Milliseconds(in_.Short());
        break;
      case 9:
        switch (in_.Byte() % 3) {
          case 0:
            guest_->Pause().IgnoreError();
            Pump();
            guest_->Resume().IgnoreError();
            break;
          case 1:
            guest_->Reboot().IgnoreError();
            break;
          case 2: {  // not as long as it says
            packet::Header header = {.src_cid = kCid, .dst_cid = 2, .len = 7};
            guest_->SendRaw(header, "short");
            break;
          }
        }
        break;
    }
  }

  uint32_t HostPort() {
    const uint8_t which = in_.Byte() % 8;
    if (which < 3) return kHostPorts[which];
    if (which == 3 || requests_.empty()) return 13;  // nobody
    return requests_[which % requests_.size()];
  }
  Program* Any() {
    const uint8_t which = in_.Byte();
    return programs_.empty() ? nullptr : programs_[which % programs_.size()].get();
  }
  // The program whose connection this was at last.
  Program* Of(const packet::Header& header) {
    for (auto it = programs_.rbegin(); it != programs_.rend(); ++it) {
      if ((*it)->guest_port == header.src_port && (*it)->host_port == header.dst_port) {
        return it->get();
      }
    }
    return nullptr;
  }

  void SendPacket(const packet::Header& header, size_t size, uint32_t pieces) {
    std::string payload(size, 'g');
    Program* const program = Of(header);
    if (program != nullptr && header.op == VSOCK_OP_RW && header.type != kUnknownType) {
      for (size_t i = 0; i < size; ++i) payload[i] = Pattern(program->seed, program->sent + i);
      program->sent += size;
    }
    guest_->Send(header, payload, pieces);
    Pump();
    if (header.op != VSOCK_OP_REQUEST || !host_.listeners.contains(header.dst_port)) return;
    UniqueFd fd = host_.Accept(header.dst_port);
    if (!fd.valid()) return;
    programs_.push_back(std::make_unique<Program>(Program{.fd = std::move(fd),
                                                          .guest_port = header.src_port,
                                                          .host_port = header.dst_port,
                                                          .seed = next_seed_++}));
    received_[{header.src_port, header.dst_port}] = 0;
  }

  void Read(Program& program, size_t most) {
    char bytes[4096];
    while (most > 0) {
      const ssize_t n = recv(program.fd.get(), bytes, std::min(most, sizeof(bytes)), MSG_DONTWAIT);
      if (n <= 0) return;
      most -= static_cast<size_t>(n);
      // The line's answer comes to clients, and messages may be cut.
      if (program.guest_port == 0 || program.host_port == 12) continue;
      for (ssize_t i = 0; i < n; ++i) {
        Check(bytes[i] == Pattern(program.seed, program.got++), "other bytes, or a gap");
      }
      Check(program.got <= program.sent, "more than was sent");
    }
  }

  void Take(uint8_t how) {
    for (int n = how / 2; n >= 0 && guest_->HasPacket(); --n) {
      const absl::StatusOr<VsockGuest::Packet> packet = guest_->Receive();
      if (!packet.ok()) return;
      const packet::Header& header = packet->header;
      Check(header.src_cid == 2 && header.dst_cid == kCid, "from or to somebody else");
      Check(header.op >= VSOCK_OP_REQUEST && header.op <= VSOCK_OP_CREDIT_REQUEST, "no operation");
      Check(header.op == VSOCK_OP_RW || packet->payload.empty(), "a payload that nobody reads");
      received_[{header.dst_port, header.src_port}] +=
          static_cast<uint32_t>(packet->payload.size());
      if (header.op != VSOCK_OP_REQUEST) continue;
      received_[{header.dst_port, header.src_port}] = 0;
      requests_.push_back(header.src_port);
      if (how % 2 == 0) {
        guest_->Send({.src_port = header.dst_port,
                      .dst_port = header.src_port,
                      .type = header.type,
                      .op = VSOCK_OP_RESPONSE});
      }
    }
  }

  Host& host_;
  Input in_;
  EventLoop loop_;
  SiblingSwitch siblings_;
  absl::Time now_ = absl::UnixEpoch();
  std::unique_ptr<HostVm> vm_;
  std::unique_ptr<VsockGuest> guest_;
  std::vector<std::unique_ptr<Program>> programs_;
  std::vector<uint32_t> requests_;  // host ports of clients
  std::map<std::pair<uint32_t, uint32_t>, uint32_t> received_;
  uint8_t next_seed_ = 1;
};

}  // namespace
}  // namespace argosy::vhost_user

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static argosy::vhost_user::Host host;
  argosy::vhost_user::Fuzz(host, {data, size}).Run();
  return 0;
}
