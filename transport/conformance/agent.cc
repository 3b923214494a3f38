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
#include <cerrno>
#include <cstring>
#include <map>
#include <optional>
#include <string>
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

// What one command may make us allocate.
constexpr uint64_t kMaxBuffer = 16 << 20;
constexpr int64_t kMaxWaitMs = 24 * 3600 * 1000;

// The life of a process that holds one descriptor and nothing else.  Only system calls, because the
// process that forked has threads.
[[noreturn]] void HoldAlone(int fd) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (fd > 3) syscall(SYS_close_range, 3u, static_cast<unsigned>(fd - 1), 0u);
  syscall(SYS_close_range, static_cast<unsigned>(fd + 1), ~0u, 0u);
  for (;;) pause();
}

// A child that is killed at the latest when this goes.
class Child {
 public:
  explicit Child(pid_t pid) : pid_(pid) {}
  Child(Child&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
  Child& operator=(Child&&) = delete;
  ~Child() { Kill(); }
  void Kill() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
  }

 private:
  pid_t pid_;
};

// What a script has opened: one of these.
struct Object {
  std::unique_ptr<Listener> listener;
  std::unique_ptr<DatagramSocket> datagram;
  std::optional<Socket> socket;
  std::optional<Child> child;
};

// What a command answers when it succeeds.
struct Result {
  std::vector<uint64_t> numbers;
  std::string bytes;
};

class Session {
 public:
  Session(Transport& transport, int control)
      : transport_(transport), channel_(control), stop_(eventfd(0, EFD_CLOEXEC)) {}
  ~Session() { Stop(); }

  absl::Status Run() {
    if (!stop_.valid()) return SystemError(errno, "eventfd");
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
        threads_.emplace_back([this, verb, command = *std::move(command)] { Do(*verb, command); });
      } else {
        Do(*verb, *command);
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

  void Do(const Verb& verb, const Message& command) {
    absl::StatusOr<Result> result = (this->*verb.handler)(command);
    Message answer;
    answer.tag = command.tag;
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

  // Wakes and ends what still runs in the background; then closes everything.
  void Stop() {
    const uint64_t one = 1;
    if (write(stop_.get(), &one, sizeof(one)) != sizeof(one)) return;
    {
      absl::MutexLock lock(&mutex_);
      for (auto& [id, object] : objects_) {
        if (object->socket.has_value()) shutdown(object->socket->fd(), SHUT_RDWR);
      }
    }
    for (std::thread& thread : threads_) thread.join();
    absl::MutexLock lock(&mutex_);
    objects_.clear();
  }

  uint64_t Add(Object object) {
    absl::MutexLock lock(&mutex_);
    objects_[++last_id_] = std::make_shared<Object>(std::move(object));
    return last_id_;
  }

  // Null if there is none.  What a command works with stays alive until it is done.
  std::shared_ptr<Object> Get(uint64_t id) {
    absl::MutexLock lock(&mutex_);
    auto it = objects_.find(id);
    return it == objects_.end() ? nullptr : it->second;
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
    Object object;
    object.listener = *std::move(listener);
    return Result{{Add(std::move(object)), port}, ""};
  }

  absl::StatusOr<Result> Accept(const Message& m) {
    const std::shared_ptr<Object> object = Get(m.numbers[0]);
    if (object == nullptr || object->listener == nullptr) return NoSuch("listener");
    const absl::Time deadline = absl::Now() + Ms(m.numbers[1]);
    for (;;) {
      absl::StatusOr<Socket> socket = object->listener->Accept();
      if (socket.ok()) return Keep(*std::move(socket));
      if (ErrnoOf(socket.status()) != EAGAIN) return socket.status();
      const absl::StatusOr<short> ready = Await(object->listener->fd(), POLLIN, deadline);
      if (!ready.ok()) return ready.status();
      if (*ready == 0) return socket.status();
    }
  }

  absl::StatusOr<Result> Connect(const Message& m) {
    absl::StatusOr<SocketType> type = Type(m.numbers[2]);
    if (!type.ok()) return type.status();
    absl::StatusOr<Socket> socket = ConnectBlocking(
        transport_, {static_cast<uint32_t>(m.numbers[0]), static_cast<uint32_t>(m.numbers[1])},
        *type, {.timeout = Ms(m.numbers[4]), .local_port = static_cast<uint32_t>(m.numbers[3])});
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
    Object object;
    object.socket = std::move(socket);
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
    const std::shared_ptr<Socket> socket = Connection(m.numbers[0]);
    if (socket == nullptr) return NoSuch("connection");
    const absl::Status how = socket->Finish(absl::Now() + Ms(m.numbers[1]));
    if (!how.ok()) return how;
    return Result{};
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
    std::shared_ptr<Object> object;
    {
      absl::MutexLock lock(&mutex_);
      auto it = objects_.find(m.numbers[0]);
      if (it == objects_.end()) return NoSuch("object");
      object = std::move(it->second);
      objects_.erase(it);
    }
    return Result{};  // closed here, unless another command still works with it
  }

  absl::StatusOr<Result> Hold(const Message& m) {
    const std::shared_ptr<Socket> socket = Connection(m.numbers[0]);
    if (socket == nullptr) return NoSuch("connection");
    const pid_t pid = fork();
    if (pid < 0) return SystemError(errno, "fork");
    if (pid == 0) HoldAlone(socket->fd());
    UniqueFd(std::move(*socket).Release()).reset();
    Object child;
    child.child.emplace(pid);
    return Result{{Add(std::move(child))}, ""};
  }

  absl::StatusOr<Result> Kill(const Message& m) {
    const std::shared_ptr<Object> object = Get(m.numbers[0]);
    if (object == nullptr || !object->child.has_value()) return NoSuch("child");
    object->child->Kill();
    return Result{};
  }

  absl::StatusOr<Result> BindDatagram(const Message& m) {
    auto datagram = transport_.BindDatagram(static_cast<uint32_t>(m.numbers[0]));
    if (!datagram.ok()) return datagram.status();
    const uint64_t port = (*datagram)->local().port;
    Object object;
    object.datagram = *std::move(datagram);
    return Result{{Add(std::move(object)), port}, ""};
  }

  absl::StatusOr<Result> SendDatagram(const Message& m) {
    const std::shared_ptr<Object> object = Get(m.numbers[0]);
    if (object == nullptr || object->datagram == nullptr) return NoSuch("datagram socket");
    const std::vector<uint8_t> bytes(m.bytes.begin(), m.bytes.end());
    const absl::Status sent = object->datagram->SendTo(
        bytes, {static_cast<uint32_t>(m.numbers[1]), static_cast<uint32_t>(m.numbers[2])});
    if (!sent.ok()) return sent;
    return Result{};
  }

  absl::StatusOr<Result> ReceiveDatagram(const Message& m) {
    const std::shared_ptr<Object> object = Get(m.numbers[0]);
    if (object == nullptr || object->datagram == nullptr) return NoSuch("datagram socket");
    std::vector<uint8_t> buffer(std::min(m.numbers[1], kMaxBuffer));
    const absl::Time deadline = absl::Now() + Ms(m.numbers[2]);
    for (;;) {
      const auto got = object->datagram->ReceiveFrom(absl::MakeSpan(buffer));
      if (got.ok()) {
        buffer.resize(std::min(buffer.size(), got->size));
        const size_t told = std::min(buffer.size(), kMaxBytes);
        return Result{
            {got->size, got->from.cid, got->from.port, buffer != Pattern{buffer.size(), 0}.Bytes()},
            std::string(buffer.begin(), buffer.begin() + told)};
      }
      if (ErrnoOf(got.status()) != EAGAIN) return got.status();
      const absl::StatusOr<short> ready = Await(object->datagram->fd(), POLLIN, deadline);
      if (!ready.ok()) return ready.status();
      if (*ready == 0) return got.status();
    }
  }

  Transport& transport_;
  MessageChannel channel_;  // read by the session's thread alone
  absl::Mutex write_;       // held while an answer is written
  const UniqueFd stop_;     // readable when the session ends
  std::vector<std::thread> threads_;

  absl::Mutex mutex_;
  uint64_t last_id_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, std::shared_ptr<Object>> objects_ ABSL_GUARDED_BY(mutex_);
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
