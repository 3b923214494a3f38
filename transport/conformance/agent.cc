// SPDX-License-Identifier: Apache-2.0
#include "transport/conformance/agent.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "transport/conformance/pattern.h"
#include "transport/conformance/protocol.h"
#include "transport/error.h"

namespace argosy::conformance {
namespace {

// Whoever reaches the control port sends commands, so each of them is bounded.
constexpr uint64_t kMaxBuffer = 1 << 20;  // bytes of one block
constexpr int64_t kMaxWaitMs = 2 * 60 * 1000;
constexpr size_t kMaxBackground = 64;  // commands at once

// The life of a process that holds one descriptor and nothing else.  Only system calls, because the
// process that forked has threads.
[[noreturn]] void HoldAlone(int fd, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(0);  // it died before the line above
  if (fd > 3) syscall(SYS_close_range, 3u, static_cast<unsigned>(fd - 1), 0u);
  syscall(SYS_close_range, static_cast<unsigned>(fd + 1), ~0u, 0u);
  for (;;) pause();
}

// A child that is killed at the latest when this goes.  Kill() may be called by several threads.
class Child {
 public:
  explicit Child(pid_t pid) : pid_(pid) {}
  Child(const Child&) = delete;
  ~Child() { Kill(); }
  void Kill() {
    // One thread alone gets the id: kill(-1) would reach every process of this machine.
    const pid_t pid = pid_.exchange(-1);
    if (pid <= 0) return;
    kill(pid, SIGKILL);
    while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
    }
  }

 private:
  std::atomic<pid_t> pid_;
};

// What a script has opened: one of these, which never changes.  Commands in the background may share
// it: they use a descriptor as they like, and call what does more than that under `mutex`.
struct Object {
  std::unique_ptr<Listener> listener;
  std::unique_ptr<DatagramSocket> datagram;
  std::optional<Socket> socket;
  std::unique_ptr<Child> child;
  absl::Mutex mutex;
};

// What a command answers when it succeeds.
struct Result {
  std::vector<uint64_t> numbers;
  std::string bytes;
};

class Session {
 public:
  Session(Transport& transport, int control)
      : transport_(transport),
        control_(control),
        channel_(control),
        stop_(eventfd(0, EFD_CLOEXEC)) {}
  ~Session() {
    End();
    for (Background& command : background_) command.thread.join();
    if (watcher_.joinable()) watcher_.join();
    absl::MutexLock lock(&mutex_);
    objects_.clear();
  }

  absl::Status Run() {
    if (!stop_.valid()) return SystemError(errno, "eventfd");
    watcher_ = std::thread([this] { Watch(); });
    for (;;) {
      absl::StatusOr<Message> command = channel_.Read();
      if (!command.ok()) {
        return ErrnoOf(command.status()) == ENOTCONN ? absl::OkStatus() : command.status();
      }
      const Verb* const verb = Find(*command);
      if (verb == nullptr) {
        return ErrnoError(EPROTO, absl::StrCat("no command '", command->verb, "' with ",
                                               command->numbers.size(), " numbers"));
      }
      if (command->background) {
        Start(*verb, *std::move(command));
      } else {
        Answer(command->tag, (this->*verb->handler)(*command));
      }
    }
  }

 private:
  using Handler = absl::StatusOr<Result> (Session::*)(const Message&);
  struct Verb {
    const char* name;
    size_t numbers;
    Handler handler;
  };
  struct Background {
    std::thread thread;
    std::atomic<bool> done = false;
  };

  // clang-format off
  static const Verb* Find(const Message& command) {
    static constexpr Verb kTable[] = {
        {"cid", 0, &Session::Cid},
        {"listen", 3, &Session::Listen},                  // type port backlog -> id port
        {"accept", 2, &Session::Accept},                  // listener ms -> connection
        {"connect", 5, &Session::Connect},                // cid port type from ms -> connection
        {"send", 2, &Session::Send},                      // id flags =bytes -> sent
        {"receive", 3, &Session::Receive},                // id size flags -> size flags =bytes
        {"send-pattern", 4, &Session::SendLong},          // id size first chunk -> sent errno
        {"receive-pattern", 4, &Session::ReceiveLong},    // id size first chunk -> got errno wrong at
        {"receive-message", 3, &Session::ReceiveMessage}, // id size first -> size wrong flags
        {"shutdown", 2, &Session::Shutdown},              // id how
        {"finish", 2, &Session::Finish},                  // id ms
        {"poll", 3, &Session::Poll},                      // id events ms -> revents
        {"close", 1, &Session::Close},                    // id
        {"hold", 1, &Session::Hold},                      // connection -> child
        {"kill", 1, &Session::Kill},                      // child
        {"bind-datagram", 1, &Session::BindDatagram},     // port -> id port
        {"send-datagram", 3, &Session::SendDatagram},     // id cid port =bytes
        {"receive-datagram", 3, &Session::ReceiveDatagram}, // id size ms -> size cid port wrong =bytes
    };
    // clang-format on
    for (const Verb& verb : kTable) {
      if (command.verb == verb.name) {
        return command.numbers.size() == verb.numbers ? &verb : nullptr;
      }
    }
    return nullptr;
  }

  void Start(const Verb& verb, Message command) {
    background_.remove_if([](Background& other) {
      if (!other.done) return false;
      other.thread.join();
      return true;
    });
    if (background_.size() == kMaxBackground) {
      Answer(command.tag,
             ErrnoError(EAGAIN, absl::StrCat(kMaxBackground, " commands are at work already")));
      return;
    }
    Background& started = background_.emplace_back();
    started.thread = std::thread([this, &started, &verb, command = std::move(command)] {
      absl::StatusOr<Result> result = (this->*verb.handler)(command);
      started.done = true;  // before the answer: a script that has it may start another
      Answer(command.tag, std::move(result));
    });
  }

  void Answer(uint64_t tag, absl::StatusOr<Result> result) {
    Message answer;
    answer.tag = tag;
    answer.verb = "done";
    answer.numbers = {static_cast<uint64_t>(ErrnoOf(result.status()))};
    if (result.ok()) {
      answer.numbers.insert(answer.numbers.end(), result->numbers.begin(), result->numbers.end());
      answer.bytes = std::move(result->bytes);
    } else {
      answer.bytes = std::string(result.status().message().substr(0, kMaxBytes));
    }
    absl::MutexLock lock(&write_);
    channel_.Write(answer).IgnoreError();  // nobody waits for it any more
  }

  // The session's thread may be at work when the script hangs up, and does not read then.
  void Watch() {
    pollfd p[2] = {{control_, POLLRDHUP, 0}, {stop_.get(), POLLIN, 0}};
    while (poll(p, 2, -1) < 0 && errno == EINTR) {
    }
    End();
  }

  // Ends all waiting, now and from now on.
  void End() {
    std::vector<std::shared_ptr<Object>> all;
    {
      absl::MutexLock lock(&mutex_);
      ended_ = true;
      for (const auto& [id, object] : objects_) all.push_back(object);
      for (const std::weak_ptr<Object>& taken : taken_) {
        if (std::shared_ptr<Object> object = taken.lock()) all.push_back(std::move(object));
      }
    }
    const uint64_t one = 1;
    while (write(stop_.get(), &one, sizeof(one)) < 0 && errno == EINTR) {
    }
    for (const std::shared_ptr<Object>& object : all) {
      if (object->socket.has_value()) shutdown(object->socket->fd(), SHUT_RDWR);
    }
  }

  uint64_t Add(std::shared_ptr<Object> object) {
    absl::MutexLock lock(&mutex_);
    if (ended_ && object->socket.has_value()) shutdown(object->socket->fd(), SHUT_RDWR);
    objects_[++last_id_] = std::move(object);
    return last_id_;
  }

  // Null if there is none.  What a command works with stays alive until it is done.
  std::shared_ptr<Object> Get(uint64_t id) {
    absl::MutexLock lock(&mutex_);
    auto it = objects_.find(id);
    return it == objects_.end() ? nullptr : it->second;
  }
  // The script has it no longer.  It is closed when the commands that still work with it are done;
  // End() must find it until then.
  std::shared_ptr<Object> Take(uint64_t id) {
    absl::MutexLock lock(&mutex_);
    auto taken = objects_.extract(id);
    if (taken.empty()) return nullptr;
    taken_.remove_if([](const std::weak_ptr<Object>& object) { return object.expired(); });
    taken_.push_back(taken.mapped());
    return std::move(taken.mapped());
  }
  std::shared_ptr<Socket> Connection(uint64_t id) {
    std::shared_ptr<Object> object = Get(id);
    if (object == nullptr || !object->socket.has_value()) return nullptr;
    return {object, &*object->socket};
  }
  static absl::Status NoSuch(absl::string_view what) {
    return ErrnoError(EBADF, absl::StrCat("the script knows no such ", what));
  }

  static absl::StatusOr<SocketType> Type(uint64_t number) {
    if (number > 1) return ErrnoError(EPROTO, "no such type");
    return number == 0 ? SocketType::kStream : SocketType::kSeqpacket;
  }
  static absl::Duration Ms(uint64_t ms) {
    return absl::Milliseconds(std::min<uint64_t>(ms, kMaxWaitMs));
  }

  // Waits for `events` on a descriptor.  Returns what came, 0 at the deadline or when the session
  // ends.
  absl::StatusOr<short> Await(int fd, short events, absl::Time deadline) {
    for (;;) {
      pollfd p[2] = {{fd, events, 0}, {stop_.get(), POLLIN, 0}};
      const int64_t ms = absl::ToInt64Milliseconds(deadline - absl::Now());
      const int n = poll(p, 2, static_cast<int>(std::clamp<int64_t>(ms, 0, kMaxWaitMs)));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return SystemError(errno, "poll");
      return p[0].revents;
    }
  }

  // Attempts again each time `fd` is ready, until it says something else than EAGAIN: at the
  // deadline, or when the session ends, EAGAIN is the answer.
  template <typename Attempt>
  auto WhenReady(int fd, short events, absl::Time deadline, Attempt attempt)
      -> decltype(attempt()) {
    for (;;) {
      auto result = attempt();
      if (ErrnoOf(result.status()) != EAGAIN) return result;
      const absl::StatusOr<short> ready = Await(fd, events, deadline);
      if (!ready.ok()) return ready.status();
      if (*ready == 0) return result;
    }
  }

  absl::StatusOr<Result> Cid(const Message&) {
    absl::StatusOr<uint32_t> cid = transport_.LocalCid();
    if (!cid.ok()) return cid.status();
    return Result{{*cid}, ""};
  }

  absl::StatusOr<Result> Listen(const Message& m) {
    absl::StatusOr<SocketType> type = Type(m.numbers[0]);
    if (!type.ok()) return type.status();
    auto listener =
        transport_.Listen(static_cast<uint32_t>(m.numbers[1]), *type,
                          {.backlog = static_cast<int>(std::min<uint64_t>(m.numbers[2], 4096))});
    if (!listener.ok()) return listener.status();
    const uint64_t port = (*listener)->local().port;
    auto object = std::make_shared<Object>();
    object->listener = *std::move(listener);
    return Result{{Add(std::move(object)), port}, ""};
  }

  absl::StatusOr<Result> Accept(const Message& m) {
    const std::shared_ptr<Object> object = Get(m.numbers[0]);
    if (object == nullptr || object->listener == nullptr) return NoSuch("listener");
    absl::StatusOr<Socket> socket =
        WhenReady(object->listener->fd(), POLLIN, absl::Now() + Ms(m.numbers[1]), [&] {
          absl::MutexLock lock(&object->mutex);
          return object->listener->Accept();
        });
    if (!socket.ok()) return socket.status();
    return Keep(*std::move(socket));
  }

  absl::StatusOr<Result> Connect(const Message& m) {
    absl::StatusOr<SocketType> type = Type(m.numbers[2]);
    if (!type.ok()) return type.status();
    absl::StatusOr<std::unique_ptr<Connecting>> connecting = transport_.Connect(
        {static_cast<uint32_t>(m.numbers[0]), static_cast<uint32_t>(m.numbers[1])}, *type,
        {.timeout = Ms(m.numbers[4]), .local_port = static_cast<uint32_t>(m.numbers[3])});
    if (!connecting.ok()) return connecting.status();
    // Not ConnectBlocking(): the session may end meanwhile.
    absl::StatusOr<Socket> socket =
        WhenReady((*connecting)->fd(), (*connecting)->events(), absl::InfiniteFuture(),
                  [&] { return (*connecting)->Complete(); });
    if (!socket.ok()) return socket.status();
    return Keep(*std::move(socket));
  }

  // -> id, own address, peer's address, type, whether it blocks and is closed by exec()
  absl::StatusOr<Result> Keep(Socket socket) {
    const bool blocks = (fcntl(socket.fd(), F_GETFL) & O_NONBLOCK) == 0;
    const bool close_on_exec = (fcntl(socket.fd(), F_GETFD) & FD_CLOEXEC) != 0;
    Result result;
    result.numbers = {0,
                      socket.local().cid,
                      socket.local().port,
                      socket.peer().cid,
                      socket.peer().port,
                      socket.type() == SocketType::kStream ? 0u : 1u,
                      blocks,
                      close_on_exec};
    auto object = std::make_shared<Object>();
    object->socket = std::move(socket);
    result.numbers[0] = Add(std::move(object));
    return result;
  }

  absl::StatusOr<Result> Send(const Message& m) {
    const std::shared_ptr<Socket> socket = Connection(m.numbers[0]);
    if (socket == nullptr) return NoSuch("connection");
    const ssize_t n = send(socket->fd(), m.bytes.data(), m.bytes.size(),
                           static_cast<int>(m.numbers[1]) | MSG_NOSIGNAL);
    if (n < 0) return SystemError(errno, "send");
    return Result{{static_cast<uint64_t>(n)}, ""};
  }

  absl::StatusOr<Result> Receive(const Message& m) {
    const std::shared_ptr<Socket> socket = Connection(m.numbers[0]);
    if (socket == nullptr) return NoSuch("connection");
    std::string bytes(std::min<uint64_t>(m.numbers[1], kMaxBytes), '\0');
    iovec iov = {bytes.data(), bytes.size()};
    msghdr header = {};
    header.msg_iov = &iov;
    header.msg_iovlen = 1;
    const ssize_t n = recvmsg(socket->fd(), &header, static_cast<int>(m.numbers[2]));
    if (n < 0) return SystemError(errno, "recvmsg");
    bytes.resize(std::min<size_t>(n, bytes.size()));
    return Result{{static_cast<uint64_t>(n), static_cast<uint64_t>(header.msg_flags)}, bytes};
  }

  absl::StatusOr<Result> SendLong(const Message& m) {
    const std::shared_ptr<Socket> socket = Connection(m.numbers[0]);
    if (socket == nullptr) return NoSuch("connection");
    int error = 0;
    const uint64_t sent = SendPattern(socket->fd(), {m.numbers[1], m.numbers[2]},
                                      std::clamp<uint64_t>(m.numbers[3], 1, kMaxBuffer), &error);
    return Result{{sent, static_cast<uint64_t>(error)}, ""};
  }

  absl::StatusOr<Result> ReceiveLong(const Message& m) {
    const std::shared_ptr<Socket> socket = Connection(m.numbers[0]);
    if (socket == nullptr) return NoSuch("connection");
    const Received got = ReceivePattern(socket->fd(), {m.numbers[1], m.numbers[2]},
                                        std::clamp<uint64_t>(m.numbers[3], 1, kMaxBuffer));
    return Result{{got.bytes, static_cast<uint64_t>(got.error), !got.matches, got.first_wrong}, ""};
  }

  absl::StatusOr<Result> ReceiveMessage(const Message& m) {
    const std::shared_ptr<Socket> socket = Connection(m.numbers[0]);
    if (socket == nullptr) return NoSuch("connection");
    std::vector<uint8_t> buffer(std::min(m.numbers[1], kMaxBuffer));
    iovec iov = {buffer.data(), buffer.size()};
    msghdr header = {};
    header.msg_iov = &iov;
    header.msg_iovlen = 1;
    const ssize_t n = recvmsg(socket->fd(), &header, MSG_TRUNC);
    if (n < 0) return SystemError(errno, "recvmsg");
    const uint64_t kept = std::min<uint64_t>(n, buffer.size());
    buffer.resize(kept);
    const bool wrong = buffer != Pattern{kept, m.numbers[2]}.Bytes();
    return Result{{static_cast<uint64_t>(n), wrong, static_cast<uint64_t>(header.msg_flags)}, ""};
  }

  absl::StatusOr<Result> Shutdown(const Message& m) {
    const std::shared_ptr<Socket> socket = Connection(m.numbers[0]);
    if (socket == nullptr) return NoSuch("connection");
    if (shutdown(socket->fd(), static_cast<int>(m.numbers[1])) != 0) {
      return SystemError(errno, "shutdown");
    }
    return Result{};
  }

  absl::StatusOr<Result> Finish(const Message& m) {
    const std::shared_ptr<Object> object = Get(m.numbers[0]);
    if (object == nullptr || !object->socket.has_value()) return NoSuch("connection");
    const absl::Time deadline = absl::Now() + Ms(m.numbers[1]);
    for (;;) {
      // Nothing wakes Finish() when the session ends, so it waits in short steps.
      const absl::Time step = std::min(deadline, absl::Now() + absl::Milliseconds(100));
      absl::Status how;
      {
        absl::MutexLock lock(&object->mutex);
        how = object->socket->Finish(step);
      }
      if (how.ok()) return Result{};
      if (ErrnoOf(how) != ETIMEDOUT || step == deadline || Ended()) return how;
    }
  }

  absl::StatusOr<Result> Poll(const Message& m) {
    const std::shared_ptr<Socket> socket = Connection(m.numbers[0]);
    if (socket == nullptr) return NoSuch("connection");
    const absl::StatusOr<short> got =
        Await(socket->fd(), static_cast<short>(m.numbers[1]), absl::Now() + Ms(m.numbers[2]));
    if (!got.ok()) return got.status();
    return Result{{static_cast<uint64_t>(*got)}, ""};
  }

  absl::StatusOr<Result> Close(const Message& m) {
    if (Take(m.numbers[0]) == nullptr) return NoSuch("object");
    return Result{};
  }

  absl::StatusOr<Result> Hold(const Message& m) {
    if (Connection(m.numbers[0]) == nullptr) return NoSuch("connection");
    const std::shared_ptr<Object> object = Take(m.numbers[0]);
    if (object == nullptr) return NoSuch("connection");
    const pid_t parent = getpid();
    const pid_t pid = fork();
    if (pid < 0) return SystemError(errno, "fork");
    if (pid == 0) HoldAlone(object->socket->fd(), parent);
    auto child = std::make_shared<Object>();
    child->child = std::make_unique<Child>(pid);
    return Result{{Add(std::move(child))}, ""};
  }

  absl::StatusOr<Result> Kill(const Message& m) {
    const std::shared_ptr<Object> object = Get(m.numbers[0]);
    if (object == nullptr || object->child == nullptr) return NoSuch("child");
    object->child->Kill();
    return Result{};
  }

  absl::StatusOr<Result> BindDatagram(const Message& m) {
    auto datagram = transport_.BindDatagram(static_cast<uint32_t>(m.numbers[0]));
    if (!datagram.ok()) return datagram.status();
    const uint64_t port = (*datagram)->local().port;
    auto object = std::make_shared<Object>();
    object->datagram = *std::move(datagram);
    return Result{{Add(std::move(object)), port}, ""};
  }

  absl::StatusOr<Result> SendDatagram(const Message& m) {
    const std::shared_ptr<Object> object = Get(m.numbers[0]);
    if (object == nullptr || object->datagram == nullptr) return NoSuch("datagram socket");
    const std::vector<uint8_t> bytes(m.bytes.begin(), m.bytes.end());
    absl::MutexLock lock(&object->mutex);
    const absl::Status sent = object->datagram->SendTo(
        bytes, {static_cast<uint32_t>(m.numbers[1]), static_cast<uint32_t>(m.numbers[2])});
    if (!sent.ok()) return sent;
    return Result{};
  }

  absl::StatusOr<Result> ReceiveDatagram(const Message& m) {
    const std::shared_ptr<Object> object = Get(m.numbers[0]);
    if (object == nullptr || object->datagram == nullptr) return NoSuch("datagram socket");
    std::vector<uint8_t> buffer(std::min(m.numbers[1], kMaxBuffer));
    const auto got = WhenReady(object->datagram->fd(), POLLIN, absl::Now() + Ms(m.numbers[2]), [&] {
      absl::MutexLock lock(&object->mutex);
      return object->datagram->ReceiveFrom(absl::MakeSpan(buffer));
    });
    if (!got.ok()) return got.status();
    buffer.resize(std::min(buffer.size(), got->size));
    const size_t told = std::min(buffer.size(), kMaxBytes);
    return Result{
        {got->size, got->from.cid, got->from.port, buffer != Pattern{buffer.size(), 0}.Bytes()},
        std::string(buffer.begin(), buffer.begin() + told)};
  }

  bool Ended() {
    absl::MutexLock lock(&mutex_);
    return ended_;
  }

  Transport& transport_;
  const int control_;
  MessageChannel channel_;            // read by the session's thread alone
  absl::Mutex write_;                 // held while an answer is written
  const UniqueFd stop_;               // readable when the session ends
  std::thread watcher_;               // Watch()
  std::list<Background> background_;  // the session's thread alone

  absl::Mutex mutex_;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t last_id_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, std::shared_ptr<Object>> objects_ ABSL_GUARDED_BY(mutex_);
  std::list<std::weak_ptr<Object>> taken_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::Status Agent::Serve(int control) { return Session(transport_, control).Run(); }

absl::StatusOr<std::unique_ptr<AgentThread>> AgentThread::Start(
    std::unique_ptr<Transport> transport) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
    return SystemError(errno, "socketpair");
  }
  return absl::WrapUnique(
      new AgentThread(std::move(transport), UniqueFd(pair[0]), UniqueFd(pair[1])));
}

AgentThread::AgentThread(std::unique_ptr<Transport> transport, UniqueFd control, UniqueFd theirs)
    : transport_(std::move(transport)), control_(std::move(control)) {
  thread_ = std::thread([this, theirs = std::move(theirs)] {
    // What goes wrong the script sees as a hang-up; this says why.
    const absl::Status status = Agent(*transport_).Serve(theirs.get());
    if (!status.ok()) fprintf(stderr, "agent: %s\n", std::string(status.message()).c_str());
  });
}

AgentThread::~AgentThread() {
  shutdown(control_.get(), SHUT_RDWR);
  thread_.join();
}

}  // namespace argosy::conformance
