// SPDX-License-Identifier: Apache-2.0
#include "sim/control_client.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "transport/error.h"
#include "transport/unix_socket.h"

namespace argosy::sim {

using control::Answer;
using control::Kind;
using control::Request;

absl::StatusOr<std::unique_ptr<ControlClient>> ControlClient::Open(const std::string& path,
                                                                   absl::string_view domain) {
  const absl::StatusOr<sockaddr_un> address = UnixAddress(path);
  if (!address.ok()) return address.status();
  if (domain.size() >= control::kNameSize) {
    return ErrnoError(EINVAL, absl::StrCat("a domain's name has at most ", control::kNameSize - 1,
                                           " characters"));
  }
  UniqueFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return SystemError(errno, "cannot make a socket");
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)) != 0) {
    if (errno == EACCES) return SystemError(errno, absl::StrCat("cannot open ", path));
    return ErrnoError(ECONNREFUSED,
                      absl::StrCat("no argosy-sim serves ", path, " (", strerror(errno),
                                   "): start one with 'argosy-sim --socket ", path, "'"));
  }
  ucred server = {};
  socklen_t size = sizeof(server);
  if (getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &server, &size) != 0 ||
      (server.uid != 0 && server.uid != geteuid())) {
    return ErrnoError(EACCES,
                      absl::StrCat(path, " is served by user ", server.uid,
                                   ", who is not trusted: ", "start an argosy-sim of your own"));
  }
  // The daemon always reads; one that is stopped must not stop its programs for ever.
  const timeval patience = {.tv_sec = 10, .tv_usec = 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  auto client = absl::WrapUnique(new ControlClient(std::move(fd)));
  Request hello;
  hello.kind = Kind::kHello;
  hello.id = client->NewId();
  hello.version = control::kVersion;
  control::SetText(hello.name, domain);
  Answer answer;
  if (absl::Status s = client->Ask(hello, absl::Now() + absl::Seconds(10), &answer); !s.ok())
    return s;
  client->cid_ = answer.cid;
  return client;
}

absl::Status ControlClient::Send(const Request& request, int fd) {
  while (control::SendRecord(fd_.get(), control::Bytes(request), fd, 0) < 0) {
    if (errno == EINTR) continue;
    if (errno == EPIPE || errno == ECONNRESET) {
      return ErrnoError(ENETRESET,
                        "the carrier is gone: argosy-sim stopped, or the domain was killed");
    }
    if (errno == EAGAIN) {
      return ErrnoError(ETIMEDOUT, "argosy-sim does not take requests: is it stopped?");
    }
    return SystemError(errno, "cannot ask argosy-sim");
  }
  return absl::OkStatus();
}

absl::Status ControlClient::Ask(const Request& request, absl::Time deadline, Answer* answer,
                                std::string* text) {
  bool known;
  {
    absl::MutexLock lock(&mutex_);
    known = !asked_.try_emplace(request.id).second;
  }
  absl::Status sent;
  if (!known) sent = Send(request, -1);
  absl::MutexLock lock(&mutex_);
  // Also with a deadline that has passed: what is here already counts.
  bool looked = false;
  for (;;) {
    auto it = asked_.find(request.id);
    if (it != asked_.end() && it->second.here) {
      *answer = it->second.answer;
      if (text != nullptr) *text = std::move(it->second.text);
      asked_.erase(it);
      if (answer->error != 0) return ErrnoError(answer->error, control::GetText(answer->message));
      return absl::OkStatus();
    }
    if (!gone_.ok()) return gone_;
    // The daemon's last words may still lie there: they say why it went.
    if (!sent.ok() && ErrnoOf(sent) != ENETRESET) {
      asked_.erase(request.id);
      return sent;
    }
    if (looked && absl::Now() >= deadline) {
      return ErrnoError(ETIMEDOUT, "argosy-sim has no answer yet");
    }
    looked = true;
    if (reading_) {
      changed_.WaitWithDeadline(&mutex_, deadline);
    } else {
      ReadOne(deadline);
    }
  }
}

void ControlClient::ReadOne(absl::Time deadline) {
  reading_ = true;
  mutex_.Unlock();
  struct {
    Answer answer;
    char text[control::kTextSize];
  } record;
  pollfd p = {fd_.get(), POLLIN, 0};
  const int64_t ms = absl::ToInt64Milliseconds(deadline - absl::Now() + absl::Microseconds(999));
  const int ready = poll(&p, 1,
                         deadline == absl::InfiniteFuture()
                             ? -1
                             : static_cast<int>(std::clamp<int64_t>(ms, 0, 1 << 30)));
  ssize_t n = -1;
  int error = EAGAIN;
  if (ready > 0) {
    n = recv(fd_.get(), &record, sizeof(record), MSG_DONTWAIT);
    error = errno;
  }
  mutex_.Lock();
  reading_ = false;
  if (n < 0 && (error == EAGAIN || error == EINTR)) {
    // nothing came
  } else if (n < static_cast<ssize_t>(sizeof(Answer))) {
    gone_ = ErrnoError(ENETRESET, "the carrier is gone: argosy-sim stopped or was killed");
  } else if (record.answer.kind == Kind::kGoodbye ||
             (record.answer.kind == Kind::kFailure && record.answer.id == 0)) {
    gone_ = ErrnoError(record.answer.error == 0 ? ENETRESET : record.answer.error,
                       control::GetText(record.answer.message));
  } else if (auto it = asked_.find(record.answer.id); it != asked_.end()) {
    it->second.here = true;
    it->second.answer = record.answer;
    it->second.text = control::GetText(record.text);
  }
  changed_.SignalAll();
}

void ControlClient::Forget(uint32_t id) {
  {
    absl::MutexLock lock(&mutex_);
    asked_.erase(id);
  }
  Request request;
  request.kind = Kind::kForget;
  request.id = id;
  Send(request, -1).IgnoreError();
}

absl::StatusOr<std::string> ControlClient::Command(control::Verb verb, absl::string_view name) {
  if (name.size() >= control::kNameSize) {
    return ErrnoError(EINVAL, absl::StrCat("a domain's name has at most ", control::kNameSize - 1,
                                           " characters"));
  }
  Request request;
  request.kind = Kind::kCommand;
  request.id = NewId();
  request.verb = verb;
  control::SetText(request.name, name);
  Answer answer;
  std::string text;
  if (absl::Status s = Ask(request, absl::Now() + absl::Seconds(10), &answer, &text); !s.ok())
    return s;
  return text;
}

}  // namespace argosy::sim
