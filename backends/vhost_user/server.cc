// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/server.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/error.h"

namespace argosy::vhost_user {
namespace {

absl::Status Refusal(absl::string_view what) { return ErrnoError(EINVAL, what); }

// Whether a message has the size and the number of descriptors that its request takes.
absl::Status Expect(const Message& message, size_t size, size_t descriptors = 0) {
  if (message.payload.size() != size) {
    return Refusal(absl::StrCat(message.payload.size(), " bytes of payload, not ", size));
  }
  if (message.descriptors.size() != descriptors) {
    return Refusal(absl::StrCat(message.descriptors.size(), " descriptors, not ", descriptors));
  }
  return absl::OkStatus();
}

absl::Span<const uint8_t> Bytes(const void* data, size_t size) {
  return absl::MakeConstSpan(static_cast<const uint8_t*>(data), size);
}

// Makes a descriptor of the VMM's fit to be signalled by us.
absl::Status PrepareEvent(int fd) {
  // Writing to a pipe or socket could raise SIGPIPE, and a regular file would grow.  Nothing says
  // "eventfd", but of an inode without a type there is little else.
  struct stat about;
  if (fstat(fd, &about) != 0) return SystemError(errno, "looking at a ring's descriptor");
  if ((about.st_mode & S_IFMT) != 0) return Refusal("a ring's descriptor that is no eventfd");
  // The flag is the VMM's too, as it shares the open file; its own eventfds have it, and without it
  // one VM could hold up all.
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || ((flags & O_NONBLOCK) == 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)) {
    return SystemError(errno, "making a ring's descriptor non-blocking");
  }
  return absl::OkStatus();
}

// Adds one to an eventfd.
void Signal(const UniqueFd& event) {
  if (!event.valid()) return;
  const uint64_t one = 1;
  // A counter that is full has not been read: its reader will wake.
  [[maybe_unused]] const ssize_t n = write(event.get(), &one, sizeof(one));
}

}  // namespace

Server::Server(UniqueFd connection, DeviceOps* device)
    : channel_(std::move(connection)), device_(device), rings_(device->QueueCount()) {}

absl::StatusOr<bool> Server::OnReadable() {
  for (int i = 0; i < kMessagesPerTurn; ++i) {
    if (!ended_.ok()) return ended_;
    Message message;
    absl::StatusOr<bool> got = channel_.Receive(&message);
    if (got.ok() && !*got) return false;
    absl::Status status = got.ok() ? Process(message) : got.status();
    if (status.ok()) status = memory_.Check();
    if (!status.ok()) Stop(std::move(status));
  }
  if (!ended_.ok()) return ended_;
  return true;
}

void Server::Stop(absl::Status reason) {
  if (!ended_.ok()) return;
  ended_ = std::move(reason);
  for (uint32_t i = 0; i < rings_.size(); ++i) {
    if (!rings_[i].running) continue;
    StopRing(i);
    Signal(rings_[i].error);
  }
}

void Server::Notify(uint32_t queue) { Signal(rings_[queue].call); }

absl::Status Server::Process(Message& message) {
  fatal_ = false;
  bool replied = false;
  absl::Status status = Dispatch(message, &replied);
  if (!status.ok()) {
    status = Annotate(status,
                      absl::StrCat("vhost-user request ", static_cast<uint32_t>(message.request)));
  }
  // Judged after the request: it may have been the one that negotiates it.
  const bool acknowledge =
      !replied && message.needs_reply && (protocol_features_ & kProtocolReplyAck) != 0;
  if (acknowledge) {
    if (absl::Status sent = ReplyU64(message, status.ok() ? 0 : 1); !sent.ok()) return sent;
  }
  if (status.ok() || fatal_) return status;
  // A driver may write to the configuration space of its device: that is no breach of the VMM's.
  if (!acknowledge && message.request != Request::kSetConfig) return status;
  device_->OnRefused(status);
  return absl::OkStatus();
}

absl::Status Server::Dispatch(Message& message, bool* replied) {
  // Answers a question.  One that is not well-formed has no answer, and an acknowledgement would
  // be taken for it.
  const auto answer = [&](uint64_t value) -> absl::Status {
    *replied = true;
    absl::Status status = Expect(message, 0);
    if (status.ok()) status = ReplyU64(message, value);
    return status.ok() ? status : Fatal(status);
  };
  // Hands the payload, of the one size it may have, to the function.
  const auto with = [&]<typename T>(absl::Status (Server::*set)(T)) -> absl::Status {
    using Value = std::remove_cvref_t<T>;
    if (absl::Status status = Expect(message, sizeof(Value)); !status.ok()) return status;
    return (this->*set)(message.At<Value>());
  };
  switch (message.request) {
    case Request::kGetFeatures:
      return answer(device_->Features() | kRingFeatures | kFeatureProtocolFeatures);
    case Request::kSetFeatures:
      return with(&Server::SetFeatures);
    case Request::kGetProtocolFeatures:
      return answer(kProtocolFeatures);
    case Request::kSetProtocolFeatures:
      return with(&Server::SetProtocolFeatures);
    case Request::kGetQueueNum:
      return answer(rings_.size());
    case Request::kGetMaxMemSlots:
      return answer(kMaxRegions);
    case Request::kSetOwner:
      return Expect(message, 0);
    case Request::kResetOwner: {
      // Deprecated, and read in several ways; what all of them contain is that the rings stop.
      if (absl::Status status = Expect(message, 0); !status.ok()) return status;
      for (uint32_t i = 0; i < rings_.size(); ++i) {
        StopRing(i);
        rings_[i].enabled = false;
        rings_[i].kick.reset();
      }
      return absl::OkStatus();
    }
    case Request::kResetDevice:
      if ((protocol_features_ & kProtocolResetDevice) == 0) {
        return Refusal("RESET_DEVICE was not negotiated");
      }
      if (absl::Status status = Expect(message, 0); !status.ok()) return status;
      Reset();
      return absl::OkStatus();
    case Request::kSetMemTable:
      return SetMemTable(message);
    case Request::kAddMemReg:
      return AddRegion(message);
    case Request::kRemMemReg:
      return RemoveRegion(message);
    case Request::kSetVringNum:
      return with(&Server::SetVringNum);
    case Request::kSetVringAddr:
      return with(&Server::SetVringAddr);
    case Request::kSetVringBase:
      return with(&Server::SetVringBase);
    case Request::kSetVringEnable:
      return with(&Server::SetVringEnable);
    case Request::kSetVringKick:
    case Request::kSetVringCall:
    case Request::kSetVringErr:
      return SetVringDescriptor(message);
    case Request::kGetVringBase: {
      *replied = true;
      const absl::Status status = GetVringBase(message);
      return status.ok() ? status : Fatal(status);
    }
    case Request::kGetConfig: {
      *replied = true;
      const absl::Status status = GetConfig(message);
      return status.ok() ? status : Fatal(status);
    }
    case Request::kSetConfig:
      return Refusal("the configuration space is read-only");
  }
  return Refusal("unknown, and not offered");
}

absl::Status Server::ReplyU64(const Message& message, uint64_t value) {
  return channel_.Reply(message.request, Bytes(&value, sizeof(value)));
}

absl::Status Server::Fatal(absl::Status reason) {
  fatal_ = true;
  return reason;
}

absl::Status Server::SetFeatures(uint64_t features) {
  const uint64_t offered = device_->Features() | kRingFeatures | kFeatureProtocolFeatures;
  if ((features & ~offered) != 0) {
    return Refusal(absl::StrCat("features 0x", absl::Hex(features & ~offered), " not offered"));
  }
  if (features == features_) return absl::OkStatus();
  for (const Ring& ring : rings_) {
    if (ring.running) return Refusal("new features while a ring runs");
  }
  features_ = features;
  for (uint32_t i = 0; i < rings_.size(); ++i) {
    if (absl::Status status = Adjust(i); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status Server::SetProtocolFeatures(uint64_t features) {
  if ((features & ~kProtocolFeatures) != 0) {
    return Refusal(absl::StrCat("protocol features 0x", absl::Hex(features & ~kProtocolFeatures),
                                " not offered"));
  }
  protocol_features_ = features;
  return absl::OkStatus();
}

template <typename Change>
absl::Status Server::ChangeMemory(Change change) {
  std::vector<uint32_t> were_running;
  for (uint32_t i = 0; i < rings_.size(); ++i) {
    if (!rings_[i].running) continue;
    StopRing(i);
    were_running.push_back(i);
  }
  change();
  device_->OnMemoryChanged();
  for (const uint32_t i : were_running) {
    if (absl::Status status = Adjust(i); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status Server::SetMemTable(const Message& message) {
  if (message.payload.size() < sizeof(MemoryTableHeader)) return Refusal("no memory table");
  const auto header = message.At<MemoryTableHeader>();
  if (header.count > kMaxRegions) {
    return Refusal(absl::StrCat(header.count, " memory regions; at most ", kMaxRegions));
  }
  const size_t size = sizeof(header) + size_t{header.count} * sizeof(MemoryRegion);
  if (absl::Status status = Expect(message, size, header.count); !status.ok()) return status;
  MemoryTable fresh;
  for (uint32_t i = 0; i < header.count; ++i) {
    const auto region = message.At<MemoryRegion>(sizeof(header) + i * sizeof(MemoryRegion));
    absl::Status status = fresh.Add(region, message.descriptors[i].get());
    if (!status.ok()) return status;
  }
  return ChangeMemory([&] { memory_ = std::move(fresh); });
}

absl::Status Server::AddRegion(const Message& message) {
  if ((protocol_features_ & kProtocolConfigureMemSlots) == 0) {
    return Refusal("CONFIGURE_MEM_SLOTS was not negotiated");
  }
  if (absl::Status status = Expect(message, sizeof(SingleRegion), 1); !status.ok()) return status;
  // What was mapped stays where it is, so rings run on.
  return memory_.Add(message.At<SingleRegion>().region, message.descriptors[0].get());
}

absl::Status Server::RemoveRegion(const Message& message) {
  if ((protocol_features_ & kProtocolConfigureMemSlots) == 0) {
    return Refusal("CONFIGURE_MEM_SLOTS was not negotiated");
  }
  // Some front ends send the region's descriptor along; it is of no use.
  const size_t descriptors = message.descriptors.empty() ? 0 : 1;
  if (absl::Status status = Expect(message, sizeof(SingleRegion), descriptors); !status.ok()) {
    return status;
  }
  const MemoryRegion region = message.At<SingleRegion>().region;
  // Rings are not disturbed for what is not there.
  if (!memory_.Contains(region)) return memory_.Remove(region);
  absl::Status removed;
  if (absl::Status status = ChangeMemory([&] { removed = memory_.Remove(region); }); !status.ok()) {
    return status;
  }
  return removed;
}

absl::Status Server::CheckRing(uint32_t index, bool must_be_stopped) const {
  if (index >= rings_.size()) {
    return Refusal(absl::StrCat("ring ", index, " of ", rings_.size()));
  }
  if (must_be_stopped && rings_[index].running) {
    return Refusal(absl::StrCat("ring ", index, " runs"));
  }
  return absl::OkStatus();
}

absl::Status Server::SetVringNum(const VringState& state) {
  if (absl::Status status = CheckRing(state.index, true); !status.ok()) return status;
  if (!std::has_single_bit(state.number) || state.number > device_->MaxQueueSize()) {
    return Refusal(absl::StrCat("a ring of ", state.number, " descriptors; a power of two up to ",
                                device_->MaxQueueSize(), " makes sense"));
  }
  rings_[state.index].size = state.number;
  return Adjust(state.index);
}

absl::Status Server::SetVringAddr(const VringAddress& address) {
  if (absl::Status status = CheckRing(address.index, true); !status.ok()) return status;
  rings_[address.index].address = address;
  return Adjust(address.index);
}

absl::Status Server::SetVringBase(const VringState& state) {
  if (absl::Status status = CheckRing(state.index, true); !status.ok()) return status;
  if (state.number > 0xFFFF) return Refusal(absl::StrCat("a base of ", state.number));
  rings_[state.index].base = static_cast<uint16_t>(state.number);
  return absl::OkStatus();
}

absl::Status Server::SetVringEnable(const VringState& state) {
  if (absl::Status status = CheckRing(state.index, false); !status.ok()) return status;
  if ((features_ & kFeatureProtocolFeatures) == 0) {
    return Refusal("protocol features were not negotiated");
  }
  if (state.number > 1) return Refusal(absl::StrCat("enable: ", state.number));
  rings_[state.index].enabled = state.number == 1;
  return Adjust(state.index);
}

absl::Status Server::SetVringDescriptor(Message& message) {
  if (message.payload.size() != sizeof(uint64_t)) return Expect(message, sizeof(uint64_t));
  const auto value = message.At<uint64_t>();
  if ((value & ~(kVringIndexMask | kVringNoDescriptor)) != 0) {
    return Refusal(absl::StrCat("a ring of index 0x", absl::Hex(value)));
  }
  const bool has_descriptor = (value & kVringNoDescriptor) == 0;
  absl::Status status = Expect(message, sizeof(uint64_t), has_descriptor ? 1 : 0);
  if (!status.ok()) return status;
  const auto index = static_cast<uint32_t>(value & kVringIndexMask);
  status = CheckRing(index, false);
  if (!status.ok()) return status;
  UniqueFd descriptor;
  if (has_descriptor) {
    descriptor = std::move(message.descriptors[0]);
    status = PrepareEvent(descriptor.get());
    if (!status.ok()) return status;
  }
  Ring& ring = rings_[index];
  switch (message.request) {
    case Request::kSetVringKick:
      if (!has_descriptor) return Refusal("a ring to be polled");
      // Whoever watches the old one must let go of it.
      StopRing(index);
      ring.kick = std::move(descriptor);
      return Adjust(index);
    case Request::kSetVringCall:
      ring.call = std::move(descriptor);
      // What was signalled to the old one in the meantime may have been missed.
      if (ring.running) Notify(index);
      return absl::OkStatus();
    default:
      ring.error = std::move(descriptor);
      return absl::OkStatus();
  }
}

absl::Status Server::GetVringBase(const Message& message) {
  if (absl::Status status = Expect(message, sizeof(VringState)); !status.ok()) return status;
  auto state = message.At<VringState>();
  if (absl::Status status = CheckRing(state.index, false); !status.ok()) return status;
  Ring& ring = rings_[state.index];
  StopRing(state.index);
  // It starts again when it is given new ones.
  ring.kick.reset();
  ring.call.reset();
  state.number = ring.base;
  return channel_.Reply(message.request, Bytes(&state, sizeof(state)));
}

absl::Status Server::GetConfig(const Message& message) {
  if (message.payload.size() < sizeof(ConfigHeader)) return Refusal("no range of configuration");
  auto header = message.At<ConfigHeader>();
  if (header.size > kMaxConfigSize) {
    return Refusal(absl::StrCat(header.size, " bytes of configuration"));
  }
  if (absl::Status status = Expect(message, sizeof(header) + header.size); !status.ok()) {
    return status;
  }
  const absl::Span<const uint8_t> config = device_->ConfigSpace();
  if (header.offset > config.size() || header.size > config.size() - header.offset) {
    // The protocol's way to say no: a reply without payload.
    device_->OnRefused(Refusal(absl::StrCat("configuration from ", header.offset, " to ",
                                            uint64_t{header.offset} + header.size, " of ",
                                            config.size(), " bytes")));
    return channel_.Reply(message.request, {});
  }
  uint8_t reply[sizeof(header) + kMaxConfigSize];
  std::memcpy(reply, &header, sizeof(header));
  // Nothing may be null.
  if (header.size > 0) {
    std::memcpy(reply + sizeof(header), config.data() + header.offset, header.size);
  }
  return channel_.Reply(message.request, Bytes(reply, sizeof(header) + header.size));
}

void Server::Reset() {
  for (uint32_t i = 0; i < rings_.size(); ++i) {
    StopRing(i);
    rings_[i] = Ring();
  }
  features_ = 0;
  device_->OnReset();
}

bool Server::ShouldRun(const Ring& ring) const {
  const bool enabled = ring.enabled || (features_ & kFeatureProtocolFeatures) == 0;
  return enabled && ring.kick.valid() && ring.size != 0 && ring.address.has_value();
}

absl::Status Server::Adjust(uint32_t index) {
  Ring& ring = rings_[index];
  if (ShouldRun(ring) == ring.running) return absl::OkStatus();
  if (ring.running) {
    StopRing(index);
    return absl::OkStatus();
  }
  const Virtqueue::Layout layout = {ring.size, ring.address->descriptors, ring.address->available,
                                    ring.address->used};
  absl::Status status = ring.queue.Configure(memory_, layout, ring.base, features_);
  if (status.ok()) {
    ring.running = true;
    status = device_->OnRingEnabled(index);
    ring.running = status.ok();
  }
  return status.ok() ? status : Fatal(Annotate(status, absl::StrCat("ring ", index)));
}

void Server::StopRing(uint32_t index) {
  Ring& ring = rings_[index];
  if (!ring.running) return;
  device_->OnRingStopped(index);
  ring.running = false;
  ring.base = ring.queue.next_available();
}

}  // namespace argosy::vhost_user
