// SPDX-License-Identifier: Apache-2.0
// A vhost-user vsock device as a program, seen from outside: the test is the VMM and the driver of two
// machines, and the host's programs.  One test for each fault that others bring about, and for each
// defect that is known of such devices (Defect01 to Defect13).
//
//   device_test --device PROGRAM [--deadline SECONDS]
//
// PROGRAM has the command line of vhost-device-vsock.  docs/vhost-user.md says who fails what.
// Each wait ends with what it waits for, or at the deadline.  Whatever a test does to one machine, the
// other one must not notice.
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "backends/vhost_user/testing/device_process.h"
#include "backends/vhost_user/testing/host_program.h"
#include "backends/vhost_user/testing/vsock_guest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "transport/testing/listen_unix.h"
#include "transport/testing/temporary_directory.h"

namespace argosy::vhost_user {
namespace {

// Set by main().
const char* device_program = nullptr;
absl::Duration wait_limit = absl::Seconds(30);

absl::Time Deadline() { return absl::Now() + wait_limit; }

constexpr uint32_t kSendAndReceive = VSOCK_SHUTDOWN_SEND | VSOCK_SHUTDOWN_RCV;

// ---- the host's programs ----

std::string Read(const UniqueFd& fd, size_t size) { return vhost_user::Read(fd, size, Deadline()); }

// Everything up to end-of-file or a reset.
std::string ReadAll(const UniqueFd& fd) { return Read(fd, ~size_t{0}); }

UniqueFd Accept(const UniqueFd& listener) {
  if (!WaitReadable(listener.get(), Deadline(), nullptr)) return UniqueFd();
  return UniqueFd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
}

// Gives back what it reads, in a thread of its own, until end-of-file.
class EchoProgram {
 public:
  explicit EchoProgram(UniqueFd fd) : fd_(std::move(fd)), thread_([this] { Run(); }) {}
  ~EchoProgram() {
    shutdown(fd_.get(), SHUT_RDWR);
    thread_.join();
  }
  // Whether the device ended the connection.
  bool Ended() {
    return ended_.get_future().wait_for(absl::ToChronoMilliseconds(wait_limit)) ==
           std::future_status::ready;
  }

 private:
  void Run() {
    char bytes[8192];
    for (;;) {
      const ssize_t n = recv(fd_.get(), bytes, sizeof(bytes), 0);
      if (n <= 0 || send(fd_.get(), bytes, static_cast<size_t>(n), MSG_NOSIGNAL) != n) break;
    }
    ended_.set_value();
  }

  const UniqueFd fd_;
  std::promise<void> ended_;
  std::thread thread_;
};

// ---- the guest ----

// The guest's end of a connection.
struct End {
  uint32_t port = 0;
  uint32_t host_port = 0;
  uint32_t sent = 0;
  uint32_t host_buffer = 0;  // buf_alloc and fwd_cnt of the host's end
  uint32_t host_took = 0;
  std::string data;  // that came
  bool open = false;
  bool reset = false;
  uint32_t shutdown = 0;
  int updates = 0;  // credit updates that came
  int empty = 0;    // packets of data without any

  uint32_t credit() const {
    const uint32_t under_way = sent - host_took;
    return host_buffer > under_way ? host_buffer - under_way : 0;
  }
};

// A driver that keeps the rules where a test does not break them, for all connections of its guest.
class Driver {
 public:
  explicit Driver(std::unique_ptr<VsockGuest> guest) : guest_(std::move(guest)) {}

  VsockGuest& guest() { return *guest_; }

  // Takes packets until `done`; false if nothing comes any more.
  bool Until(const std::function<bool()>& done) {
    while (!done()) {
      if (!Take()) return false;
    }
    return true;
  }

  // Sends a packet of this connection, whatever the credit is.
  void SendPacket(End& end, uint16_t op, absl::string_view payload = "", uint32_t flags = 0,
                  uint32_t pieces = 1) {
    guest_->Send({.src_port = end.port,
                  .dst_port = end.host_port,
                  .op = op,
                  .flags = flags,
                  .fwd_cnt = static_cast<uint32_t>(end.data.size())},
                 payload, pieces);
    end.sent += static_cast<uint32_t>(payload.size());
  }
  // Waits for the credit.
  bool Send(End& end, absl::string_view text, uint32_t pieces = 1) {
    if (!Until([&] { return end.credit() >= text.size() || end.reset; }) || end.reset) return false;
    SendPacket(end, VSOCK_OP_RW, text, 0, pieces);
    return true;
  }
  // Asks for the host's credit, and waits for the answer, or a reset.  Then the device has seen all that
  // was sent before, and what it said of that has come: `idle` is a connection without traffic, of
  // which nothing comes but the answer.
  bool AskForCredit(End& end, End& idle) {
    SendPacket(end, VSOCK_OP_CREDIT_REQUEST);
    const int before = idle.updates;
    SendPacket(idle, VSOCK_OP_CREDIT_REQUEST);
    return Until([&] { return idle.updates > before || idle.reset; });
  }

  End& MakeEnd(uint32_t host_port, uint32_t port) {
    return ends_[{port, host_port}] = {.port = port, .host_port = host_port};
  }
  End& Request(uint32_t host_port, uint32_t port) {
    End& end = MakeEnd(host_port, port);
    SendPacket(end, VSOCK_OP_REQUEST);
    return end;
  }
  // Waits for a connection to this port, and leaves it to the caller to answer.  Null: none comes.
  End* AwaitRequest(uint32_t port) {
    const auto found = [&] {
      return std::find_if(requests_.begin(), requests_.end(),
                          [&](End* end) { return end->port == port; });
    };
    if (!Until([&] { return found() != requests_.end(); })) return nullptr;
    End* end = *found();
    requests_.erase(found());
    return end;
  }
  bool Received(End& end, absl::string_view text) {
    Until([&] { return end.data.size() >= text.size() || end.reset || end.shutdown != 0; });
    return end.data == text;
  }

 private:
  bool Take() {
    absl::StatusOr<VsockGuest::Packet> packet = guest_->Receive();
    if (!packet.ok()) {
      std::fprintf(stderr, "the guest: %s\n", std::string(packet.status().message()).c_str());
      return false;
    }
    const packet::Header& header = packet->header;
    End& end = ends_[{header.dst_port, header.src_port}];
    if (header.op == VSOCK_OP_REQUEST) {
      end = {.port = header.dst_port, .host_port = header.src_port};
      requests_.push_back(&end);
    }
    if (header.op != VSOCK_OP_RST) {
      end.host_buffer = header.buf_alloc;
      end.host_took = header.fwd_cnt;
    }
    end.open |= header.op == VSOCK_OP_RESPONSE;
    end.reset |= header.op == VSOCK_OP_RST;
    end.updates += header.op == VSOCK_OP_CREDIT_UPDATE;
    if (header.op == VSOCK_OP_SHUTDOWN) end.shutdown |= header.flags;
    end.empty += header.op == VSOCK_OP_RW && packet->payload.empty();
    end.data += packet->payload;
    // As Linux does it: before too much of the buffer is taken and untold.
    untold_ += packet->payload.size();
    if (header.op == VSOCK_OP_CREDIT_REQUEST || untold_ >= 65536) {
      untold_ = 0;
      SendPacket(end, VSOCK_OP_CREDIT_UPDATE);
    }
    return true;
  }

  std::unique_ptr<VsockGuest> guest_;
  std::map<std::pair<uint32_t, uint32_t>, End> ends_;
  std::deque<End*> requests_;
  size_t untold_ = 0;
};

// ---- the bed ----

struct Machine {
  uint32_t cid;
  std::string vmm;  // sockets
  std::string host;
  std::unique_ptr<Driver> driver;
};

class DeviceTest : public testing::Test {
 protected:
  DeviceTest() {
    for (const uint32_t cid : {7u, 8u}) {
      Machine& machine = cid == 7 ? machine_ : other_;
      machine.cid = cid;
      machine.vmm = absl::StrCat(folder_.path(), "/vmm", cid);
      machine.host = absl::StrCat(folder_.path(), "/host", cid);
    }
  }

  virtual std::vector<std::string> MoreArguments() const { return {}; }

  void SetUp() override {
    std::vector<std::string> arguments = MoreArguments();
    for (const Machine* machine : {&machine_, &other_}) {
      arguments.push_back("--vm");
      arguments.push_back(absl::StrCat("guest-cid=", machine->cid, ",socket=", machine->vmm,
                                       ",uds-path=", machine->host));
    }
    auto device = DeviceProcess::Start(device_program, arguments, folder_.path() + "/log");
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = *std::move(device);
    ASSERT_TRUE(Boot(machine_));
    ASSERT_TRUE(Boot(other_));
  }
  void TearDown() override {
    if (device_ == nullptr || other_.driver == nullptr) return;
    EXPECT_TRUE(device_->Runs()) << "the device has ended";
    EXPECT_TRUE(Works(other_)) << "the other machine has noticed";
    if (HasFailure()) std::fprintf(stderr, "the device: %s\n", device_->Log().c_str());
  }

  // A VMM connects, and its guest's driver starts.
  absl::Status Start(Machine& machine, VsockGuest::Options options = {}) {
    machine.driver = nullptr;
    options.timeout = wait_limit;
    absl::StatusOr<UniqueFd> vmm = device_->Dial(machine.vmm, Deadline());
    if (!vmm.ok()) return vmm.status();
    auto guest = VsockGuest::Start(*std::move(vmm), options);
    if (!guest.ok()) return guest.status();
    // Without acknowledgements: what was said before a question has been heard when it is answered.
    if (auto config = (*guest)->vmm().GetConfig(0, 8); !config.ok()) return config.status();
    EXPECT_EQ((*guest)->cid(), machine.cid);
    machine.driver = std::make_unique<Driver>(*std::move(guest));
    return absl::OkStatus();
  }
  // The same by a VMM that tries again while the device is not done with the one before.  That it must
  // not need to is a matter of one test.
  [[nodiscard]] bool Boot(Machine& machine, const VsockGuest::Options& options = {}) {
    const absl::Time deadline = Deadline();
    absl::Status status;
    do {
      status = Start(machine, options);
    } while (!status.ok() && device_->Runs() && absl::Now() < deadline);
    EXPECT_TRUE(status.ok()) << status;
    return status.ok();
  }
  Driver& driver() { return *machine_.driver; }

  // A program of the host that listens at a port of the machine's host.
  UniqueFd Listen(uint32_t port, int backlog = 16) { return Listen(machine_, port, backlog); }
  UniqueFd Listen(const Machine& machine, uint32_t port, int backlog = 16) {
    const std::string path = absl::StrCat(machine.host, "_", port);
    unlink(path.c_str());
    return ListenUnix(path, SOCK_STREAM, backlog);
  }
  // A program of the host that asks for a port of the guest.
  UniqueFd Dial(absl::string_view line) {
    absl::StatusOr<UniqueFd> fd = device_->Dial(machine_.host, Deadline());
    EXPECT_TRUE(fd.ok()) << fd.status();
    if (!fd.ok()) return UniqueFd();
    Write(*fd, line);
    return *std::move(fd);
  }

  // A connection of the guest to a listener of the host; null if the device refuses.
  End* Connect(const UniqueFd& listener, uint32_t host_port, uint32_t port, UniqueFd* program) {
    return Connect(machine_, listener, host_port, port, program);
  }
  End* Connect(Machine& machine, const UniqueFd& listener, uint32_t host_port, uint32_t port,
               UniqueFd* program) {
    End& end = machine.driver->Request(host_port, port);
    machine.driver->Until([&] { return end.open || end.reset; });
    if (!end.open || end.reset) return nullptr;
    *program = Accept(listener);
    return program->valid() ? &end : nullptr;
  }
  // A connection of a program of the host to the guest, which accepts.
  End* ConnectFromHost(uint32_t port, UniqueFd* program) {
    *program = Dial(absl::StrCat("CONNECT ", port, "\n"));
    if (!program->valid()) return nullptr;
    End* end = driver().AwaitRequest(port);
    if (end == nullptr) return nullptr;
    driver().SendPacket(*end, VSOCK_OP_RESPONSE);
    const std::string ok = absl::StrCat("OK ", port, "\n");
    const std::string answer = Read(*program, ok.size());
    EXPECT_EQ(answer, ok);
    return answer == ok ? end : nullptr;
  }
  // Bytes go both ways.
  bool Flows(Machine& machine, End& end, const UniqueFd& program) {
    const size_t before = end.data.size();
    if (!machine.driver->Send(end, "ping") || Read(program, 4) != "ping") return false;
    Write(program, "pong");
    machine.driver->Until([&] { return end.data.size() >= before + 4 || end.reset; });
    return end.data.substr(before) == "pong";
  }
  bool Works(Machine& machine) {
    const UniqueFd listener = Listen(machine, 4000);
    UniqueFd program;
    const uint32_t port = next_port_++;
    End* end = Connect(machine, listener, 4000, port, &program);
    if (end == nullptr || !Flows(machine, *end, program)) return false;
    machine.driver->SendPacket(*end, VSOCK_OP_RST);
    return Read(program, 1) == "<eof>";
  }

  // A device that has ended is TearDown()'s to tell of.
  int64_t MemoryKiB() const { return device_->MemoryKiB().value_or(0); }

  // What becomes of a device whose guest broke a rule: it hangs up ("ends"), or has given back so many
  // chains of the rx ring ("goes on"), or nothing happens ("is stuck").
  std::string FateOf(VsockGuest& guest, uint16_t chains) {
    const absl::Time deadline = Deadline();
    for (;;) {
      if (Load16Acquire(guest.rx().used() + kRingIndex) >= chains) return "goes on";
      pollfd either[] = {{guest.vmm().descriptor(), POLLIN, 0},
                         {guest.rx().call_descriptor(), POLLIN, 0}};
      const int64_t left = absl::ToInt64Milliseconds(deadline - absl::Now());
      if (left <= 0 || poll(either, 2, static_cast<int>(left)) == 0) return "is stuck";
      guest.rx().TakeInterrupt();
      char byte;
      if (either[0].revents != 0 && recv(guest.vmm().descriptor(), &byte, 1, MSG_DONTWAIT) == 0) {
        return "ends";
      }
    }
  }

  // A chain that a driver must not make.
  struct BadChain {
    const char* what;
    std::vector<Descriptor> descriptors;  // from number 64 on
    uint16_t head = kFirst;
  };
  static constexpr uint16_t kFirst = 64;
  static constexpr uint64_t kMemory = 0x100000, kMemoryEnd = kMemory + (64 << 20);

  // A guest puts a bad chain into a ring and then does well.  Its device may end or go on, but not stop
  // without a word, and the next guest finds it as it should be.
  void Attack(uint32_t ring, const BadChain& chain) {
    SCOPED_TRACE(absl::StrCat(chain.what, " in ring ", ring));
    // Every chain interrupts.
    ASSERT_TRUE(Boot(machine_, {.features = ~kFeatureEventIndex, .rx_buffers = 1}));
    VsockGuest& guest = driver().guest();
    const UniqueFd listener = Listen(1024);
    DriverQueue& queue = ring == 0 ? guest.rx() : guest.tx();
    for (uint16_t i = 0; i < chain.descriptors.size(); ++i) {
      queue.SetDescriptor(kFirst + i, chain.descriptors[i]);
    }
    if (ring == 0) {
      // Behind the good buffer that it has, the bad chain, and one more good buffer.
      queue.SetDescriptor(kFirst - 1,
                          {guest.memory().Allocate(4096, 16), 4096, kDescriptorWrite, 0});
      queue.SetAvailable(1, chain.head);
      queue.SetAvailable(2, kFirst - 1);
      queue.SetAvailableIndex(3);
      queue.Kick();
      for (uint16_t i = 0; i < 3; ++i) SendByHand(i, 5000 + i);
      EXPECT_NE(FateOf(guest, 2), "is stuck");
    } else {
      queue.SetAvailable(0, chain.head);
      queue.SetAvailableIndex(1);
      queue.Kick();
      SendByHand(1, 5000);
      EXPECT_NE(FateOf(guest, 1), "is stuck");
    }
    ASSERT_TRUE(Boot(machine_));
    EXPECT_TRUE(Works(machine_));
    EXPECT_TRUE(Works(other_));
  }
  // A request to port 1024, as chain `number` of the tx ring, past the harness's books.
  void SendByHand(uint16_t number, uint32_t port) {
    VsockGuest& guest = driver().guest();
    packet::Header header;
    header.src_cid = guest.cid();
    header.dst_cid = 2;
    header.src_port = port;
    header.dst_port = 1024;
    header.type = VSOCK_TYPE_STREAM;
    header.op = VSOCK_OP_REQUEST;
    header.buf_alloc = 262144;
    const auto bytes = packet::SerializeHeader(header);
    const uint64_t address = guest.memory().Allocate(bytes.size(), 16);
    std::memcpy(guest.memory().At(address), bytes.data(), bytes.size());
    guest.tx().SetDescriptor(number, {address, VSOCK_HEADER_SIZE, 0, 0});
    guest.tx().SetAvailable(number, number);
    guest.tx().SetAvailableIndex(number + 1);
    guest.tx().Kick();
  }

  TemporaryDirectory folder_;
  std::unique_ptr<DeviceProcess> device_;
  Machine machine_, other_;
  uint32_t next_port_ = 7000;
};

// ---- a hostile guest ----

TEST_F(DeviceTest, DescriptorLoops) {
  const uint64_t buffer = kMemory + (32 << 20);
  for (const uint32_t ring : {0u, 1u}) {
    const uint16_t flags = kDescriptorNext | (ring == 0 ? kDescriptorWrite : 0);
    Attack(ring, {"a descriptor that follows itself", {{buffer, 16, flags, kFirst}}});
    Attack(ring, {"two that follow each other",
                  {{buffer, 16, flags, kFirst + 1}, {buffer, 16, flags, kFirst}}});
    Attack(ring, {"empty ones in a circle",
                  {{buffer, 0, flags, kFirst + 1}, {buffer, 0, flags, kFirst}}});
    Attack(ring, {"a next one past the table", {{buffer, 64, flags, 128}}});
    if (HasFatalFailure()) return;
  }
}

TEST_F(DeviceTest, LengthsPastMemory) {
  for (const uint32_t ring : {0u, 1u}) {
    const uint16_t flags = ring == 0 ? kDescriptorWrite : 0;
    Attack(ring, {"a buffer over the end", {{kMemoryEnd - 64, 4096, flags, 0}}});
    Attack(ring, {"a buffer behind the end", {{kMemoryEnd, 4096, flags, 0}}});
    Attack(ring, {"a buffer before the begin", {{0x1000, 4096, flags, 0}}});
    Attack(ring, {"a length of 4 GiB", {{kMemory + (32 << 20), 0xFFFFFFFF, flags, 0}}});
    Attack(ring, {"an end past 2^64", {{~uint64_t{0} - 63, 4096, flags, 0}}});
    Attack(ring, {"a head past the table", {}, 128});
    if (HasFatalFailure()) return;
  }
}

// Packets that are not as long as they say, or no packets.
TEST_F(DeviceTest, PacketsThatLieAboutTheirLength) {
  const uint64_t buffer = kMemory + (32 << 20);
  Attack(1, {"a packet of nothing", {{buffer, 0, 0, 0}}});
  Attack(1, {"less than a header", {{buffer, VSOCK_HEADER_SIZE - 1, 0, 0}}});
  Attack(1, {"a header that the device should write", {{buffer, 4096, kDescriptorWrite, 0}}});
  Attack(0, {"no room for a header", {{buffer, VSOCK_HEADER_SIZE - 1, kDescriptorWrite, 0}}});
  Attack(0, {"a receive buffer that the device may only read", {{buffer, 4096, 0, 0}}});
}

TEST_F(DeviceTest, GuestThatIgnoresCredit) {
  const UniqueFd listener = Listen(1024), other_listener = Listen(1025);
  UniqueFd slow, quick;
  End* end = Connect(listener, 1024, 5000, &slow);
  ASSERT_NE(end, nullptr);
  End* other = Connect(other_listener, 1025, 5001, &quick);
  ASSERT_NE(other, nullptr);
  const int64_t before = MemoryKiB();
  // 64 MiB at a program that reads nothing, while the guest takes no answer.
  const std::string piece(60'000, 'x');
  for (int i = 0; i < 1100; ++i) driver().SendPacket(*end, VSOCK_OP_RW, piece);
  EXPECT_TRUE(driver().Until([&] { return end->reset; })) << "nothing tells the guest";
  EXPECT_LT(MemoryKiB(), before + 32 * 1024);
  EXPECT_TRUE(Flows(machine_, *other, quick));
}

// ---- the VMM ----

TEST_F(DeviceTest, MemoryTableReplacedUnderTraffic) {
  const UniqueFd listener = Listen(1024);
  UniqueFd program;
  End* end = Connect(listener, 1024, 5000, &program);
  ASSERT_NE(end, nullptr);
  EchoProgram echo(std::move(program));
  // The same memory, cut in two.
  VsockGuest& guest = driver().guest();
  const MemoryRegion whole = guest.memory().regions()[0];
  const uint64_t half = whole.size / 2;
  const struct {
    MemoryTableHeader header;
    MemoryRegion regions[2];
  } halves = {
      {2, 0},
      {{whole.guest_address, half, whole.vmm_address, whole.file_offset},
       {whole.guest_address + half, half, whole.vmm_address + half, whole.file_offset + half}}};
  const int file = guest.memory().descriptor();
  std::string sent;
  for (int i = 0; i < 400; ++i) {
    const std::string piece(3000, static_cast<char>('a' + i % 26));
    ASSERT_TRUE(driver().Send(*end, piece));
    sent += piece;
    if (i % 8 == 3) {
      ASSERT_TRUE(guest.vmm().Command(Request::kSetMemTable, halves, {file, file}).ok());
    } else if (i % 8 == 7) {
      ASSERT_TRUE(guest.vmm().ShareMemory(guest.memory()).ok());
    }
  }
  EXPECT_TRUE(driver().Received(*end, sent));
}

TEST_F(DeviceTest, GuestResetsDeviceUnderTraffic) {
  const UniqueFd listener = Listen(1024);
  for (int round = 0; round < 10; ++round) {
    UniqueFd program;
    // The same ports each time: nothing may be left of the guest before.
    End* end = Connect(listener, 1024, 5000, &program);
    ASSERT_NE(end, nullptr);
    EchoProgram echo(std::move(program));
    for (int i = 0; i < 50; ++i) ASSERT_TRUE(driver().Send(*end, std::string(3000, 'x')));
    ASSERT_TRUE(driver().guest().Reboot().ok());
    ASSERT_TRUE(driver().guest().vmm().GetConfig(0, 8).ok());
    EXPECT_TRUE(echo.Ended()) << "the host's program waits for a guest that is gone";
    if (HasFailure()) return;
  }
  EXPECT_TRUE(Works(machine_));
}

TEST_F(DeviceTest, VmmKilledAndRestarted) {
  const UniqueFd listener = Listen(1024);
  for (int round = 0; round < 5; ++round) {
    machine_.driver = nullptr;
    const pid_t vmm = fork();
    ASSERT_GE(vmm, 0);
    if (vmm == 0) {
      // A process of its own, with nothing to clean up.
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (!Boot(machine_)) _exit(1);
      End& end = driver().Request(1024, 5000);
      while (driver().Send(end, std::string(3000, 'x'))) {
      }
      _exit(1);
    }
    const UniqueFd program = Accept(listener);
    EXPECT_TRUE(program.valid());
    const std::string traffic = program.valid() ? Read(program, 500'000) : "";
    kill(vmm, SIGKILL);
    ASSERT_EQ(waitpid(vmm, nullptr, 0), vmm);
    ASSERT_EQ(traffic.size(), 500'000u);
    EXPECT_THAT(ReadAll(program), testing::EndsWith("<eof>"));
    ASSERT_TRUE(Boot(machine_));
    ASSERT_TRUE(Works(machine_));
  }
}

// Whatever the device still had to read of the one before.
TEST_F(DeviceTest, VmmThatComesBackAtOnce) {
  for (int round = 0; round < 20; ++round) {
    FrontEnd& vmm = driver().guest().vmm();
    for (int i = 0; i < 200; ++i) {
      ASSERT_TRUE(vmm.Send(Request::kGetFeatures, {}).ok());
    }
    const absl::Status status = Start(machine_);
    ASSERT_TRUE(status.ok()) << status;
  }
  EXPECT_TRUE(Works(machine_));
}

// ---- known defects ----

TEST_F(DeviceTest, Defect01GuestsHalfCloseReachesTheHost) {
  const UniqueFd listener = Listen(1024);
  UniqueFd program;
  End* end = Connect(listener, 1024, 5000, &program);
  ASSERT_NE(end, nullptr);
  ASSERT_TRUE(driver().Send(*end, "question"));
  driver().SendPacket(*end, VSOCK_OP_SHUTDOWN, "", VSOCK_SHUTDOWN_SEND);
  ASSERT_EQ(Read(program, 100), "question<eof>");
  Write(program, "answer");
  EXPECT_TRUE(driver().Received(*end, "answer"));
}

TEST_F(DeviceTest, Defect01HostsHalfCloseReachesTheGuest) {
  UniqueFd program;
  End* end = ConnectFromHost(1234, &program);
  ASSERT_NE(end, nullptr);
  Write(program, "question");
  shutdown(program.get(), SHUT_WR);
  ASSERT_TRUE(driver().Until([&] { return end->shutdown != 0 || end->reset; }));
  EXPECT_FALSE(end->reset);
  EXPECT_EQ(end->data, "question");
  EXPECT_EQ(end->shutdown, VSOCK_SHUTDOWN_SEND);
  ASSERT_TRUE(driver().Send(*end, "answer"));
  EXPECT_EQ(Read(program, 6), "answer");
}

TEST_F(DeviceTest, Defect02PortWhereNobodyListensIsReset) {
  End& end = driver().Request(99, 5000);
  driver().Until([&] { return end.open || end.reset; });
  EXPECT_TRUE(end.reset);
}

TEST_F(DeviceTest, Defect02PacketOfNoConnectionIsReset) {
  End& end = driver().MakeEnd(99, 5000);
  driver().SendPacket(end, VSOCK_OP_RW, "hello?");
  EXPECT_TRUE(driver().Until([&] { return end.reset; }));
}

TEST_F(DeviceTest, Defect02UnknownTypeIsReset) {
  const UniqueFd listener = Listen(1024);
  End& end = driver().MakeEnd(1024, 5000);
  driver().guest().Send({.src_port = 5000, .dst_port = 1024, .type = 9, .op = VSOCK_OP_REQUEST});
  EXPECT_TRUE(driver().Until([&] { return end.reset; }));
}

// Behind the guest's RESPONSE comes the data, and then the end: no end before it, and nothing empty.
TEST_F(DeviceTest, Defect04DataComesFirstAfterAccept) {
  for (uint32_t port = 1234; port < 1250; ++port) {
    UniqueFd program = Dial(absl::StrCat("CONNECT ", port, "\n"));
    ASSERT_TRUE(program.valid());
    End* end = driver().AwaitRequest(port);
    ASSERT_NE(end, nullptr);
    driver().SendPacket(*end, VSOCK_OP_RESPONSE);
    const std::string ok = absl::StrCat("OK ", port, "\n");
    ASSERT_EQ(Read(program, ok.size()), ok);
    Write(program, "data");
    program.reset();
    ASSERT_TRUE(driver().Until([&] { return end->reset || end->shutdown != 0; }));
    EXPECT_EQ(end->data, "data");
    EXPECT_EQ(end->empty, 0);
  }
}

// Newer guests send a packet in as many buffers as it has pages.
TEST_F(DeviceTest, Defect05PayloadInSeveralDescriptors) {
  const UniqueFd listener = Listen(1024);
  UniqueFd program;
  End* end = Connect(listener, 1024, 5000, &program);
  ASSERT_NE(end, nullptr);
  for (const uint32_t pieces : {1u, 2u, 3u, 5u, 17u, 33u}) {
    const std::string payload(40'000 + pieces, static_cast<char>('a' + pieces));
    ASSERT_TRUE(driver().Send(*end, payload, pieces)) << pieces;
    ASSERT_EQ(Read(program, payload.size()), payload) << pieces;
  }
}

TEST_F(DeviceTest, Defect06BytesBehindTheLineAreKept) {
  const UniqueFd program = Dial("CONNECT 1234\nHello");
  ASSERT_TRUE(program.valid());
  End* end = driver().AwaitRequest(1234);
  ASSERT_NE(end, nullptr);
  driver().SendPacket(*end, VSOCK_OP_RESPONSE);
  EXPECT_EQ(Read(program, 8), "OK 1234\n");
  EXPECT_TRUE(driver().Received(*end, "Hello"));
}

TEST_F(DeviceTest, Defect06LineMayComeInPieces) {
  const UniqueFd program = Dial("CONN");
  ASSERT_TRUE(program.valid());
  // The device has seen the first piece when it has served somebody who came later.
  UniqueFd later;
  ASSERT_NE(ConnectFromHost(1000, &later), nullptr);
  Write(program, "ECT 12");
  ASSERT_NE(ConnectFromHost(1001, &later), nullptr);
  Write(program, "34\n");
  End* end = driver().AwaitRequest(1234);
  ASSERT_NE(end, nullptr);
  driver().SendPacket(*end, VSOCK_OP_RESPONSE);
  EXPECT_EQ(Read(program, 8), "OK 1234\n");
}

TEST_F(DeviceTest, Defect07ClientVanishesBeforeOk) {
  for (int i = 0; i < 10; ++i) {
    UniqueFd program = Dial("CONNECT 1234\n");
    ASSERT_TRUE(program.valid());
    End* end = driver().AwaitRequest(1234);
    ASSERT_NE(end, nullptr);
    program.reset();
    driver().SendPacket(*end, VSOCK_OP_RESPONSE);
    // Now or later: the guest's program must not wait for a client that is gone.
    EXPECT_TRUE(driver().Until([&] { return end->reset || end->shutdown != 0; }));
    if (HasFailure()) break;
  }
  EXPECT_TRUE(Works(machine_));
}

// Bytes that the device does not want to keep are not dropped behind everybody's back.
TEST_F(DeviceTest, Defect08NoSilentLoss) {
  const UniqueFd listener = Listen(1024);
  UniqueFd program, idle_program;
  End* end = Connect(listener, 1024, 5000, &program);
  ASSERT_NE(end, nullptr);
  End* idle = Connect(listener, 1024, 5001, &idle_program);
  ASSERT_NE(idle, nullptr);
  // More than the credit, while nobody reads.
  std::string sent;
  for (int i = 0; i < 60; ++i) {
    const std::string piece(20'000, static_cast<char>('A' + i));
    driver().SendPacket(*end, VSOCK_OP_RW, piece);
    sent += piece;
  }
  ASSERT_TRUE(driver().AskForCredit(*end, *idle));
  if (end->reset) {
    const std::string got = ReadAll(program);
    const size_t bytes = got.rfind('<');
    EXPECT_EQ(got.substr(0, bytes), sent.substr(0, bytes));
    EXPECT_NE(got.substr(bytes), "<nothing more>");
  } else {
    EXPECT_TRUE(Read(program, sent.size()) == sent) << "bytes are missing, and nobody is told";
  }
}

TEST_F(DeviceTest, Defect08ProgramThatIsGoneEndsTheGuestsWrites) {
  const UniqueFd listener = Listen(1024);
  UniqueFd program;
  End* end = Connect(listener, 1024, 5000, &program);
  ASSERT_NE(end, nullptr);
  ASSERT_TRUE(Flows(machine_, *end, program));
  program.reset();
  const auto told = [&] { return end->reset || (end->shutdown & VSOCK_SHUTDOWN_RCV) != 0; };
  driver().SendPacket(*end, VSOCK_OP_RW, "into the void");
  EXPECT_TRUE(driver().Until(told));
}

// A guest that closes while the host's program has not read everything: the program gets all, and then
// the guest its RST, with which the connection is over on both sides.
TEST_F(DeviceTest, Defect09ShutdownWithUnreadDataEnds) {
  const UniqueFd listener = Listen(1024);
  UniqueFd program, idle_program;
  End* end = Connect(listener, 1024, 5000, &program);
  ASSERT_NE(end, nullptr);
  End* idle = Connect(listener, 1024, 5001, &idle_program);
  ASSERT_NE(idle, nullptr);
  std::string sent;
  // Until the credit stays used up: the program's socket is full, and so is the device.
  for (;;) {
    while (end->credit() >= 8192) {
      const std::string piece(8192, static_cast<char>('a' + sent.size() / 8192 % 26));
      driver().SendPacket(*end, VSOCK_OP_RW, piece);
      sent += piece;
    }
    ASSERT_TRUE(driver().AskForCredit(*end, *idle));
    ASSERT_FALSE(end->reset);
    if (end->credit() < 8192) break;
  }
  driver().SendPacket(*end, VSOCK_OP_SHUTDOWN, "", kSendAndReceive);
  EXPECT_TRUE(Read(program, sent.size()) == sent);
  EXPECT_EQ(Read(program, 1), "<eof>");
  EXPECT_TRUE(driver().Until([&] { return end->reset; }));
}

// A listener whose backlog is full delays its own clients alone.
TEST_F(DeviceTest, Defect10ListenerThatNeverAccepts) {
  const UniqueFd never = Listen(1024, 1), listener = Listen(1025);
  UniqueFd program;
  End* end = Connect(listener, 1025, 5000, &program);
  ASSERT_NE(end, nullptr);
  for (uint32_t port = 6000; port < 6008; ++port) driver().Request(1024, port);
  EXPECT_TRUE(Flows(machine_, *end, program));
  UniqueFd another;
  EXPECT_NE(Connect(listener, 1025, 5001, &another), nullptr);
}

TEST_F(DeviceTest, Defect11SecondConnectionToAPortOutlivesTheFirst) {
  const UniqueFd listener = Listen(1024);
  UniqueFd first, second;
  End* one = Connect(listener, 1024, 5000, &first);
  ASSERT_NE(one, nullptr);
  End* two = Connect(listener, 1024, 5001, &second);
  ASSERT_NE(two, nullptr);
  driver().SendPacket(*one, VSOCK_OP_SHUTDOWN, "", kSendAndReceive);
  EXPECT_TRUE(driver().Until([&] { return one->reset; }));
  EXPECT_EQ(Read(first, 1), "<eof>");
  EXPECT_TRUE(Flows(machine_, *two, second));
}

// The port that the device takes for a client of the host is not one of a connection that lives.
TEST_F(DeviceTest, Defect11PortsInUseAreNotGivenToClients) {
  UniqueFd program;
  End* end = ConnectFromHost(1234, &program);
  ASSERT_NE(end, nullptr);
  // Devices count: the next client would get this one.
  const uint32_t next = end->host_port + 1;
  const UniqueFd listener = Listen(next);
  UniqueFd first, second;
  End* one = Connect(listener, next, 5000, &first);
  ASSERT_NE(one, nullptr);
  End* two = Connect(listener, next, 1234, &second);
  ASSERT_NE(two, nullptr);
  driver().SendPacket(*one, VSOCK_OP_RST);
  EXPECT_EQ(Read(first, 1), "<eof>");
  UniqueFd client = Dial("CONNECT 1234\n");
  ASSERT_TRUE(client.valid());
  End* incoming = driver().AwaitRequest(1234);
  ASSERT_NE(incoming, nullptr);
  EXPECT_NE(incoming->host_port, next);
}

TEST_F(DeviceTest, Defect12GuestsWithTheSamePortAreToldApart) {
  GTEST_SKIP() << "of connections to the host's AF_VSOCK: tested with --forward-cid";
}

TEST_F(DeviceTest, Defect13GuestThatDoesNotAnswerTimesOut) {
  const UniqueFd program = Dial("CONNECT 1234\n");
  ASSERT_TRUE(program.valid());
  ASSERT_NE(driver().AwaitRequest(1234), nullptr);
  EXPECT_EQ(Read(program, 1), "<eof>");
}

TEST_F(DeviceTest, Defect13QueueBetweenSiblingsIsBounded) {
  VsockGuest& sender = driver().guest();
  VsockGuest& receiver = other_.driver->guest();
  packet::Header header = {.src_cid = machine_.cid,
                           .dst_cid = other_.cid,
                           .src_port = 5000,
                           .dst_port = 80,
                           .type = VSOCK_TYPE_STREAM,
                           .op = VSOCK_OP_REQUEST,
                           .buf_alloc = 262144};
  sender.SendRaw(header, "");
  auto packet = receiver.Receive();
  ASSERT_TRUE(packet.ok()) << packet.status();
  ASSERT_EQ(packet->header.op, VSOCK_OP_REQUEST);
  packet::Header answer = header;
  std::swap(answer.src_cid, answer.dst_cid);
  std::swap(answer.src_port, answer.dst_port);
  answer.op = VSOCK_OP_RESPONSE;
  receiver.SendRaw(answer, "");
  packet = sender.Receive();
  ASSERT_TRUE(packet.ok()) << packet.status();
  ASSERT_EQ(packet->header.op, VSOCK_OP_RESPONSE);

  // 64 MiB at a guest that takes what its buffers hold, and no more.
  const int64_t before = MemoryKiB();
  const std::string piece(60'000, 'x');
  header.op = VSOCK_OP_RW;
  header.len = static_cast<uint32_t>(piece.size());
  for (int i = 0; i < 1100; ++i) sender.SendRaw(header, piece);
  packet = sender.Receive();
  EXPECT_TRUE(packet.ok() && packet->header.op == VSOCK_OP_RST) << "nothing tells the sender";
  EXPECT_LT(MemoryKiB(), before + 32 * 1024);
}

class LimitedDeviceTest : public DeviceTest {
 protected:
  std::vector<std::string> MoreArguments() const override { return {"--max-connections", "1000"}; }
};

TEST_F(LimitedDeviceTest, Defect13FiveThousandAttemptsAtALimitOfAThousand) {
  const UniqueFd listener = Listen(1024, 4096);
  std::vector<End*> open;
  int refused = 0;
  for (uint32_t i = 0; i < 5000; ++i) {
    End& end = driver().Request(1024, 10'000 + i);
    ASSERT_TRUE(driver().Until([&] { return end.open || end.reset; })) << i;
    if (end.open) {
      open.push_back(&end);
    } else {
      ++refused;
    }
  }
  EXPECT_EQ(open.size(), 1000u);
  EXPECT_EQ(refused, 4000);
  // Nor does a client of the host get one more.
  EXPECT_EQ(Read(Dial("CONNECT 1234\n"), 1), "<eof>");
  // Those who are in work on, and one who leaves makes room for one.
  UniqueFd first = Accept(listener), second = Accept(listener);
  EXPECT_TRUE(Flows(machine_, *open[0], first));
  driver().SendPacket(*open[0], VSOCK_OP_RST);
  EXPECT_EQ(Read(first, 1), "<eof>");
  EXPECT_TRUE(Flows(machine_, *open[1], second));
  for (const bool room : {true, false}) {
    End& end = driver().Request(1024, room ? 9000 : 9001);
    ASSERT_TRUE(driver().Until([&] { return end.open || end.reset; }));
    EXPECT_EQ(end.open, room);
  }
}

}  // namespace

int Main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i < argc; i += 2) {
    double seconds;
    const absl::string_view option = argv[i];
    if (option == "--device" && i + 1 < argc) {
      device_program = argv[i + 1];
    } else if (option == "--deadline" && i + 1 < argc && absl::SimpleAtod(argv[i + 1], &seconds)) {
      wait_limit = absl::Seconds(seconds);
    } else {
      device_program = nullptr;
      break;
    }
  }
  if (device_program == nullptr) {
    std::fprintf(stderr, "device_test --device PROGRAM [--deadline SECONDS]\n");
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  return RUN_ALL_TESTS();
}

}  // namespace argosy::vhost_user

int main(int argc, char** argv) { return argosy::vhost_user::Main(argc, argv); }
