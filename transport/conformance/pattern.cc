// SPDX-License-Identifier: Apache-2.0
#include "transport/conformance/pattern.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace argosy::conformance {
namespace {

constexpr uint64_t kOdd = 2654435761;  // close to 2^32 over the golden ratio

void Fill(uint8_t* at, uint64_t size, uint64_t first) {
  for (uint64_t i = 0; i < size; ++i) {
    // The multiplication alone would repeat after 2 MiB.
    const uint64_t x = first + i;
    at[i] = static_cast<uint8_t>(((x ^ (x >> 21) * kOdd) * kOdd) >> 13);
  }
}

}  // namespace

std::vector<uint8_t> Pattern::Bytes() const {
  std::vector<uint8_t> bytes(size);
  Fill(bytes.data(), size, first);
  return bytes;
}

uint64_t SendPattern(int fd, Pattern pattern, uint64_t chunk, int* error) {
  *error = 0;
  std::vector<uint8_t> buffer(std::min(chunk, pattern.size));
  uint64_t sent = 0;
  while (sent < pattern.size) {
    const uint64_t size = std::min<uint64_t>(buffer.size(), pattern.size - sent);
    Fill(buffer.data(), size, pattern.first + sent);
    for (uint64_t done = 0; done < size;) {
      const ssize_t n = send(fd, buffer.data() + done, size - done, MSG_NOSIGNAL);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) {
        *error = errno;
        return sent;
      }
      done += n;
      sent += n;
    }
  }
  return sent;
}

Received ReceivePattern(int fd, Pattern pattern, uint64_t chunk) {
  Received received;
  std::vector<uint8_t> buffer(chunk), expected(chunk);
  while (received.bytes < pattern.size) {
    const uint64_t size = std::min(chunk, pattern.size - received.bytes);
    const ssize_t n = recv(fd, buffer.data(), size, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) received.error = errno;
    if (n <= 0) break;
    Fill(expected.data(), n, pattern.first + received.bytes);
    if (received.matches && std::memcmp(buffer.data(), expected.data(), n) != 0) {
      received.matches = false;
      received.first_wrong =
          received.bytes +
          (std::mismatch(buffer.begin(), buffer.begin() + n, expected.begin()).first -
           buffer.begin());
    }
    received.bytes += n;
  }
  return received;
}

}  // namespace argosy::conformance
