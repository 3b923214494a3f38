// SPDX-License-Identifier: Apache-2.0
#include "sim/server.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "spdlog/spdlog.h"
#include "transport/error.h"

namespace argosy::sim {

using control::Answer;
using control::Kind;
using control::Request;
using control::Verb;

// A program's control connection.
class Server::Client : public EventLoop::Handler {
 public:
  Client(Server& server, uint64_t name, UniqueFd fd, const ucred& credentials)
      : server_(server), name_(name), fd_(std::move(fd)), credentials_(credentials) {}

  uint64_t name() const { return name_; }
  int fd() const { return fd_.get(); }
  pid_t pid() const { return credentials_.pid; }
  bool privileged() const { return credentials_.uid == 0; }
  Domain* domain() const { return domain_; }
  void set_domain(Domain* domain) { domain_ = domain; }

  // What is known of its sockets: alive, or how they ended.
  struct Known {
    bool alive = true;
    bool asked = false;  // Finish came while it was alive
    int error = 0;
    std::string message;
  };
  absl::flat_hash_map<uint32_t, Known>& known() { return known_; }

  // False: the program does not read its answers, or is gone.
  template <typename Record>
  bool Send(const Record& record) {
    return send(fd_.get(), &record, sizeof(record), MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(record);
  }
  bool Fail(uint32_t id, int error, absl::string_view message) {
    Answer answer;
    answer.kind = Kind::kFailure;
    answer.id = id;
    answer.error = error;
    control::SetText(answer.message, message);
    return Send(answer);
  }

  void OnEvents(uint32_t events) override;

 private:
  Server& server_;
  const uint64_t name_;
  UniqueFd fd_;
  const ucred credentials_;
  Domain* domain_ = nullptr;
  absl::flat_hash_map<uint32_t, Known> known_;
};

class Server::Acceptor : public EventLoop::Handler {
 public:
  Acceptor(Server& server, UniqueFd fd)
      : server_(server), fd_(std::move(fd)), spare_(OpenSpare()) {}
  int fd() const { return fd_.get(); }
  void OnEvents(uint32_t) override { server_.AcceptClients(); }
  // Out of descriptors: gives up the spare one to take a client and turn it away, so that it does
  // not wait for ever.
  void TurnAway() {
    spare_.reset();
    UniqueFd client(accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    client.reset();
    spare_ = OpenSpare();
  }

 private:
  static UniqueFd OpenSpare() { return UniqueFd(open("/dev/null", O_RDONLY | O_CLOEXEC)); }
  Server& server_;
  UniqueFd fd_;
  UniqueFd spare_;
};

void Server::Client::OnEvents(uint32_t) {
  Server& server = server_;
  for (;;) {
    uint8_t record[sizeof(Request) + 1];  // one more, to see what is too long
    iovec iov = {record, sizeof(record)};
    alignas(cmsghdr) char ancillary[CMSG_SPACE(sizeof(int))];
    msghdr message = {};
    message.msg_iov = &iov;
    message.msg_iovlen = 1;
    message.msg_control = ancillary;
    message.msg_controllen = sizeof(ancillary);
    const ssize_t n = recvmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0 && errno == EAGAIN) return;
    if (n < 0 && errno == EINTR) continue;
    UniqueFd fd;
    if (n >= 0) {
      const cmsghdr* cmsg = CMSG_FIRSTHDR(&message);
      if (cmsg != nullptr && cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS &&
          cmsg->cmsg_len == CMSG_LEN(sizeof(int))) {
        int received;
        std::memcpy(&received, CMSG_DATA(cmsg), sizeof(received));
        fd.reset(received);
      }
    }
    if (n <= 0) {
      server.Disconnect(*this);
      return;
    }
    Request request;
    absl::string_view why;
    if (!control::ParseRequest(absl::MakeConstSpan(record, n), &request, &why)) {
      spdlog::warn("program {} (pid {}) sent {}: disconnected", name_, pid(), std::string(why));
      Fail(0, EPROTO,
           absl::StrCat("argosy-sim got ", why, "; this program is not of the same version"));
      server.Disconnect(*this);
      return;
    }
    server.Dispatch(*this, request, std::move(fd));
    if (server.clients_.find(name_) == server.clients_.end()) return;
  }
}

Server::Server(Machine& machine, EventLoop& loop) : machine_(machine), loop_(loop) {}

template <typename T>
void Server::Retire(Owned<T>& all, T* object) {
  auto it = all.find(object);
  if (it == all.end()) return;
  loop_.Retire(std::move(it->second));
  all.erase(it);
}

template <typename T>
void Server::RetireAll(Owned<T>& all, const Domain& domain) {
  std::vector<T*> gone;
  for (auto& [raw, object] : all) {
    if (&object->domain() == &domain) gone.push_back(raw);
  }
  for (T* object : gone) Retire(all, object);
}

Server::~Server() {
  for (auto& [key, socket] : sockets_) socket->Abandon();
}

// ---- life ----

namespace {

// Takes PATH.lock, which says that this path is served.  The kernel frees it with the process,
// however it ends.
absl::StatusOr<UniqueFd> TakeLock(const std::string& path) {
  const std::string lock_path = path + ".lock";
  for (;;) {
    UniqueFd fd(open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd.valid()) return SystemError(errno, absl::StrCat("cannot open ", lock_path));
    if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
      return ErrnoError(EADDRINUSE, absl::StrCat("another argosy-sim serves ", path,
                                                 ": stop it first, or choose another --socket"));
    }
    // The last owner removes the file as it goes: make sure that we hold the one that stands there.
    struct stat held, there;
    if (fstat(fd.get(), &held) == 0 && stat(lock_path.c_str(), &there) == 0 &&
        held.st_ino == there.st_ino)
      return fd;
  }
}

absl::Status MakeFolder(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos || slash == 0) return absl::OkStatus();
  const std::string folder = path.substr(0, slash);
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    return SystemError(errno, absl::StrCat("cannot make the folder ", folder));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Server::Start(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return ErrnoError(ENAMETOOLONG, absl::StrCat("the socket's path '", path, "' must have 1 to ",
                                                 sizeof(address.sun_path) - 1, " characters"));
  }
  path.copy(address.sun_path, path.size());
  if (absl::Status s = MakeFolder(path); !s.ok()) return s;
  absl::StatusOr<UniqueFd> lock = TakeLock(path);
  if (!lock.ok()) return lock.status();
  struct stat there;
  if (lstat(path.c_str(), &there) == 0) {
    if (!S_ISSOCK(there.st_mode)) {
      return ErrnoError(EEXIST,
                        absl::StrCat(path, " exists and is no socket: choose another --socket"));
    }
    unlink(path.c_str());  // nobody holds the lock, so its owner is dead
  }
  UniqueFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return SystemError(errno, "cannot make a socket");
  const mode_t mask = umask(0177);
  const int bound = bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address));
  const int bind_error = errno;
  umask(mask);
  if (bound != 0) return SystemError(bind_error, absl::StrCat("cannot make the socket ", path));
  if (listen(fd.get(), 512) != 0)
    return SystemError(errno, absl::StrCat("cannot listen on ", path));
  lock_ = *std::move(lock);
  path_ = path;
  acceptor_ = std::make_unique<Acceptor>(*this, std::move(fd));
  return loop_.Add(acceptor_->fd(), acceptor_.get());
}

absl::Status Server::RunOnce(absl::Time until) {
  machine_.Advance(absl::Now());
  // A turn of each domain's interrupts between two looks at the programs: neither starves the
  // other.
  const bool more = machine_.Run();
  return loop_.RunOnce(more ? absl::InfinitePast() : std::min(until, machine_.NextDeadline()));
}

void Server::Stop(absl::string_view reason) {
  for (auto& [name, client] : clients_) {
    Answer goodbye;
    goodbye.kind = Kind::kGoodbye;
    goodbye.error = ENETRESET;
    control::SetText(goodbye.message, reason);
    client->Send(goodbye);
  }
  if (!path_.empty()) {
    unlink(path_.c_str());
    unlink((path_ + ".lock").c_str());
    path_.clear();
  }
}

void Server::AcceptClients() {
  for (;;) {
    UniqueFd fd(accept4(acceptor_->fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd.valid()) {
      if (errno == EMFILE || errno == ENFILE) {
        spdlog::warn("out of descriptors: a program was turned away");
        acceptor_->TurnAway();
        continue;
      }
      if (errno == EINTR || errno == ECONNABORTED) continue;
      return;
    }
    ucred credentials = {};
    socklen_t size = sizeof(credentials);
    getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size);
    const uint64_t name = next_client_++;
    auto client = std::make_unique<Client>(*this, name, std::move(fd), credentials);
    if (clients_.size() >= kMaxClients) {
      client->Fail(0, ENOBUFS,
                   absl::StrCat("argosy-sim serves ", kMaxClients, " programs already"));
      continue;
    }
    if (!loop_.Add(client->fd(), client.get()).ok()) continue;
    clients_[name] = std::move(client);
  }
}

void Server::Disconnect(Client& client) {
  auto it = clients_.find(client.name());
  if (it == clients_.end()) return;
  std::unique_ptr<Client> owned = std::move(it->second);
  clients_.erase(it);
  shutdown(owned->fd(), SHUT_RDWR);
  loop_.Retire(std::move(owned));
}

// ---- requests ----

void Server::Dispatch(Client& client, const Request& request, UniqueFd fd) {
  const bool needs_domain = request.kind != Kind::kHello && request.kind != Kind::kCommand;
  if (needs_domain && client.domain() == nullptr) {
    client.Fail(request.id, EPROTO, "this program has joined no domain");
    Disconnect(client);
    return;
  }
  const bool needs_fd = request.kind == Kind::kConnect || request.kind == Kind::kListen ||
                        request.kind == Kind::kBindDatagram;
  if (needs_fd && !fd.valid()) {
    client.Fail(request.id, EPROTO, "a request without its descriptor");
    Disconnect(client);
    return;
  }
  switch (request.kind) {
    case Kind::kHello:
      return Hello(client, request);
    case Kind::kConnect:
      return Connect(client, request, std::move(fd));
    case Kind::kListen:
      return Listen(client, request, std::move(fd));
    case Kind::kBindDatagram:
      return BindDatagram(client, request, std::move(fd));
    case Kind::kFinish:
      return Finish(client, request);
    case Kind::kForget: {
      auto it = client.known().find(request.id);
      // A live one is only marked by its absence: its end is then told to nobody.
      if (it != client.known().end()) client.known().erase(it);
      return;
    }
    case Kind::kResolve:
      return Resolve(client, request);
    case Kind::kCommand:
      return Command(client, request);
    default:
      return;  // ParseRequest() lets no other through
  }
}

void Server::Hello(Client& client, const Request& request) {
  const std::string name = control::GetText(request.name);
  std::string why;
  int error = 0;
  if (request.version != control::kVersion) {
    error = EPROTO;
    why = absl::StrCat("argosy-sim speaks version ", control::kVersion, ", this program ",
                       request.version, ": use programs of the same build");
  } else if (client.domain() != nullptr) {
    error = EPROTO;
    why = "this program has joined a domain already";
  } else if (!name.empty()) {
    Domain* domain = machine_.Find(name);
    if (domain == nullptr) {
      std::vector<std::string> names;
      for (const auto& [domid, d] : machine_.domains()) names.push_back(d->options().name);
      error = ENODEV;
      why = absl::StrCat("no domain '", name,
                         "' on this machine; there are: ", absl::StrJoin(names, ", "));
    }
    client.set_domain(domain);
  }
  if (error != 0) {
    client.Fail(request.id, error, why);
    Disconnect(client);
    return;
  }
  Answer answer;
  answer.kind = Kind::kWelcome;
  answer.id = request.id;
  answer.cid = client.domain() == nullptr ? 0 : client.domain()->cid();
  if (!client.Send(answer)) Disconnect(client);
}

void Server::Connect(Client& client, const Request& request, UniqueFd fd) {
  Domain& domain = *client.domain();
  absl::Status status = ProgramSocket::PrepareDescriptor(fd.get(), request.type);
  if (status.ok() && client.known().size() >= kMaxSocketsPerClient) {
    status =
        ErrnoError(ENOBUFS, absl::StrCat("a program may have ", kMaxSocketsPerClient, " sockets"));
  }
  if (status.ok() && client.known().contains(request.id))
    status = ErrnoError(EINVAL, "the socket id is taken");
  if (status.ok() && request.local_port < packet::kFirstUnprivilegedPort && !client.privileged()) {
    status = ErrnoError(
        EACCES, absl::StrCat("port ", request.local_port, " needs root: use 1024 or above"));
  }
  if (!status.ok()) {
    ProgramSocket::Refuse(fd, ErrnoOf(status), status.message());
    return;
  }
  auto socket = std::make_unique<ProgramSocket>(loop_, *this, domain, client.name(), request.id);
  auto connection =
      domain.endpoint().Connect(request.local_port, {request.cid, request.port}, request.type,
                                absl::Milliseconds(request.timeout_ms), socket.get());
  if (!connection.ok()) {
    std::string message(connection.status().message());
    if (ErrnoOf(connection.status()) == ENOBUFS) {
      absl::StrAppend(&message, "; all buffers hold ", machine_.reserved() >> 20, " of ",
                      machine_.budget() >> 20,
                      " MiB: close connections, or start argosy-sim with a larger --buffer-budget");
    }
    ProgramSocket::Refuse(fd, ErrnoOf(connection.status()), message);
    return;
  }
  client.known()[request.id] = {};
  socket->set_connection(*connection);
  ProgramSocket* raw = socket.get();
  sockets_[raw] = std::move(socket);
  if (!raw->Attach(std::move(fd)).ok()) (*connection)->Reset();
}

absl::Status Server::CheckBind(const Client& client, const Request& request, const UniqueFd& fd) {
  absl::Status status = ProgramSocket::PrepareDescriptor(fd.get(), VSOCK_TYPE_SEQPACKET);
  if (status.ok() && request.port < packet::kFirstUnprivilegedPort && !client.privileged()) {
    status =
        ErrnoError(EACCES, absl::StrCat("port ", request.port, " needs root: use 1024 or above"));
  }
  if (!status.ok()) SendListenResult(fd.get(), status, 0);
  return status;
}

void Server::Listen(Client& client, const Request& request, UniqueFd fd) {
  if (!CheckBind(client, request, fd).ok()) return;
  auto listener = std::make_unique<ProgramListener>(loop_, *this, *client.domain(), client.name(),
                                                    request.type, std::move(fd));
  ProgramListener* raw = listener.get();
  listeners_[raw] = std::move(listener);
  const int backlog = std::clamp(request.backlog, 1, packet::kMaxBacklog);
  if (!raw->Start(request.port, backlog).ok()) Retire(listeners_, raw);
}

void Server::BindDatagram(Client& client, const Request& request, UniqueFd fd) {
  if (!CheckBind(client, request, fd).ok()) return;
  auto datagram = std::make_unique<ProgramDatagram>(loop_, *this, *client.domain(), std::move(fd));
  ProgramDatagram* raw = datagram.get();
  datagrams_[raw] = std::move(datagram);
  if (!raw->Start(request.port).ok()) Retire(datagrams_, raw);
}

void Server::Finish(Client& client, const Request& request) {
  auto it = client.known().find(request.id);
  if (it == client.known().end()) {
    if (!client.Fail(request.id, EINVAL, "there is no such socket")) Disconnect(client);
    return;
  }
  if (it->second.alive) {
    it->second.asked = true;
    return;
  }
  Answer answer;
  answer.kind = Kind::kEnded;
  answer.id = request.id;
  answer.error = it->second.error;
  control::SetText(answer.message, it->second.message);
  client.known().erase(it);
  if (!client.Send(answer)) Disconnect(client);
}

void Server::Resolve(Client& client, const Request& request) {
  Answer answer;
  answer.kind = Kind::kResolved;
  answer.id = request.id;
  const std::string name = control::GetText(request.name);
  if (Domain* domain = machine_.Find(name); domain != nullptr) {
    answer.cid = domain->cid();
  } else {
    answer.error = ENODEV;
    control::SetText(answer.message, absl::StrCat("no domain '", name, "' on this machine"));
  }
  if (!client.Send(answer)) Disconnect(client);
}

// ---- the operator's commands ----

void Server::Command(Client& client, const Request& request) {
  const uint64_t name = client.name();
  absl::Status status;
  struct {
    Answer answer;
    char text[control::kTextSize];
  } reply = {};
  reply.answer.kind = Kind::kText;
  reply.answer.id = request.id;
  if (request.verb == Verb::kList) {
    control::SetText(reply.text, Report());
  } else {
    status = RunCommand(request.verb, control::GetText(request.name));
    if (clients_.find(name) == clients_.end()) return;  // it killed its own domain
    spdlog::info("command {} '{}' of pid {}: {}", static_cast<uint32_t>(request.verb),
                 control::GetText(request.name), client.pid(),
                 status.ok() ? "done" : std::string(status.message()));
  }
  reply.answer.error = ErrnoOf(status);
  control::SetText(reply.answer.message, status.message());
  if (!client.Send(reply)) Disconnect(client);
}

absl::Status Server::RunCommand(Verb verb, const std::string& name) {
  if (verb == Verb::kCreate) {
    uint16_t domid = 0;
    while (machine_.Find(domid) != nullptr) ++domid;
    if (name.empty()) return ErrnoError(EINVAL, "a new domain needs a name");
    Machine::DomainConfig config;
    config.domid = domid;
    config.name = name;
    return machine_.Create(config).status();
  }
  Domain* domain = machine_.Find(name);
  if (domain == nullptr)
    return ErrnoError(ENODEV, absl::StrCat("no domain '", name, "' on this machine"));
  switch (verb) {
    case Verb::kKill:
      return KillDomain(*domain);
    case Verb::kRestart: {
      const Domain::Options old = domain->options();
      if (absl::Status s = KillDomain(*domain); !s.ok()) return s;
      Machine::DomainConfig config;
      config.domid = old.domid;
      config.name = old.name;
      config.ring_size = old.ring_size;
      config.buf_alloc = old.buf_alloc;
      return machine_.Create(config).status();
    }
    case Verb::kPause:
    case Verb::kResume:
      domain->set_paused(verb == Verb::kPause);
      return absl::OkStatus();
    default:
      return ErrnoError(EINVAL, "unknown command");
  }
}

std::string Server::Report() {
  std::string text =
      absl::StrFormat("%-6s %-6s %-16s %-8s %s\n", "DOMID", "CID", "NAME", "STATE", "CONNECTIONS");
  for (const auto& [domid, domain] : machine_.domains()) {
    absl::StrAppendFormat(&text, "%-6d %-6d %-16s %-8s %d\n", domid, domain->cid(),
                          domain->options().name, domain->paused() ? "paused" : "running",
                          domain->endpoint().connections());
  }
  absl::StrAppendFormat(&text, "programs %d, sockets %d, buffers reserved %d of %d MiB\n",
                        clients_.size(), sockets_.size(), machine_.reserved() >> 20,
                        machine_.budget() >> 20);
  return text;
}

absl::Status Server::KillDomain(Domain& domain) {
  const std::string reason = absl::StrCat("domain ", domain.options().name, " was killed");
  // Programs first, while the domain still exists; then nothing points at it any more.
  std::vector<ProgramSocket*> dead;
  for (auto& [raw, socket] : sockets_) {
    if (&socket->domain() == &domain) dead.push_back(raw);
  }
  for (ProgramSocket* socket : dead) {
    socket->Abandon();
    SocketEnded(socket, ENETRESET, reason);
  }
  RetireAll(listeners_, domain);
  RetireAll(datagrams_, domain);
  std::vector<Client*> gone;
  for (auto& [name, client] : clients_) {
    if (client->domain() == &domain) gone.push_back(client.get());
  }
  for (Client* client : gone) {
    Answer goodbye;
    goodbye.kind = Kind::kGoodbye;
    goodbye.error = ENETRESET;
    control::SetText(goodbye.message, reason);
    client->Send(goodbye);
    Disconnect(*client);
  }
  return machine_.Kill(domain.domid());
}

// ---- SocketOwner ----

void Server::SocketEnded(ProgramSocket* socket, int error, absl::string_view message) {
  auto owned = sockets_.find(socket);
  if (owned == sockets_.end()) return;
  if (auto client = clients_.find(socket->client()); client != clients_.end()) {
    auto known = client->second->known().find(socket->id());
    if (known != client->second->known().end()) {
      const bool asked = known->second.asked;
      known->second = {.alive = false, .error = error, .message = std::string(message)};
      if (asked) {
        Request request;
        request.kind = Kind::kFinish;
        request.id = socket->id();
        Finish(*client->second, request);
      }
    }
  }
  Retire(sockets_, socket);
}

ProgramSocket* Server::SocketArrived(ProgramListener* listener, packet::Connection& connection) {
  uint32_t id = next_accepted_;
  next_accepted_ = std::max(next_accepted_ + 1, control::kDaemonIds);  // wraps to the first
  auto socket =
      std::make_unique<ProgramSocket>(loop_, *this, listener->domain(), listener->client(), id);
  socket->set_connection(&connection);
  // Over the limit nobody can ask how it ended, and that is all.
  if (auto client = clients_.find(listener->client());
      client != clients_.end() && client->second->known().size() < kMaxSocketsPerClient) {
    client->second->known()[id] = {};
  }
  ProgramSocket* raw = socket.get();
  sockets_[raw] = std::move(socket);
  return raw;
}

void Server::ListenerClosed(ProgramListener* listener) {
  listener->domain().endpoint().StopListening(listener->port());
  Retire(listeners_, listener);
}

void Server::DatagramClosed(ProgramDatagram* datagram) {
  datagram->domain().endpoint().CloseDatagram(datagram->port());
  Retire(datagrams_, datagram);
}

}  // namespace argosy::sim
