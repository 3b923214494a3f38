// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/channel.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/error.h"

namespace argosy::vhost_user {
namespace {

absl::Status Violation(absl::string_view what) {
  return ErrnoError(EPROTO, absl::StrCat("vhost-user: ", what));
}

// Moves the descriptors of a received message into `to`; all of them are ours to close now.
void TakeDescriptors(msghdr& message, std::vector<UniqueFd>* to) {
  for (cmsghdr* cmsg = CMSG_FIRSTHDR(&message); cmsg != nullptr;
       cmsg = CMSG_NXTHDR(&message, cmsg)) {
    if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(fd));
      to->emplace_back(fd);
    }
  }
}

bool IsSocket(const UniqueFd& fd) {
  struct stat about;
  return fstat(fd.get(), &about) == 0 && S_ISSOCK(about.st_mode);
}

}  // namespace

absl::StatusOr<bool> Channel::Receive(Message* message) {
  absl::StatusOr<bool> whole = Fill(sizeof(Header));
  if (whole.ok() && *whole) {
    std::memcpy(&header_, buffer_.data(), sizeof(header_));
    if (absl::Status status = CheckHeader(); !status.ok()) {
      whole = status;
    } else {
      whole = Fill(sizeof(Header) + header_.size);
    }
  }
  if (!whole.ok()) {
    descriptors_.clear();
    return whole.status();
  }
  if (!*whole) return false;
  message->request = static_cast<Request>(header_.request);
  message->needs_reply = (header_.flags & kNeedReplyFlag) != 0;
  message->payload = absl::MakeConstSpan(buffer_.data() + sizeof(Header), header_.size);
  message->descriptors = std::exchange(descriptors_, {});
  filled_ = 0;
  return true;
}

absl::StatusOr<bool> Channel::Fill(size_t want) {
  while (filled_ < want) {
    // Never more than this message: what follows may have descriptors of its own.
    iovec iov = {buffer_.data() + filled_, want - filled_};
    alignas(cmsghdr) char ancillary[CMSG_SPACE(kMaxDescriptors * sizeof(int))];
    msghdr message = {};
    message.msg_iov = &iov;
    message.msg_iovlen = 1;
    message.msg_control = ancillary;
    message.msg_controllen = sizeof(ancillary);
    const ssize_t n = recvmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return false;
      return SystemError(errno, "vhost-user: receiving from the VMM");
    }
    const size_t before = descriptors_.size();
    TakeDescriptors(message, &descriptors_);
    if ((message.msg_flags & MSG_CTRUNC) != 0 || descriptors_.size() > kMaxDescriptors) {
      return Violation(absl::StrCat("a message with more than ", kMaxDescriptors,
                                    " descriptors, or more than this process may open"));
    }
    for (size_t i = before; i < descriptors_.size(); ++i) {
      if (IsSocket(descriptors_[i])) return Violation("a socket as a descriptor");
    }
    if (n == 0) {
      if (filled_ > 0) return Violation("the VMM hung up within a message");
      return ErrnoError(ECONNRESET, "the VMM closed the connection");
    }
    filled_ += static_cast<size_t>(n);
  }
  return true;
}

absl::Status Channel::CheckHeader() const {
  if ((header_.flags & kVersionMask) != kVersion) {
    return Violation(absl::StrCat("version ", header_.flags & kVersionMask, ", not ", kVersion));
  }
  if ((header_.flags & kReplyFlag) != 0) return Violation("a reply to nothing");
  if ((header_.flags & ~kKnownFlags) != 0) {
    return Violation(absl::StrCat("unknown flags 0x", absl::Hex(header_.flags)));
  }
  if (header_.size > kMaxPayload) {
    return Violation(absl::StrCat("request ", header_.request, " with ", header_.size,
                                  " bytes of payload; at most ", kMaxPayload, " make sense"));
  }
  return absl::OkStatus();
}

absl::Status Channel::Reply(Request request, absl::Span<const uint8_t> payload) {
  Header header = {static_cast<uint32_t>(request), kVersion | kReplyFlag,
                   static_cast<uint32_t>(payload.size())};
  iovec pieces[] = {{&header, sizeof(header)},
                    {const_cast<uint8_t*>(payload.data()), payload.size()}};
  msghdr message = {};
  message.msg_iov = pieces;
  message.msg_iovlen = 2;
  const size_t size = sizeof(header) + payload.size();
  ssize_t n;
  do {
    n = sendmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (n < 0 && errno == EINTR);
  if (n == static_cast<ssize_t>(size)) return absl::OkStatus();
  // A VMM waits for each reply, so a full socket is not one that will empty soon.
  if (n >= 0 || errno == EAGAIN) {
    return ErrnoError(ENOBUFS, "vhost-user: the VMM does not read its replies");
  }
  return SystemError(errno, "vhost-user: replying to the VMM");
}

}  // namespace argosy::vhost_user
