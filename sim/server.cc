// SPDX-License-Identifier: Apache-2.0
#include "sim/server.h"

#include <fcntl.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "sim/report.h"
#include "spdlog/spdlog.h"
#include "transport/address.h"
#include "transport/error.h"

namespace argosy::sim {
namespace {

// Requests of one program, or programs accepted, in one turn; then the others have theirs.
constexpr int kTurnRequests = 64;
// Between two looks for a free descriptor.
constexpr absl::Duration kAcceptRetry = absl::Milliseconds(100);

}  // namespace

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
    ProgramSocket* alive = nullptr;  // then the rest does not count yet
    bool asked = false;              // Finish came while it was alive
    bool forgotten = false;          // Forget came while it was alive
    int error = 0;
    std::string message;
  };
  absl::flat_hash_map<uint32_t, Known>& known() { return known_; }
  size_t ended_or_alive() const { return known_.size(); }
  // Its sockets, listeners and datagram sockets that live.
  size_t living = 0;

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
  void OnTurn() override { OnEvents(0); }

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
  Acceptor(Server& server, UnixListener listener)
      : server_(server), listener_(std::move(listener)), spare_(OpenSpare()) {}
  int fd() const { return listener_.fd(); }
  void OnEvents(uint32_t) override { server_.AcceptClients(); }
  void OnTurn() override { server_.AcceptClients(); }
  // Out of descriptors: gives up the spare one to take a client and turn it away, so that it does not wait for ever.  False
  // if there was none: accept4() looks for a free descriptor before it looks for a client.
  bool TurnAway() {
    spare_.reset();
    const bool took = UniqueFd(accept4(fd(), nullptr, nullptr, SOCK_CLOEXEC)).valid();
    spare_ = OpenSpare();
    return took;
  }

 private:
  static UniqueFd OpenSpare() { return UniqueFd(open("/dev/null", O_RDONLY | O_CLOEXEC)); }
  Server& server_;
  UnixListener listener_;
  UniqueFd spare_;
};

void Server::Client::OnEvents(uint32_t) {
  Server& server = server_;
  for (int i = 0; i < kTurnRequests; ++i) {
    uint8_t record[sizeof(Request) + 1];  // one more, to see what is too long
    UniqueFd fd;
    bool truncated;
    const ssize_t n = control::ReceiveRecord(fd_.get(), absl::MakeSpan(record), &fd, &truncated);
    if (n < 0 && errno == EAGAIN) return;
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      server.Disconnect(*this);
      return;
    }
    Request request;
    absl::string_view why;
    if (!control::ParseRequest(absl::MakeConstSpan(record, n), &request, &why)) {
      server.Warn(
          absl::StrCat("program ", name_, " (pid ", pid(), ") sent ", why, ": disconnected"));
      Fail(0, EPROTO,
           absl::StrCat("argosy-sim got ", why, "; this program is not of the same version"));
      server.Disconnect(*this);
      return;
    }
    if (truncated) {
      // Our table of descriptors is full.  The program sees its pair closed.
      server.Warn("out of descriptors: a request failed");
      continue;
    }
    server.Dispatch(*this, request, std::move(fd));
    if (server.clients_.find(name_) == server.clients_.end()) return;
  }
  server.loop_.Again(this);  // the others first
}

Server::Server(Machine& machine, EventLoop& loop) : machine_(machine), loop_(loop) {}

template <typename T>
void Server::Own(Owned<T>& all, std::unique_ptr<T> object) {
  if (auto it = clients_.find(object->client()); it != clients_.end()) ++it->second->living;
  T* const raw = object.get();
  all[raw] = std::move(object);
}

template <typename T>
void Server::Retire(Owned<T>& all, T* object) {
  auto it = all.find(object);
  if (it == all.end()) return;
  if (auto c = clients_.find(object->client()); c != clients_.end()) --c->second->living;
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

absl::Status Server::Start(const std::string& path) {
  absl::StatusOr<UnixListener> listener =
      UnixListener::Create(path, SOCK_SEQPACKET, UnixListener::Folder::kMake);
  if (!listener.ok()) return listener.status();
  acceptor_ = std::make_unique<Acceptor>(*this, *std::move(listener));
  return loop_.Add(acceptor_->fd(), acceptor_.get());
}

absl::Status Server::RunOnce(absl::Time until) {
  const absl::Time now = absl::Now();
  machine_.Advance(now);
  if (now >= retry_accept_) AcceptClients();
  // A turn of each domain's interrupts between two looks at the programs: neither starves the other.
  const bool more = machine_.Run();
  return loop_.RunOnce(more ? absl::InfinitePast()
                            : std::min({until, retry_accept_, machine_.NextDeadline()}));
}

void Server::Stop(absl::string_view reason) {
  for (auto& [name, client] : clients_) {
    Answer goodbye;
    goodbye.kind = Kind::kGoodbye;
    goodbye.error = ENETRESET;
    control::SetText(goodbye.message, reason);
    client->Send(goodbye);
  }
  acceptor_.reset();
}

void Server::AcceptClients() {
  retry_accept_ = absl::InfiniteFuture();
  for (int i = 0; i < kTurnRequests; ++i) {
    UniqueFd fd(accept4(acceptor_->fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd.valid()) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno != EMFILE && errno != ENFILE) return;
      if (acceptor_->TurnAway()) {
        Warn("out of descriptors: a program was turned away");
        continue;
      }
      // Whoever comes now makes no new event: look again.
      retry_accept_ = absl::Now() + kAcceptRetry;
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
  loop_.Again(acceptor_.get());
}

void Server::Warn(absl::string_view text) {
  // Whoever breaks the protocol may do it often.
  if (absl::Now() < next_warning_) return;
  next_warning_ = absl::Now() + absl::Seconds(1);
  spdlog::warn("{}", std::string(text));
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
      if (it == client.known().end()) return;
      if (it->second.alive != nullptr) {
        it->second.forgotten = true;
      } else {
        client.known().erase(it);
      }
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
      for (const auto& [domid, d] : machine_.domains()) names.push_back(d->name());
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
  if (status.ok()) status = CheckLimits(client);
  if (status.ok() && client.known().contains(request.id)) {
    status = ErrnoError(EINVAL, "the socket id is taken");
  }
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
  socket->set_connection(*connection);
  ProgramSocket* raw = socket.get();
  client.known()[request.id] = {.alive = raw};
  Own(sockets_, std::move(socket));
  if (!raw->Attach(std::move(fd)).ok()) (*connection)->Reset();
}

absl::Status Server::CheckLimits(const Client& client) {
  if (client.living >= kMaxSocketsPerClient) {
    return ErrnoError(ENOBUFS,
                      absl::StrCat("a program may have ", kMaxSocketsPerClient, " sockets"));
  }
  if (client.ended_or_alive() >= kMaxKnownPerClient) {
    return ErrnoError(ENOBUFS,
                      "this program never asked how its connections ended, nor forgot them");
  }
  return absl::OkStatus();
}

absl::Status Server::CheckBind(const Client& client, const Request& request, const UniqueFd& fd) {
  absl::Status status = ProgramSocket::PrepareDescriptor(fd.get(), VSOCK_TYPE_SEQPACKET);
  if (status.ok() && request.port < packet::kFirstUnprivilegedPort && !client.privileged()) {
    status =
        ErrnoError(EACCES, absl::StrCat("port ", request.port, " needs root: use 1024 or above"));
  }
  if (status.ok()) status = CheckLimits(client);
  if (!status.ok()) SendListenResult(fd.get(), status, 0);
  return status;
}

void Server::Listen(Client& client, const Request& request, UniqueFd fd) {
  if (!CheckBind(client, request, fd).ok()) return;
  auto listener = std::make_unique<ProgramListener>(loop_, *this, *client.domain(), client.name(),
                                                    request.type, std::move(fd));
  ProgramListener* raw = listener.get();
  Own(listeners_, std::move(listener));
  const int backlog = std::clamp(request.backlog, 1, packet::kMaxBacklog);
  if (!raw->Start(request.port, backlog).ok()) Retire(listeners_, raw);
}

void Server::BindDatagram(Client& client, const Request& request, UniqueFd fd) {
  if (!CheckBind(client, request, fd).ok()) return;
  auto datagram = std::make_unique<ProgramDatagram>(loop_, *this, *client.domain(), client.name(),
                                                    std::move(fd));
  ProgramDatagram* raw = datagram.get();
  Own(datagrams_, std::move(datagram));
  if (!raw->Start(request.port).ok()) Retire(datagrams_, raw);
}

void Server::Finish(Client& client, const Request& request) {
  auto it = client.known().find(request.id);
  if (it == client.known().end()) {
    if (!client.Fail(request.id, EINVAL, "there is no such socket")) Disconnect(client);
    return;
  }
  if (it->second.alive != nullptr) {
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
  if (request.verb == Verb::kStats) {
    control::SetText(reply.text, ListCounters(machine_));
  } else if (request.verb == Verb::kList) {
    control::SetText(reply.text,
                     absl::StrCat(ListDomains(machine_), "programs ", clients_.size(), ", sockets ",
                                  sockets_.size(), ", buffers reserved ", machine_.reserved() >> 20,
                                  " of ", machine_.budget() >> 20, " MiB\n"));
  } else {
    status = RunCommand(request.verb, control::GetText(request.name));
    if (status.ok() && request.verb == Verb::kCreate) {
      const Domain& domain = *machine_.Find(control::GetText(request.name));
      control::SetText(reply.text, absl::StrCat(domain.name(), " (CID ", domain.cid(), ")\n"));
    }
    if (clients_.find(name) == clients_.end()) return;  // it killed its own domain
    spdlog::info("command {} '{}' of pid {}: {}", static_cast<uint32_t>(request.verb),
                 absl::CHexEscape(control::GetText(request.name)), client.pid(),
                 status.ok() ? "done" : absl::CHexEscape(status.message()));
  }
  reply.answer.error = ErrnoOf(status);
  control::SetText(reply.answer.message, status.message());
  if (!client.Send(reply)) Disconnect(client);
}

absl::Status Server::RunCommand(Verb verb, const std::string& name) {
  if (verb == Verb::kCreate) {
    if (name.empty()) return ErrnoError(EINVAL, "a new domain needs a name");
    DomainConfig config;
    config.name = name;
    // "domN" wants to be domain N; another name takes the first free place.
    const absl::StatusOr<uint32_t> cid = ParseCid(name);
    if (cid.ok() && name.compare(0, 3, "dom") == 0) {
      config.domid = static_cast<uint16_t>(std::min<uint32_t>(*cid - kArgoCidOffset, UINT16_MAX));
    } else {
      // Never dom0's place: programs look for the host there.
      config.domid = 1;
      while (machine_.Find(config.domid) != nullptr) ++config.domid;
    }
    return machine_.Create(config).status();
  }
  Domain* domain = machine_.Find(name);
  if (domain == nullptr) {
    return ErrnoError(ENODEV, absl::StrCat("no domain '", name, "' on this machine"));
  }
  switch (verb) {
    case Verb::kKill:
      return KillDomain(*domain);
    case Verb::kRestart: {
      const DomainConfig config = domain->config();
      if (absl::Status s = KillDomain(*domain); !s.ok()) return s;
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

absl::Status Server::KillDomain(Domain& domain) {
  const std::string reason = absl::StrCat("domain ", domain.name(), " was killed");
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
  if (!sockets_.contains(socket)) return;
  if (auto it = clients_.find(socket->client()); it != clients_.end()) {
    Client& client = *it->second;
    auto known = client.known().find(socket->id());
    // An id may be another socket's by now: accepted ones wrap.
    if (known != client.known().end() && known->second.alive == socket) {
      const Client::Known was = known->second;
      if (was.forgotten) {
        client.known().erase(known);
      } else {
        known->second = {.error = error, .message = std::string(message)};
      }
      if (was.asked && !was.forgotten) {
        Request request;
        request.kind = Kind::kFinish;
        request.id = socket->id();
        Finish(client, request);
      }
    }
  }
  Retire(sockets_, socket);
}

ProgramSocket* Server::SocketArrived(ProgramListener* listener, packet::Connection& connection) {
  const uint32_t id = next_accepted_;
  next_accepted_ = std::max(next_accepted_ + 1, control::kDaemonIds);  // wraps to the first
  auto socket =
      std::make_unique<ProgramSocket>(loop_, *this, listener->domain(), listener->client(), id);
  socket->set_connection(&connection);
  ProgramSocket* raw = socket.get();
  auto client = clients_.find(listener->client());
  // Over the limit nobody can ask how it ended, and that is all.
  if (client != clients_.end() && client->second->ended_or_alive() < kMaxKnownPerClient) {
    client->second->known().try_emplace(id, Client::Known{.alive = raw});
  }
  Own(sockets_, std::move(socket));
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
