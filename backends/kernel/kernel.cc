// SPDX-License-Identifier: Apache-2.0
#include "backends/kernel/kernel.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/utsname.h>

#include <linux/vm_sockets.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <string>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "transport/error.h"

namespace argosy {
namespace {

// A SEQPACKET message must fit the peer's buffer; this is the kernel's default
// (VIRTIO_VSOCK_DEFAULT_BUF_SIZE).
constexpr size_t kDefaultBuffer = 256 * 1024;

// What one packet of the kernel's own transports holds (VIRTIO_VSOCK_MAX_PKT_BUF_SIZE).
constexpr size_t kMaxDatagram = 64 * 1024;

constexpr absl::string_view kNoCarrier =
    "no transport of the kernel leads there; is its module loaded (vsock_loopback for this "
    "machine, vmw_vsock_virtio_transport in a KVM guest, vhost_vsock on its host, "
    "vsock_argo_transport on Xen)?";

sockaddr_vm SocketAddress(Address address) {
  sockaddr_vm vm = {};
  vm.svm_family = AF_VSOCK;
  vm.svm_cid = address.cid;
  vm.svm_port = address.port;
  return vm;
}

absl::StatusOr<UniqueFd> NewSocket(int kind) {
  UniqueFd fd(socket(AF_VSOCK, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (fd.valid()) return fd;
  switch (errno) {
    case EAFNOSUPPORT:
      return ErrnoError(ENODEV, "this kernel has no AF_VSOCK; try: modprobe vsock");
    case ESOCKTNOSUPPORT:
      return ErrnoError(ESOCKTNOSUPPORT, "this kernel's AF_VSOCK has no such type of socket");
    case EPERM:
    case EACCES:
      return ErrnoError(EACCES, "AF_VSOCK is denied here (a container's seccomp filter?)");
    default:
      return SystemError(errno, "socket(AF_VSOCK)");
  }
}

absl::StatusOr<UniqueFd> NewSocket(SocketType type) {
  return NewSocket(type == SocketType::kStream ? SOCK_STREAM : SOCK_SEQPACKET);
}

absl::StatusOr<UniqueFd> NewDatagramSocket() {
  absl::StatusOr<UniqueFd> fd = NewSocket(SOCK_DGRAM);
  // The kernel knows the type, but has no transport for it.
  if (ErrnoOf(fd.status()) != ENODEV) return fd;
  return ErrnoError(ESOCKTNOSUPPORT,
                    "no transport of the kernel has datagrams (vsock_argo_transport has); use a "
                    "stream or SEQPACKET");
}

absl::StatusOr<Address> LocalAddress(int fd) {
  sockaddr_vm vm = {};
  socklen_t length = sizeof(vm);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&vm), &length) != 0) {
    return SystemError(errno, "getsockname");
  }
  return Address{vm.svm_cid, vm.svm_port};
}

absl::Status BindTo(int fd, uint32_t port) {
  const sockaddr_vm vm = SocketAddress({VMADDR_CID_ANY, port});
  if (bind(fd, reinterpret_cast<const sockaddr*>(&vm), sizeof(vm)) == 0) return absl::OkStatus();
  switch (errno) {
    case EADDRINUSE:
      return ErrnoError(EADDRINUSE, absl::StrCat("port ", port, " is taken"));
    case EACCES:
      return ErrnoError(
          EACCES, absl::StrCat("port ", port, ": ports below 1024 need CAP_NET_BIND_SERVICE"));
    default:
      return SystemError(errno, absl::StrCat("bind to port ", port));
  }
}

absl::Status ConnectError(int error, Address peer) {
  const std::string to = ToString(peer);
  switch (error) {
    case ECONNRESET:
      return ErrnoError(error, absl::StrCat(to, ": nobody listens there"));
    case ETIMEDOUT:
      return ErrnoError(error, absl::StrCat(to, ": no answer"));
    case ENODEV:
    case ENETUNREACH:
    case EHOSTUNREACH:
      return ErrnoError(ENODEV, absl::StrCat(to, ": ", kNoCarrier));
    case ESOCKTNOSUPPORT:
      return ErrnoError(error, absl::StrCat(to, ": its transport has no SOCK_SEQPACKET"));
    default:
      return SystemError(error, absl::StrCat("connect to ", to));
  }
}

absl::StatusOr<int> PendingError(int fd) {
  int error = 0;
  socklen_t size = sizeof(error);
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
    return SystemError(errno, "SO_ERROR");
  }
  return error;
}

absl::StatusOr<uint32_t> OwnCid() {
  const UniqueFd fd(open("/dev/vsock", O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) {
    if (errno == ENOENT || errno == ENXIO || errno == ENODEV) {
      return ErrnoError(ENODEV, "/dev/vsock is not there; try: modprobe vsock");
    }
    return SystemError(errno, "/dev/vsock");
  }
  uint32_t cid = VMADDR_CID_ANY;
  if (ioctl(fd.get(), IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid) != 0) {
    return SystemError(errno, "/dev/vsock: IOCTL_VM_SOCKETS_GET_LOCAL_CID");
  }
  // No transport gives this machine a CID for others: what is left is itself.
  return cid == VMADDR_CID_ANY ? kCidLocal : cid;
}

// What only a release number tells.
bool KernelIsAtLeast(int major, int minor) {
  utsname name;
  int has_major = 0, has_minor = 0;
  if (uname(&name) != 0 || sscanf(name.release, "%d.%d", &has_major, &has_minor) != 2) return false;
  return std::pair(has_major, has_minor) >= std::pair(major, minor);
}

// The kernel says that the connection ended, and sometimes that it was reset; what the peer had
// read it keeps to itself.
class KernelEnding : public Socket::Ending {
 public:
  absl::Status Wait(int fd, absl::Time deadline) override {
    for (;;) {
      // Our direction has ended, so the end of the peer's is the end.
      pollfd p = {fd, POLLRDHUP, 0};
      const absl::Duration left =
          std::clamp(deadline - absl::Now(), absl::ZeroDuration(), absl::Hours(24));
      const timespec timeout = absl::ToTimespec(left);
      const int n = ppoll(&p, 1, &timeout, nullptr);
      if (n < 0 && errno != EINTR) return SystemError(errno, "poll");
      if (n > 0) break;
      if (absl::Now() >= deadline) {
        return ErrnoError(ETIMEDOUT, "the deadline passed before the connection ended");
      }
    }
    const absl::StatusOr<int> error = PendingError(fd);
    if (!error.ok()) return error.status();
    if (*error == 0) return absl::OkStatus();
    if (*error == ECONNRESET) return ErrnoError(*error, "the connection was reset");
    return SystemError(*error, "the connection failed");
  }
};

absl::StatusOr<Socket> MakeSocket(UniqueFd fd, Address peer, SocketType type) {
  const absl::StatusOr<Address> local = LocalAddress(fd.get());
  if (!local.ok()) return local.status();
  return Socket(std::move(fd), *local, peer, type, std::make_unique<KernelEnding>());
}

class KernelConnecting : public Connecting {
 public:
  KernelConnecting(UniqueFd fd, Address peer, SocketType type)
      : fd_(std::move(fd)), peer_(peer), type_(type) {}
  int fd() const override { return fd_.get(); }
  short events() const override { return POLLOUT; }

  absl::StatusOr<Socket> Complete() override {
    pollfd p = {fd_.get(), POLLOUT, 0};
    if (poll(&p, 1, 0) <= 0) return ErrnoError(EAGAIN, "still connecting");
    const absl::StatusOr<int> error = PendingError(fd_.get());
    if (!error.ok()) return error.status();
    if (*error != 0) return ConnectError(*error, peer_);
    if (fcntl(fd_.get(), F_SETFL, 0) != 0) return SystemError(errno, "fcntl");
    return MakeSocket(std::move(fd_), peer_, type_);
  }

 private:
  UniqueFd fd_;
  const Address peer_;
  const SocketType type_;
};

class KernelListener : public Listener {
 public:
  KernelListener(UniqueFd fd, Address local, SocketType type)
      : fd_(std::move(fd)), local_(local), type_(type) {}
  int fd() const override { return fd_.get(); }
  Address local() const override { return local_; }

  absl::StatusOr<Socket> Accept() override {
    for (;;) {
      sockaddr_vm vm = {};
      socklen_t length = sizeof(vm);
      UniqueFd fd(accept4(fd_.get(), reinterpret_cast<sockaddr*>(&vm), &length, SOCK_CLOEXEC));
      if (fd.valid()) return MakeSocket(std::move(fd), {vm.svm_cid, vm.svm_port}, type_);
      // A connection that ended while it waited is none.
      if (errno != EINTR && errno != ECONNABORTED && errno != ECONNRESET) {
        return SystemError(errno, "accept");
      }
    }
  }

 private:
  UniqueFd fd_;
  const Address local_;
  const SocketType type_;
};

class KernelDatagramSocket : public DatagramSocket {
 public:
  KernelDatagramSocket(UniqueFd fd, Address local) : fd_(std::move(fd)), local_(local) {}
  int fd() const override { return fd_.get(); }
  Address local() const override { return local_; }

  absl::Status SendTo(absl::Span<const uint8_t> bytes, Address to) override {
    if (bytes.size() > kMaxDatagram) {
      return ErrnoError(EMSGSIZE,
                        absl::StrCat("a datagram holds at most ", kMaxDatagram, " bytes"));
    }
    const sockaddr_vm vm = SocketAddress(to);
    if (sendto(fd_.get(), bytes.data(), bytes.size(), 0, reinterpret_cast<const sockaddr*>(&vm),
               sizeof(vm)) >= 0) {
      return absl::OkStatus();
    }
    if (errno == ENODEV) return ErrnoError(ENODEV, absl::StrCat(ToString(to), ": ", kNoCarrier));
    return SystemError(errno, absl::StrCat("send to ", ToString(to)));
  }

  absl::StatusOr<Datagram> ReceiveFrom(absl::Span<uint8_t> buffer) override {
    sockaddr_vm vm = {};
    socklen_t length = sizeof(vm);
    const ssize_t size = recvfrom(fd_.get(), buffer.data(), buffer.size(), MSG_TRUNC,
                                  reinterpret_cast<sockaddr*>(&vm), &length);
    if (size < 0) return SystemError(errno, "recvfrom");
    return Datagram{static_cast<size_t>(size), {vm.svm_cid, vm.svm_port}};
  }

 private:
  UniqueFd fd_;
  const Address local_;
};

class KernelTransport : public Transport {
 public:
  KernelTransport(bool seqpacket, bool datagram) : seqpacket_(seqpacket), datagram_(datagram) {}

  std::string uri() const override { return "kernel:"; }

  Capabilities capabilities() const override {
    Capabilities c;
    c.seqpacket = seqpacket_;
    c.datagram = datagram_;
    c.rcvlowat = true;
    c.record_marks = true;
    c.af_vsock = true;
    // A transport to a hypervisor sends to any CID; vsock_loopback alone has but one.
    const absl::StatusOr<uint32_t> own = OwnCid();
    c.knows_cids = own.ok() && *own == kCidLocal;
    c.reaches_itself = true;
    c.knows_both_addresses = true;
    c.port_privilege_by_thread = true;
    c.too_large_is_emsgsize = seqpacket_ && KernelIsAtLeast(6, 2);  // ENOMEM before
    c.tells_stopped_reading = true;
    c.raises_sigpipe = KernelIsAtLeast(6, 7);
    c.lingers_for_unsent_only = KernelIsAtLeast(6, 16);
    c.peeks_messages = seqpacket_ && KernelIsAtLeast(6, 6);
    c.bad_buffer_is_efault = KernelIsAtLeast(6, 4);  // ENOMEM before
    c.full_rcvlowat = KernelIsAtLeast(6, 8);
    c.counts_unread = KernelIsAtLeast(6, 17);
    c.counts_unsent = KernelIsAtLeast(6, 12);
    c.max_message = seqpacket_ ? kDefaultBuffer : 0;
    c.max_datagram = datagram_ ? kMaxDatagram : 0;
    return c;
  }

  absl::StatusOr<uint32_t> LocalCid() override { return OwnCid(); }

  absl::StatusOr<uint32_t> Resolve(absl::string_view name) override {
    absl::StatusOr<uint32_t> cid = ParseCid(name);
    if (cid.ok()) return cid;
    return ErrnoError(
        ENODEV, absl::StrCat("no machine named '", name, "': the kernel knows context ids only"));
  }

  absl::StatusOr<std::unique_ptr<Connecting>> Connect(Address peer, SocketType type,
                                                      const ConnectOptions& options) override {
    absl::StatusOr<UniqueFd> fd = NewSocket(type);
    if (!fd.ok()) return fd.status();
    // Zero would mean the kernel's default.
    const timeval timeout =
        absl::ToTimeval(std::clamp(options.timeout, absl::Milliseconds(1), absl::Hours(24)));
    if (setsockopt(fd->get(), AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &timeout, sizeof(timeout)) !=
        0) {
      return SystemError(errno, "SO_VM_SOCKETS_CONNECT_TIMEOUT");
    }
    if (options.local_port != kPortAny) {
      const absl::Status bound = BindTo(fd->get(), options.local_port);
      if (!bound.ok()) return bound;
    }
    const sockaddr_vm vm = SocketAddress(peer);
    if (connect(fd->get(), reinterpret_cast<const sockaddr*>(&vm), sizeof(vm)) != 0 &&
        errno != EINPROGRESS) {
      return ConnectError(errno, peer);
    }
    return absl::make_unique<KernelConnecting>(*std::move(fd), peer, type);
  }

  absl::StatusOr<std::unique_ptr<Listener>> Listen(uint32_t port, SocketType type,
                                                   const ListenOptions& options) override {
    const absl::StatusOr<uint32_t> cid = LocalCid();
    if (!cid.ok()) return cid.status();
    absl::StatusOr<UniqueFd> fd = NewSocket(type);
    if (!fd.ok()) return fd.status();
    const absl::Status bound = BindTo(fd->get(), port);
    if (!bound.ok()) return bound;
    if (listen(fd->get(), std::clamp(options.backlog, 1, 4096)) != 0) {
      return SystemError(errno, "listen");
    }
    const absl::StatusOr<Address> local = LocalAddress(fd->get());
    if (!local.ok()) return local.status();
    return absl::make_unique<KernelListener>(*std::move(fd), Address{*cid, local->port}, type);
  }

  absl::StatusOr<std::unique_ptr<DatagramSocket>> BindDatagram(uint32_t port) override {
    const absl::StatusOr<uint32_t> cid = LocalCid();
    if (!cid.ok()) return cid.status();
    absl::StatusOr<UniqueFd> fd = NewDatagramSocket();
    if (!fd.ok()) return fd.status();
    const absl::Status bound = BindTo(fd->get(), port);
    if (!bound.ok()) return bound;
    const absl::StatusOr<Address> local = LocalAddress(fd->get());
    if (!local.ok()) return local.status();
    return absl::make_unique<KernelDatagramSocket>(*std::move(fd), Address{*cid, local->port});
  }

 private:
  const bool seqpacket_;
  const bool datagram_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Transport>> OpenKernel(absl::string_view uri) {
  if (uri != "kernel:") {
    return ErrnoError(EINVAL, absl::StrCat("'", uri, "': kernel: takes nothing behind it"));
  }
  const absl::StatusOr<UniqueFd> stream = NewSocket(SocketType::kStream);
  if (!stream.ok()) return Annotate(stream.status(), uri);
  return absl::make_unique<KernelTransport>(NewSocket(SocketType::kSeqpacket).ok(),
                                            NewDatagramSocket().ok());
}

}  // namespace argosy
