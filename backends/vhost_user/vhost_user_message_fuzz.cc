// SPDX-License-Identifier: Apache-2.0
// A VMM that sends what it likes, and whose guest writes what it likes into its memory, against a
// server with an echo device.  Whatever it does, the device hears of its rings in an order that
// makes sense, and the process lives.
//
// An input is how the VMM begins, and then a row of steps: see Fuzz::Step().
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "backends/vhost_user/bus_error.h"
#include "backends/vhost_user/testing/echo_bed.h"
#include "backends/vhost_user/testing/front_end.h"
#include "backends/vhost_user/testing/guest_memory.h"

namespace argosy::vhost_user {
namespace {

constexpr uint64_t kMemory = 0x10000;
constexpr uint64_t kBytes = 0x8000;
constexpr uint32_t kSize = 16;

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
  std::vector<uint8_t> Bytes(size_t n) {
    std::vector<uint8_t> bytes;
    while (n-- > 0 && size_ > 0) bytes.push_back(Byte());
    return bytes;
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

// Numbers of which some mean something.
uint32_t Number(Input& in) {
  static constexpr uint32_t kNumbers[] = {0, 1, 2, 3, 8, 16, 64, 1024, 32768, 65535, 65536, ~0u};
  const uint8_t byte = in.Byte();
  return byte < std::size(kNumbers) ? kNumbers[byte] : byte;
}

class Fuzz {
 public:
  explicit Fuzz(Input in) : in_(in), bed_(Options(in_.Byte())) {
    memory_ = *GuestMemory::Create({{kMemory, kBytes}});
    // The guest touches its memory too, whatever the VMM does to the file.
    watch_ = *BusErrorWatch::Begin(memory_->At(kMemory), kBytes, 4096);
    event_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    file_.reset(memfd_create("fuzz", MFD_CLOEXEC));
    Check(ftruncate(file_.get(), 0x4000) == 0, "no file");
    buffer_ = memory_->Allocate(4096, 16);
    const uint8_t begin = in_.Byte();
    if ((begin & 1) == 0) Check(vmm().Negotiate().ok(), "a good VMM was refused");
    for (uint32_t i = 0; i < EchoDevice::kQueues; ++i) {
      queues_.push_back(*DriverQueue::Create(memory_.get(), i, vmm().QueueOptions(kSize)));
    }
    if ((begin & 2) == 0) vmm().ShareMemory(*memory_).IgnoreError();
    if ((begin & 4) == 0) vmm().Start(*queues_[0]).IgnoreError();
    if ((begin & 8) == 0) {
      vmm()
          .Send(Request::kSetProtocolFeatures, FrontEnd::BytesOf(Server::kProtocolFeatures))
          .IgnoreError();
    }
    Settle();
  }

  void Run() {
    for (int steps = 0; steps < 100 && !in_.empty() && bed_.server() != nullptr; ++steps) {
      Step();
      Settle();
    }
    bed_.HangUp();
    CheckEvents();
    for (const bool running : running_) Check(!running, "a ring was left running");
  }

 private:
  // Never REPLY_ACK by the harness's own knowledge: it would wait for each acknowledgement.
  static FrontEnd::Options Options(uint8_t byte) {
    return {.features = (byte & 1) == 0 ? ~uint64_t{0} : kFeatureVersion1,
            .protocol_features = Server::kProtocolFeatures & ~kProtocolReplyAck,
            .timeout = absl::Seconds(1)};
  }

  FrontEnd& vmm() { return bed_.vmm(); }

  std::vector<int> Descriptors(uint8_t how) {
    const int all[] = {memory_->descriptor(), event_.get(), file_.get(), vmm().descriptor()};
    std::vector<int> descriptors(how % 8 == 7 ? 33 : how % 4, all[how / 8 % 4]);
    return descriptors;
  }

  MemoryRegion Region() {
    MemoryRegion region = memory_->regions()[0];
    const uint8_t how = in_.Byte();
    if ((how & 1) != 0) region.guest_address = uint64_t{in_.Byte()} << 12;
    if ((how & 2) != 0) region.size = in_.Short();
    if ((how & 4) != 0) region.vmm_address += in_.Short();
    if ((how & 8) != 0) region.file_offset = in_.Short();
    return region;
  }

  void Step() {
    const uint8_t what = in_.Byte();
    DriverQueue& queue = *queues_[what / 16 % queues_.size()];
    switch (what % 12) {
      case 0: {  // any bytes
        const std::vector<int> descriptors = Descriptors(in_.Byte());
        const std::vector<uint8_t> bytes = in_.Bytes(in_.Byte());
        if (!bytes.empty()) vmm().SendRaw(bytes, descriptors).IgnoreError();
        break;
      }
      case 1: {  // any message
        const auto request = static_cast<Request>(in_.Byte() % 48);
        const uint32_t flags = kVersion | (in_.Byte() % 2 == 0 ? 0 : kNeedReplyFlag);
        const std::vector<int> descriptors = Descriptors(in_.Byte());
        vmm().Send(request, in_.Bytes(in_.Byte()), descriptors, flags).IgnoreError();
        break;
      }
      case 2: {  // a ring's state
        static constexpr Request kRequests[] = {Request::kSetVringNum, Request::kSetVringBase,
                                                Request::kGetVringBase, Request::kSetVringEnable};
        const Request request = kRequests[in_.Byte() % 4];
        const VringState state = {Number(in_), Number(in_)};
        vmm().Send(request, FrontEnd::BytesOf(state), {}, kVersion | kNeedReplyFlag).IgnoreError();
        break;
      }
      case 3: {  // a ring's addresses
        VringAddress address = queue.address();
        const uint8_t how = in_.Byte();
        if ((how & 1) != 0) address.descriptors += in_.Short();
        if ((how & 2) != 0) address.available += in_.Short();
        if ((how & 4) != 0) address.used += in_.Short();
        vmm().Send(Request::kSetVringAddr, FrontEnd::BytesOf(address)).IgnoreError();
        break;
      }
      case 4: {  // a ring's descriptors
        static constexpr Request kRequests[] = {Request::kSetVringKick, Request::kSetVringCall,
                                                Request::kSetVringErr};
        const Request request = kRequests[in_.Byte() % 3];
        const uint64_t value = in_.Byte() % 4 + (in_.Byte() % 4 == 0 ? kVringNoDescriptor : 0);
        const std::vector<int> descriptors = Descriptors(in_.Byte());
        vmm()
            .Send(request, FrontEnd::BytesOf(value), descriptors, kVersion | kNeedReplyFlag)
            .IgnoreError();
        break;
      }
      case 5: {  // a region
        const Request request = in_.Byte() % 2 == 0 ? Request::kAddMemReg : Request::kRemMemReg;
        const SingleRegion region = {0, Region()};
        vmm()
            .Send(request, FrontEnd::BytesOf(region), {memory_->descriptor()},
                  kVersion | kNeedReplyFlag)
            .IgnoreError();
        break;
      }
      case 6: {  // a table
        const uint32_t count = in_.Byte() % 4;
        std::vector<uint8_t> payload(sizeof(MemoryTableHeader) + count * sizeof(MemoryRegion));
        std::memcpy(payload.data(), &count, sizeof(count));
        for (uint32_t i = 0; i < count; ++i) {
          const MemoryRegion region = Region();
          std::memcpy(payload.data() + sizeof(MemoryTableHeader) + i * sizeof(region), &region,
                      sizeof(region));
        }
        vmm()
            .Send(Request::kSetMemTable, payload, std::vector<int>(count, memory_->descriptor()),
                  kVersion | kNeedReplyFlag)
            .IgnoreError();
        break;
      }
      case 7:  // what a good VMM does
        vmm().ShareMemory(*memory_).IgnoreError();
        vmm().Start(queue).IgnoreError();
        break;
      case 8: {  // what a bad guest does
        uint64_t offset = in_.Short();
        for (const uint8_t byte : in_.Bytes(in_.Byte() % 32)) {
          *memory_->At(kMemory + offset++ % kBytes) = byte;
        }
        break;
      }
      case 9: {  // what a good guest does
        if (queue.Add({{buffer_, in_.Byte()}, {buffer_ + 256, 256, true}})) queue.Publish();
        // The device may have given back nonsense: the guest has scribbled over the ring.
        queue.Reap().IgnoreError();
        break;
      }
      case 10:
        Check(ftruncate(memory_->descriptor(), in_.Byte() % 9 * 4096) == 0, "no truncation");
        break;
      case 11: {
        const ConfigHeader header = {Number(in_), Number(in_), 0};
        std::vector<uint8_t> payload(sizeof(header) + header.size % 512);
        std::memcpy(payload.data(), &header, sizeof(header));
        vmm()
            .Send(in_.Byte() % 4 == 0 ? Request::kSetConfig : Request::kGetConfig, payload)
            .IgnoreError();
        break;
      }
    }
  }

  // The device works, the VMM reads its replies.
  void Settle() {
    bed_.Pump();
    char bytes[4096];
    while (recv(vmm().descriptor(), bytes, sizeof(bytes), MSG_DONTWAIT) > 0) {
    }
    CheckEvents();
  }

  void CheckEvents() {
    for (const std::string& event : bed_.device().TakeEvents()) {
      if (event.starts_with("enabled ")) {
        bool& running = running_[event.back() - '0'];
        Check(!running, "a ring started twice");
        running = true;
      } else if (event.starts_with("stopped ")) {
        bool& running = running_[event.back() - '0'];
        Check(running, "a ring stopped twice");
        running = false;
      } else if (event != "refused") {
        for (const bool running : running_) Check(!running, "a change under a running ring");
      }
    }
  }

  Input in_;
  EchoBed bed_;
  std::unique_ptr<GuestMemory> memory_;
  std::unique_ptr<BusErrorWatch> watch_;
  UniqueFd event_;
  UniqueFd file_;
  uint64_t buffer_ = 0;
  std::vector<std::unique_ptr<DriverQueue>> queues_;
  bool running_[EchoDevice::kQueues] = {};
};

}  // namespace
}  // namespace argosy::vhost_user

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  argosy::vhost_user::Fuzz(argosy::vhost_user::Input(data, size)).Run();
  return 0;
}
