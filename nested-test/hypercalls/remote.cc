// SPDX-License-Identifier: Apache-2.0
#include "nested-test/hypercalls/remote.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "absl/strings/str_cat.h"
#include "transport/error.h"

namespace argosy::nested {
namespace {

uint8_t* At(uint64_t address) {
  return reinterpret_cast<uint8_t*>(static_cast<uintptr_t>(address));
}

}  // namespace

void SharedPages::Add(uint64_t address, size_t count) {
  areas_.push_back({address, std::vector<uint8_t>(count * kPageSize)});
}

uint32_t SharedPages::TakeChanges(std::string* out) {
  uint32_t count = 0;
  for (Area& area : areas_) {
    for (size_t offset = 0; offset < area.known.size(); offset += kPageSize) {
      uint64_t address = area.address + offset;
      if (memcmp(At(address), &area.known[offset], kPageSize) == 0) continue;
      memcpy(&area.known[offset], At(address), kPageSize);
      out->append(reinterpret_cast<const char*>(&address), sizeof(address));
      out->append(reinterpret_cast<const char*>(&area.known[offset]), kPageSize);
      ++count;
    }
  }
  return count;
}

absl::Status SharedPages::Apply(int fd, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) {
    uint64_t address;
    absl::Status status = ReadAll(fd, &address, sizeof(address));
    if (!status.ok()) return status;
    Area* const area = Find(address);
    if (area == nullptr) {
      return ErrnoError(EPROTO, absl::StrCat("a change of a page that nobody has: ", address));
    }
    uint8_t* const known = &area->known[address - area->address];
    status = ReadAll(fd, known, kPageSize);
    if (!status.ok()) return status;
    memcpy(At(address), known, kPageSize);
  }
  return absl::OkStatus();
}

SharedPages::Area* SharedPages::Find(uint64_t address) {
  for (Area& area : areas_) {
    if (address >= area.address && address - area.address < area.known.size() &&
        address % kPageSize == 0) {
      return &area;
    }
  }
  return nullptr;
}

absl::Status ReadAll(int fd, void* to, size_t size) {
  auto* at = static_cast<uint8_t*>(to);
  while (size > 0) {
    const ssize_t n = recv(fd, at, size, 0);
    if (n == 0) return ErrnoError(ECONNRESET, "the other side has closed the connection");
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return SystemError(errno, "recv");
    at += n;
    size -= static_cast<size_t>(n);
  }
  return absl::OkStatus();
}

absl::Status WriteAll(int fd, const void* from, size_t size) {
  const auto* at = static_cast<const uint8_t*>(from);
  while (size > 0) {
    const ssize_t n = send(fd, at, size, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return SystemError(errno, "send");
    at += n;
    size -= static_cast<size_t>(n);
  }
  return absl::OkStatus();
}

}  // namespace argosy::nested
