// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/testing/front_end.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "transport/error.h"

namespace argosy::vhost_user {
namespace {

// More than any back end answers.
constexpr uint32_t kMaxReply = 4096;

}  // namespace

absl::Time FrontEnd::Deadline() const { return absl::Now() + options_.timeout; }

absl::Status FrontEnd::Negotiate() {
  absl::StatusOr<uint64_t> answer = Query(Request::kGetFeatures);
  if (!answer.ok()) return answer.status();
  offered_ = *answer;
  const uint64_t features = offered_ & options_.features;
  if ((features & kFeatureProtocolFeatures) != 0) {
    answer = Query(Request::kGetProtocolFeatures);
    if (!answer.ok()) return answer.status();
    offered_protocol_ = *answer;
    const uint64_t protocol = offered_protocol_ & options_.protocol_features;
    // No acknowledgement of this one: what would agree on acknowledgements is under way.
    absl::Status status = Send(Request::kSetProtocolFeatures, BytesOf(protocol));
    if (!status.ok()) return status;
    protocol_features_ = protocol;
    if ((protocol & kProtocolMq) != 0) {
      answer = Query(Request::kGetQueueNum);
      if (!answer.ok()) return answer.status();
    }
    if ((protocol & kProtocolConfigureMemSlots) != 0) {
      answer = Query(Request::kGetMaxMemSlots);
      if (!answer.ok()) return answer.status();
    }
  }
  absl::Status status = Command(Request::kSetOwner, absl::Span<const uint8_t>());
  if (!status.ok()) return status;
  status = Command(Request::kSetFeatures, features);
  if (status.ok()) features_ = features;
  return status;
}

DriverQueue::Options FrontEnd::QueueOptions(uint32_t size) const {
  return {.size = size,
          .event_index = (features_ & kFeatureEventIndex) != 0,
          .indirect_entries = (features_ & kFeatureIndirectDescriptors) != 0 ? 32u : 0u};
}

absl::Status FrontEnd::ShareMemory(const GuestMemory& memory) {
  const std::vector<MemoryRegion>& regions = memory.regions();
  const MemoryTableHeader header = {static_cast<uint32_t>(regions.size()), 0};
  std::vector<uint8_t> payload(sizeof(header) + regions.size() * sizeof(MemoryRegion));
  std::memcpy(payload.data(), &header, sizeof(header));
  std::memcpy(payload.data() + sizeof(header), regions.data(),
              regions.size() * sizeof(MemoryRegion));
  const std::vector<int> descriptors(regions.size(), memory.descriptor());
  return Command(Request::kSetMemTable, absl::MakeConstSpan(payload), descriptors);
}

absl::Status FrontEnd::AddRegion(const MemoryRegion& region, int file) {
  return Command(Request::kAddMemReg, SingleRegion{0, region}, {file});
}

absl::Status FrontEnd::RemoveRegion(const MemoryRegion& region) {
  return Command(Request::kRemMemReg, SingleRegion{0, region});
}

absl::Status FrontEnd::Start(const DriverQueue& queue) { return Start(queue, queue.first()); }

absl::Status FrontEnd::Start(const DriverQueue& queue, uint16_t base) {
  const uint32_t index = queue.index();
  absl::Status status = Command(Request::kSetVringNum, VringState{index, queue.size()});
  if (status.ok()) status = Command(Request::kSetVringBase, VringState{index, base});
  if (status.ok()) status = Command(Request::kSetVringAddr, queue.address());
  if (status.ok()) {
    status = Command(Request::kSetVringKick, uint64_t{index}, {queue.kick_descriptor()});
  }
  if (status.ok()) {
    status = Command(Request::kSetVringCall, uint64_t{index}, {queue.call_descriptor()});
  }
  if (status.ok() && (features_ & kFeatureProtocolFeatures) != 0) {
    status = Command(Request::kSetVringEnable, VringState{index, 1});
  }
  return status;
}

absl::StatusOr<uint16_t> FrontEnd::Stop(const DriverQueue& queue) {
  if ((features_ & kFeatureProtocolFeatures) != 0) {
    absl::Status status = Command(Request::kSetVringEnable, VringState{queue.index(), 0});
    if (!status.ok()) return status;
  }
  absl::StatusOr<Reply> reply = Ask(Request::kGetVringBase, BytesOf(VringState{queue.index(), 0}));
  if (!reply.ok()) return reply.status();
  VringState state;
  if (reply->payload.size() != sizeof(state)) return ErrnoError(EPROTO, "no state of a ring");
  std::memcpy(&state, reply->payload.data(), sizeof(state));
  if (state.index != queue.index() || state.number > 0xFFFF) {
    return ErrnoError(EPROTO, "the state of another ring");
  }
  return static_cast<uint16_t>(state.number);
}

absl::StatusOr<std::vector<uint8_t>> FrontEnd::GetConfig(uint32_t offset, uint32_t size) {
  const ConfigHeader header = {offset, size, 0};
  std::vector<uint8_t> payload(sizeof(header) + size);
  std::memcpy(payload.data(), &header, sizeof(header));
  absl::StatusOr<Reply> reply = Ask(Request::kGetConfig, payload);
  if (!reply.ok()) return reply.status();
  if (reply->payload.empty()) return ErrnoError(EINVAL, "no such configuration");
  if (reply->payload.size() != payload.size()) {
    return ErrnoError(EPROTO, "configuration of another size");
  }
  return std::vector<uint8_t>(reply->payload.begin() + sizeof(header), reply->payload.end());
}

absl::Status FrontEnd::Command(Request request, absl::Span<const uint8_t> payload,
                               absl::Span<const int> descriptors) {
  const bool acknowledged = (protocol_features_ & kProtocolReplyAck) != 0;
  absl::Status status =
      Send(request, payload, descriptors, acknowledged ? kVersion | kNeedReplyFlag : kVersion);
  if (!status.ok()) return status;
  if (!acknowledged) {
    if (options_.pump) options_.pump();
    return absl::OkStatus();
  }
  absl::StatusOr<Reply> reply = Receive();
  if (!reply.ok()) return reply.status();
  uint64_t value;
  if (reply->request != request || reply->payload.size() != sizeof(value)) {
    return ErrnoError(EPROTO, "no acknowledgement");
  }
  std::memcpy(&value, reply->payload.data(), sizeof(value));
  if (value == 0) return absl::OkStatus();
  return ErrnoError(EINVAL, absl::StrCat("request ", static_cast<uint32_t>(request),
                                         " was refused with ", value));
}

absl::StatusOr<FrontEnd::Reply> FrontEnd::Ask(Request request, absl::Span<const uint8_t> payload) {
  if (absl::Status status = Send(request, payload); !status.ok()) return status;
  absl::StatusOr<Reply> reply = Receive();
  if (reply.ok() && reply->request != request) {
    return ErrnoError(EPROTO, "the answer to another request");
  }
  return reply;
}

absl::StatusOr<uint64_t> FrontEnd::Query(Request request) {
  absl::StatusOr<Reply> reply = Ask(request, {});
  if (!reply.ok()) return reply.status();
  uint64_t value;
  if (reply->payload.size() != sizeof(value)) return ErrnoError(EPROTO, "no number");
  std::memcpy(&value, reply->payload.data(), sizeof(value));
  return value;
}

absl::Status FrontEnd::Send(Request request, absl::Span<const uint8_t> payload,
                            absl::Span<const int> descriptors, uint32_t flags) {
  const Header header = {static_cast<uint32_t>(request), flags,
                         static_cast<uint32_t>(payload.size())};
  std::vector<uint8_t> bytes(sizeof(header) + payload.size());
  std::memcpy(bytes.data(), &header, sizeof(header));
  if (!payload.empty()) std::memcpy(bytes.data() + sizeof(header), payload.data(), payload.size());
  return SendRaw(bytes, descriptors);
}

absl::Status FrontEnd::SendRaw(absl::Span<const uint8_t> bytes, absl::Span<const int> descriptors) {
  iovec iov = {const_cast<uint8_t*>(bytes.data()), bytes.size()};
  const size_t size = descriptors.size() * sizeof(int);
  std::vector<char> ancillary(CMSG_SPACE(size));
  msghdr message = {};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  if (!descriptors.empty()) {
    message.msg_control = ancillary.data();
    message.msg_controllen = ancillary.size();
    cmsghdr* const cmsg = CMSG_FIRSTHDR(&message);
    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN(size);
    std::memcpy(CMSG_DATA(cmsg), descriptors.data(), size);
  }
  const ssize_t n = sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
  if (n < 0) return SystemError(errno, "to the back end");
  if (static_cast<size_t>(n) != bytes.size()) return ErrnoError(ENOBUFS, "to the back end");
  return absl::OkStatus();
}

absl::Status FrontEnd::ReadAll(uint8_t* to, size_t size, absl::Time deadline) {
  while (size > 0) {
    if (!WaitReadable(socket_.get(), deadline, options_.pump)) {
      return ErrnoError(ETIMEDOUT, "the back end does not answer");
    }
    const ssize_t n = recv(socket_.get(), to, size, MSG_DONTWAIT);
    if (n == 0) return ErrnoError(ECONNRESET, "the back end hung up");
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (n < 0) return SystemError(errno, "from the back end");
    to += n;
    size -= static_cast<size_t>(n);
  }
  return absl::OkStatus();
}

absl::StatusOr<FrontEnd::Reply> FrontEnd::Receive() {
  const absl::Time deadline = Deadline();
  Header header;
  absl::Status status = ReadAll(reinterpret_cast<uint8_t*>(&header), sizeof(header), deadline);
  if (!status.ok()) return status;
  if ((header.flags & kVersionMask) != kVersion || (header.flags & kReplyFlag) == 0 ||
      header.size > kMaxReply) {
    return ErrnoError(EPROTO, "the back end says what is no reply");
  }
  Reply reply = {static_cast<Request>(header.request), std::vector<uint8_t>(header.size)};
  status = ReadAll(reply.payload.data(), header.size, deadline);
  if (!status.ok()) return status;
  return reply;
}

absl::Status FrontEnd::WaitHangUp() {
  uint8_t byte;
  const absl::Status status = ReadAll(&byte, 1, Deadline());
  if (status.ok()) return ErrnoError(EPROTO, "the back end says something");
  return ErrnoOf(status) == ECONNRESET ? absl::OkStatus() : status;
}

}  // namespace argosy::vhost_user
