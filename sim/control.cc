// SPDX-License-Identifier: Apache-2.0
#include "sim/control.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/packet/wire.h"

namespace argosy::sim::control {

bool ParseRequest(absl::Span<const uint8_t> record, Request* request, absl::string_view* why) {
  if (record.size() != sizeof(Request)) {
    *why = "a record of the wrong size";
    return false;
  }
  // Enumerations are read as numbers first: a number that is no enumerator must not become one.
  uint32_t kind, verb;
  std::memcpy(&kind, record.data() + offsetof(Request, kind), sizeof(kind));
  std::memcpy(&verb, record.data() + offsetof(Request, verb), sizeof(verb));
  if (kind < static_cast<uint32_t>(Kind::kHello) || kind > static_cast<uint32_t>(Kind::kCommand)) {
    *why = "an unknown request";
    return false;
  }
  if (verb < static_cast<uint32_t>(Verb::kList) || verb > static_cast<uint32_t>(Verb::kStats)) {
    *why = "an unknown command";
    return false;
  }
  std::memcpy(static_cast<void*>(request), record.data(), sizeof(*request));
  if (request->name[kNameSize - 1] != '\0') {
    *why = "a name without end";
    return false;
  }
  const bool has_type = request->kind == Kind::kConnect || request->kind == Kind::kListen;
  if (has_type && request->type != VSOCK_TYPE_STREAM && request->type != VSOCK_TYPE_SEQPACKET) {
    *why = "an unknown socket type";
    return false;
  }
  const bool names_socket = request->kind == Kind::kConnect || request->kind == Kind::kListen ||
                            request->kind == Kind::kBindDatagram;
  if (names_socket && request->id >= kDaemonIds) {
    *why = "a socket id that is the daemon's to choose";
    return false;
  }
  return true;
}

ssize_t SendRecord(int socket, absl::Span<const uint8_t> record, int passed, int flags) {
  iovec iov = {const_cast<uint8_t*>(record.data()), record.size()};
  alignas(cmsghdr) char ancillary[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  if (passed >= 0) {
    message.msg_control = ancillary;
    message.msg_controllen = sizeof(ancillary);
    cmsghdr* cmsg = CMSG_FIRSTHDR(&message);
    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(cmsg), &passed, sizeof(int));
  }
  return sendmsg(socket, &message, flags | MSG_NOSIGNAL);
}

bool TakeAncillary(msghdr& message, UniqueFd* passed) {
  bool credentials = false;
  for (cmsghdr* cmsg = CMSG_FIRSTHDR(&message); cmsg != nullptr;
       cmsg = CMSG_NXTHDR(&message, cmsg)) {
    if (cmsg->cmsg_level != SOL_SOCKET) continue;
    credentials |= cmsg->cmsg_type == SCM_CREDENTIALS;
    if (cmsg->cmsg_type != SCM_RIGHTS) continue;
    // The buffer's padding may have room for more than one: each that the kernel made is ours to close.
    const size_t count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(fd));
      UniqueFd owned(fd);
      if (passed != nullptr && !passed->valid()) *passed = std::move(owned);
    }
  }
  return credentials;
}

ssize_t ReceiveRecord(int socket, absl::Span<uint8_t> record, UniqueFd* passed, bool* truncated) {
  iovec iov = {record.data(), record.size()};
  alignas(cmsghdr) char ancillary[CMSG_SPACE(sizeof(int))];
  msghdr message = {};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  message.msg_control = ancillary;
  message.msg_controllen = sizeof(ancillary);
  const ssize_t n = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  *truncated = n >= 0 && (message.msg_flags & MSG_CTRUNC) != 0;
  if (n >= 0) TakeAncillary(message, passed);
  return n;
}

std::string DefaultSocket() {
  const char* runtime = getenv("XDG_RUNTIME_DIR");
  if (runtime != nullptr && runtime[0] == '/') return absl::StrCat(runtime, "/argosy/sim.sock");
  if (geteuid() == 0) return "/run/argosy/sim.sock";
  return absl::StrCat("/tmp/argosy-", geteuid(), "/sim.sock");
}

}  // namespace argosy::sim::control
