// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/host_forward.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <linux/vm_sockets.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"
#include "transport/error.h"

namespace argosy::vhost_user {
namespace {

// Accepted in one turn; then the others have theirs.
constexpr int kAcceptsPerTurn = 64;

constexpr int kBacklog = 128;

sockaddr_vm SocketAddress(uint32_t cid, uint32_t port) {
  sockaddr_vm vm = {};
  vm.svm_family = AF_VSOCK;
  vm.svm_cid = cid;
  vm.svm_port = port;
  return vm;
}

absl::StatusOr<UniqueFd> NewSocket(int type) {
  UniqueFd fd(socket(AF_VSOCK, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (fd.valid()) return fd;
  if (errno == EAFNOSUPPORT) {
    return ErrnoError(ENODEV, "forward-cid: this kernel has no AF_VSOCK; try: modprobe vsock");
  }
  return SystemError(errno, "forward-cid: no socket of AF_VSOCK");
}

absl::Status Bind(const UniqueFd& fd, uint32_t cid, uint32_t port) {
  const sockaddr_vm at = SocketAddress(cid, port);
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&at), sizeof(at)) == 0) {
    return absl::OkStatus();
  }
  return SystemError(errno, "bind");
}

// The CID whose connections arrive here as those of forward-cid: those of this host itself, whatever
// CIDs it has, come from VMADDR_CID_LOCAL.
uint32_t ClientCid(uint32_t forward_cid) {
  uint32_t own = VMADDR_CID_ANY;  // a kernel with vsock_loopback alone may say that
  const UniqueFd device(open("/dev/vsock", O_RDONLY | O_CLOEXEC));
  if (device.valid()) ioctl(device.get(), IOCTL_VM_SOCKETS_GET_LOCAL_CID, &own);
  // In no virtual machine, so that this is the host that CID 2 names.
  if (own == VMADDR_CID_ANY || own == VMADDR_CID_LOCAL) own = VMADDR_CID_HOST;
  return forward_cid == own ? VMADDR_CID_LOCAL : forward_cid;
}

}  // namespace

class HostForward::Listener : public EventLoop::Handler {
 public:
  Listener(HostForward& forward, UniqueFd fd, uint32_t port)
      : forward_(forward), fd_(std::move(fd)), port_(port) {}

  absl::Status Start() { return forward_.loop_.Add(fd_.get(), this); }

  void OnEvents(uint32_t) override { OnTurn(); }
  void OnTurn() override {
    for (int i = 0; i < kAcceptsPerTurn; ++i) {
      sockaddr_vm peer = {};
      socklen_t size = sizeof(peer);
      UniqueFd fd(accept4(fd_.get(), reinterpret_cast<sockaddr*>(&peer), &size,
                          SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (!fd.valid()) {
        // A client that is gone already is none.
        if (errno == EINTR || errno == ECONNABORTED || errno == ECONNRESET) continue;
        // Out of descriptors: those who wait are served with the next who comes.
        if (errno != EAGAIN) spdlog::warn("cannot accept: {}", strerror(errno));
        return;
      }
      if (peer.svm_cid != forward_.client_cid_) {
        spdlog::debug("port {}: a client from CID {}, which is not forward-cid: refused", port_,
                      peer.svm_cid);
        continue;
      }
      forward_.accept_(std::move(fd), port_);
    }
    forward_.loop_.Again(this);
  }

 private:
  HostForward& forward_;
  const UniqueFd fd_;
  const uint32_t port_;
};

HostForward::HostForward(EventLoop& loop, uint32_t forward_cid, Accept accept)
    : loop_(loop),
      forward_cid_(forward_cid),
      client_cid_(ClientCid(forward_cid)),
      accept_(std::move(accept)) {}

HostForward::~HostForward() {
  for (std::unique_ptr<Listener>& listener : listeners_) loop_.Retire(std::move(listener));
}

absl::StatusOr<std::unique_ptr<HostForward>> HostForward::Create(EventLoop& loop,
                                                                 uint32_t forward_cid,
                                                                 const std::vector<uint32_t>& ports,
                                                                 Accept accept) {
  // A kernel without it is told of now, not when the guest connects.
  absl::StatusOr<UniqueFd> probe = NewSocket(SOCK_STREAM);
  if (!probe.ok()) return probe.status();
  if (forward_cid == VMADDR_CID_LOCAL) {
    const absl::Status bound = Bind(*probe, VMADDR_CID_LOCAL, VMADDR_PORT_ANY);
    if (ErrnoOf(bound) == EADDRNOTAVAIL) {
      return ErrnoError(ENODEV,
                        "forward-cid 1: this kernel has no way to itself; try: modprobe "
                        "vsock_loopback");
    }
    if (!bound.ok()) return Annotate(bound, "forward-cid 1");
  }
  auto forward = absl::WrapUnique(new HostForward(loop, forward_cid, std::move(accept)));
  for (const uint32_t port : ports) {
    absl::Status status = forward->Listen(port);
    if (!status.ok()) return Annotate(status, absl::StrCat("forward-listen ", port));
  }
  return forward;
}

absl::Status HostForward::Listen(uint32_t port) {
  absl::StatusOr<UniqueFd> fd = NewSocket(SOCK_STREAM);
  if (!fd.ok()) return fd.status();
  const absl::Status bound = Bind(*fd, VMADDR_CID_ANY, port);
  switch (ErrnoOf(bound)) {
    case 0:
      break;
    case EADDRINUSE:
      return ErrnoError(EADDRINUSE, "another program listens there");
    case EACCES:
      return ErrnoError(EACCES, "ports below 1024 need CAP_NET_BIND_SERVICE");
    default:
      return bound;
  }
  if (listen(fd->get(), kBacklog) != 0) return SystemError(errno, "listen");
  listeners_.push_back(std::make_unique<Listener>(*this, *std::move(fd), port));
  return listeners_.back()->Start();
}

absl::StatusOr<UniqueFd> HostForward::Connect(uint32_t port, int type) const {
  absl::StatusOr<UniqueFd> fd = NewSocket(type);
  if (!fd.ok()) return fd;
  const sockaddr_vm to = SocketAddress(forward_cid_, port);
  if (connect(fd->get(), reinterpret_cast<const sockaddr*>(&to), sizeof(to)) != 0 &&
      errno != EINPROGRESS) {
    return SystemError(errno,
                       absl::StrCat("cannot connect to CID ", forward_cid_, ", port ", port));
  }
  return fd;
}

}  // namespace argosy::vhost_user
