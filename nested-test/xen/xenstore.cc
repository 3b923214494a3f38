// SPDX-License-Identifier: Apache-2.0
#include "nested-test/xen/xenstore.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>
#include <xen/io/xs_wire.h>

namespace argosy {
namespace {

constexpr char kDevice[] = "/dev/xen/xenbus";

std::string WithNul(std::string_view text) {
  std::string result(text);
  result.push_back('\0');
  return result;
}

}  // namespace

void Die(const std::string& message) {
  fprintf(stderr, "rig: %s\n", message.c_str());
  exit(2);
}

Xenstore::Xenstore() : fd_(open(kDevice, O_RDWR | O_CLOEXEC)) {
  if (!fd_.valid()) Die(std::string("cannot open ") + kDevice + ": " + strerror(errno));
}

std::optional<std::string> Xenstore::Read(const std::string& path) {
  return Call(XS_READ, WithNul(path));
}

bool Xenstore::Write(const std::string& path, std::string_view value) {
  return Call(XS_WRITE, WithNul(path).append(value)).has_value();
}

void Xenstore::Remove(const std::string& path) { Call(XS_RM, WithNul(path)); }

std::vector<std::string> Xenstore::List(const std::string& path) {
  std::vector<std::string> names;
  const std::string body = Call(XS_DIRECTORY, WithNul(path)).value_or("");
  for (size_t at = 0; at < body.size(); at += names.back().size() + 1) {
    names.emplace_back(body.c_str() + at);
  }
  return names;
}

bool Xenstore::DomainExists(const std::string& domid) {
  const std::optional<std::string> answer = Call(XS_IS_DOMAIN_INTRODUCED, WithNul(domid));
  return answer && answer->substr(0, 1) == "T";
}

void Xenstore::Watch(const std::string& path) { Call(XS_WATCH, WithNul(path) + WithNul("rig")); }

std::string Xenstore::NextEvent() {
  while (events_.empty()) {
    const Message message = Receive();
    if (message.type != XS_WATCH_EVENT) Die("a reply without a request");
    events_.emplace_back(message.body.c_str());
  }
  std::string path = std::move(events_.front());
  events_.pop_front();
  return path;
}

std::optional<std::string> Xenstore::Call(uint32_t type, std::string_view body) {
  xsd_sockmsg header = {};
  header.type = type;
  header.req_id = ++last_id_;
  header.len = static_cast<uint32_t>(body.size());
  std::string request(reinterpret_cast<const char*>(&header), sizeof(header));
  request.append(body);
  // The device takes a request in one piece.
  if (write(fd_.get(), request.data(), request.size()) != static_cast<ssize_t>(request.size())) {
    Die(std::string("cannot write to Xenstore: ") + strerror(errno));
  }
  for (;;) {
    Message message = Receive();
    if (message.type == XS_WATCH_EVENT) {
      events_.emplace_back(message.body.c_str());
      continue;
    }
    if (message.type != XS_ERROR) return std::move(message.body);
    const std::string error = message.body.c_str();
    // EACCES: nodes of a domain that has gone, looked at by a guest.
    if (error == "ENOENT" || error == "EACCES") return std::nullopt;
    Die("Xenstore says " + error + " for '" + std::string(body.data()) + "'");
  }
}

Xenstore::Message Xenstore::Receive() {
  auto fill = [this](char* to, size_t size) {
    while (size > 0) {
      const ssize_t n = read(fd_.get(), to, size);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) Die(std::string("cannot read from Xenstore: ") + strerror(errno));
      to += n;
      size -= static_cast<size_t>(n);
    }
  };
  xsd_sockmsg header;
  fill(reinterpret_cast<char*>(&header), sizeof(header));
  if (header.len > XENSTORE_PAYLOAD_MAX) Die("Xenstore sent too long a message");
  Message message{header.type, std::string(header.len, '\0')};
  fill(message.body.data(), header.len);
  return message;
}

}  // namespace argosy
