// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/host_vm.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"
#include "transport/address.h"
#include "transport/error.h"
#include "transport/packet/limits.h"
#include "transport/unix_listener.h"
#include "transport/unix_socket.h"

namespace argosy::vhost_user {

using packet::Connection;

namespace {

// Accepted in one turn; then the others have theirs.
constexpr int kAcceptsPerTurn = 64;

int SocketType(uint16_t type) { return type == VSOCK_TYPE_STREAM ? SOCK_STREAM : SOCK_SEQPACKET; }

// The guest may send messages of `size`; the kernel takes none above sk_sndbuf - 32, which is twice
// what is set.  It sets what net.core.wmem_max allows.
void MakeRoomForMessages(int fd, uint32_t size) {
  const int wanted = static_cast<int>((size + 32) / 2);
  int has = 0;
  socklen_t length = sizeof(has);
  if (getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &has, &length) == 0 && has / 2 < wanted) {
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &wanted, sizeof(wanted));
  }
}

}  // namespace

// A listening socket, which accepts in turns.
class HostVm::Listener : public EventLoop::Handler {
 public:
  using Accept = std::function<void(UniqueFd)>;

  Listener(EventLoop& loop, UnixListener listener, Accept accept)
      : loop_(loop), listener_(std::move(listener)), accept_(std::move(accept)) {}

  absl::Status Start() { return loop_.Add(listener_.fd(), this); }

  void OnEvents(uint32_t) override { OnTurn(); }
  void OnTurn() override {
    for (int i = 0; i < kAcceptsPerTurn; ++i) {
      UniqueFd fd(accept4(listener_.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (fd.valid()) {
        accept_(std::move(fd));
      } else if (errno != EINTR && errno != ECONNABORTED) {
        // Out of descriptors: those who wait are served with the next who comes.
        if (errno != EAGAIN) spdlog::warn("cannot accept: {}", strerror(errno));
        return;
      }
    }
    loop_.Again(this);
  }

 private:
  EventLoop& loop_;
  UnixListener listener_;
  const Accept accept_;
};

// The VMM's connection.
class HostVm::Vmm : public EventLoop::Handler {
 public:
  Vmm(HostVm& vm, UniqueFd fd) : vm_(vm), server_(std::move(fd), &vm.device_) {}

  absl::Status Start() {
    vm_.device_.Attach(&server_, [this] { vm_.loop_.Again(this); });
    return vm_.loop_.Add(server_.descriptor(), this);
  }
  void Stop(const absl::Status& reason) { server_.Stop(reason); }
  bool HasHungUp() const {
    pollfd end = {server_.descriptor(), POLLRDHUP, 0};
    return poll(&end, 1, 0) == 1;
  }

  void OnEvents(uint32_t) override { OnTurn(); }
  void OnTurn() override {
    const absl::StatusOr<bool> more = server_.OnReadable();
    if (!more.ok()) {
      vm_.VmmEnded(more.status());
    } else if (*more) {
      vm_.loop_.Again(this);
    }
  }

 private:
  HostVm& vm_;
  Server server_;
};

absl::StatusOr<std::unique_ptr<HostVm>> HostVm::Create(EventLoop& loop, SiblingSwitch& siblings,
                                                       const VmOptions& options) {
  auto vm = absl::WrapUnique(new HostVm(loop, siblings, options));
  if (absl::Status s = vm->Listen(); !s.ok()) return s;
  return vm;
}

HostVm::HostVm(EventLoop& loop, SiblingSwitch& siblings, const VmOptions& options)
    : loop_(loop),
      siblings_(siblings),
      options_(options),
      policy_(options.guest_cid, options.rules, options.outbound_only),
      device_(loop, *this, {.guest_cid = options.guest_cid, .queue_size = options.queue_size}),
      endpoint_(device_, {.cid = kCidHost,
                          .buf_alloc = options.tx_buffer_size,
                          .max_connections = options.max_connections}) {
  endpoint_.set_request_user(this);
  siblings_.Add({.cid = options.guest_cid,
                 .groups = {options.groups.begin(), options.groups.end()},
                 .max_flows = options.max_connections,
                 .device = &device_,
                 .policy = &policy_});
}

HostVm::~HostVm() {
  for (std::unique_ptr<Listener>& listener : listeners_) loop_.Retire(std::move(listener));
  forward_.reset();
  if (vmm_ != nullptr) VmmEnded(absl::CancelledError("the daemon ends"));
  while (!sockets_.empty()) sockets_.begin()->first->GiveUp();
  siblings_.Remove(options_.guest_cid);
  for (const std::string& count : policy_.Counts()) {
    spdlog::info("CID {}: connections decided by {}", options_.guest_cid, count);
  }
}

absl::Status HostVm::Listen() {
  const auto listen = [&](const std::string& path, int type,
                          Listener::Accept accept) -> absl::Status {
    absl::StatusOr<UnixListener> at =
        UnixListener::Create(path, type, UnixListener::Folder::kExpect);
    if (!at.ok()) return at.status();
    listeners_.push_back(std::make_unique<Listener>(loop_, *std::move(at), std::move(accept)));
    return listeners_.back()->Start();
  };
  absl::Status status =
      listen(options_.socket, SOCK_STREAM, [this](UniqueFd fd) { AcceptVmm(std::move(fd)); });
  if (status.ok() && options_.forward_cid != 0) {
    absl::StatusOr<std::unique_ptr<HostForward>> forward = HostForward::Create(
        loop_, options_.forward_cid, options_.forward_listen,
        [this](UniqueFd fd, uint32_t port) { AcceptForward(std::move(fd), port); });
    if (!forward.ok()) return forward.status();
    forward_ = *std::move(forward);
  }
  if (!status.ok() || options_.uds_path.empty()) return status;
  for (const uint16_t type : {VSOCK_TYPE_STREAM, VSOCK_TYPE_SEQPACKET}) {
    const std::string path =
        type == VSOCK_TYPE_STREAM ? options_.uds_path : options_.uds_path + "_seqpacket";
    status = listen(path, SocketType(type),
                    [this, type](UniqueFd fd) { AcceptClient(std::move(fd), type); });
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

// ---- the VMM ----

void HostVm::AcceptVmm(UniqueFd fd) {
  // One that comes back may be faster than the turns in which the last words of the one before are read.
  if (vmm_ != nullptr && vmm_->HasHungUp()) VmmEnded(ErrnoError(ECONNRESET, "the VMM hung up"));
  if (vmm_ != nullptr) {
    spdlog::warn("CID {}: a second VMM connects to {}: refused", options_.guest_cid,
                 options_.socket);
    return;
  }
  auto vmm = std::make_unique<Vmm>(*this, std::move(fd));
  if (absl::Status s = vmm->Start(); !s.ok()) {
    spdlog::warn("CID {}: {}", options_.guest_cid, std::string(s.message()));
    device_.Detach();
    return;
  }
  vmm_ = std::move(vmm);
  spdlog::info("CID {}: the VMM has connected", options_.guest_cid);
}

void HostVm::VmmEnded(const absl::Status& reason) {
  vmm_->Stop(reason);
  if (ErrnoOf(reason) == ECONNRESET || absl::IsCancelled(reason)) {
    spdlog::info("CID {}: the VMM has gone", options_.guest_cid);
  } else {
    spdlog::error("CID {}: the device ends: {}", options_.guest_cid, std::string(reason.message()));
  }
  device_.Detach();
  loop_.Retire(std::move(vmm_));
}

// ---- the guest's packets ----

void HostVm::OnPacket(uint64_t src_cid, const packet::Header& header,
                      const packet::Payload& payload) {
  if (header.dst_cid == kCidHost) {
    endpoint_.OnPacket(src_cid, header, payload);
  } else {
    siblings_.OnPacket(options_.guest_cid, header, payload);
  }
}

void HostVm::OnCanSend(uint64_t cid) {
  // Either may take all the room there is.
  siblings_first_ = !siblings_first_;
  if (siblings_first_) siblings_.OnCanSend(options_.guest_cid);
  endpoint_.OnCanSend(cid);
  if (!siblings_first_) siblings_.OnCanSend(options_.guest_cid);
}

void HostVm::OnPeerReset(uint64_t cid) {
  endpoint_.OnPeerReset(cid);
  siblings_.OnPeerReset(options_.guest_cid);
}

packet::ConnectionUser* HostVm::OnRequest(Connection& connection) {
  if (!policy_.Allows(Direction::kOut, kCidHost, connection.local().port)) return nullptr;
  if (SocketsAtPorts() >= options_.max_connections) return nullptr;
  if (forward_ != nullptr) return Forward(connection);
  if (options_.uds_path.empty()) return nullptr;
  const std::string path = absl::StrCat(options_.uds_path, "_", connection.local().port);
  // AF_UNIX says at once whether a listener takes it.
  absl::StatusOr<UniqueFd> fd = ConnectUnix(path, SocketType(connection.type()) | SOCK_NONBLOCK);
  if (!fd.ok()) {
    spdlog::debug("CID {}: port {} of the host refused: {}", options_.guest_cid,
                  connection.local().port, std::string(fd.status().message()));
    return nullptr;
  }
  HostSocket* socket = MakeSocket(*std::move(fd), AF_UNIX, connection.type());
  if (absl::Status s = socket->Open(&connection); !s.ok()) {
    spdlog::warn("CID {}: {}", options_.guest_cid, std::string(s.message()));
    SocketEnded(socket);
    return nullptr;
  }
  return socket;
}

packet::ConnectionUser* HostVm::Forward(Connection& connection) {
  const uint32_t port = connection.local().port;
  absl::StatusOr<UniqueFd> fd = forward_->Connect(port, SocketType(connection.type()));
  if (!fd.ok()) {
    spdlog::debug("CID {}: {}", options_.guest_cid, std::string(fd.status().message()));
    return nullptr;
  }
  HostSocket* socket = MakeSocket(*std::move(fd), AF_VSOCK, connection.type());
  connection.AnswerLater();
  if (absl::Status s = socket->Dial(&connection); !s.ok()) {
    spdlog::warn("CID {}: {}", options_.guest_cid, std::string(s.message()));
    SocketEnded(socket);
    return nullptr;
  }
  return socket;
}

// ---- clients of the host ----

void HostVm::AcceptForward(UniqueFd fd, uint32_t port) {
  HostSocket* socket = MakeSocket(std::move(fd), AF_VSOCK, VSOCK_TYPE_STREAM);
  if (absl::Status s = socket->AskForPort(port); !s.ok()) {
    spdlog::warn("CID {}: {}", options_.guest_cid, std::string(s.message()));
    socket->GiveUp();
  }
}

void HostVm::AcceptClient(UniqueFd fd, uint16_t type) {
  if (lines_.size() >= kMaxLines) {
    // The oldest has had its time.
    HostSocket* oldest = lines_.front().second;
    spdlog::debug("CID {}: too many clients have not asked for a port", options_.guest_cid);
    oldest->GiveUp();
  }
  HostSocket* socket = MakeSocket(std::move(fd), AF_UNIX, type);
  lines_.emplace_back(now_ + kLineTime, socket);
  if (absl::Status s = socket->ReadLine(); !s.ok()) {
    spdlog::warn("CID {}: {}", options_.guest_cid, std::string(s.message()));
    socket->GiveUp();
  }
}

absl::StatusOr<Connection*> HostVm::ConnectGuest(HostSocket* socket, uint32_t port) {
  if (!policy_.Allows(Direction::kIn, kCidHost, port)) {
    return ErrnoError(EACCES, "a rule forbids it");
  }
  absl::StatusOr<Connection*> connection = ErrnoError(ENODEV, "the guest's driver does not run");
  // This one is among them.
  if (SocketsAtPorts() > options_.max_connections) {
    connection = ErrnoError(ENOBUFS, "too many connections, or programs that do not read");
  } else if (device_.up()) {
    connection = endpoint_.Connect(kPortAny, {options_.guest_cid, port}, socket->type(),
                                   packet::kConnectTimeout, socket);
  }
  if (!connection.ok()) {
    spdlog::debug("CID {}: no connection to port {}: {}", options_.guest_cid, port,
                  std::string(connection.status().message()));
  }
  return connection;
}

void HostVm::LineEnded(HostSocket* socket) {
  const auto found = std::find_if(lines_.begin(), lines_.end(),
                                  [&](const auto& line) { return line.second == socket; });
  if (found != lines_.end()) lines_.erase(found);
}

HostSocket* HostVm::MakeSocket(UniqueFd fd, int domain, uint16_t type) {
  if (domain == AF_UNIX && type == VSOCK_TYPE_SEQPACKET) {
    MakeRoomForMessages(fd.get(), options_.tx_buffer_size);
  }
  auto socket = std::make_unique<HostSocket>(loop_, *this, device_, std::move(fd), domain, type);
  HostSocket* key = socket.get();
  sockets_[key] = std::move(socket);
  return key;
}

void HostVm::SocketEnded(HostSocket* socket) {
  const auto found = sockets_.find(socket);
  std::unique_ptr<HostSocket> gone = std::move(found->second);
  sockets_.erase(found);
  loop_.Retire(std::move(gone));
}

// ---- time ----

void HostVm::Advance(absl::Time now) {
  now_ = now;
  endpoint_.Advance(now);
  while (!lines_.empty() && lines_.front().first <= now) lines_.front().second->GiveUp();
}

absl::Time HostVm::NextDeadline() const {
  const absl::Time line = lines_.empty() ? absl::InfiniteFuture() : lines_.front().first;
  return std::min(line, endpoint_.NextDeadline());
}

}  // namespace argosy::vhost_user
