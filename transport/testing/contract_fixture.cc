// SPDX-License-Identifier: Apache-2.0
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "transport/error.h"
#include "transport/testing/contract_tests.h"

namespace argosy {

void ContractTest::SetUp() {
  absl::StatusOr<ContractEnds> ends = GetParam().open();
  ASSERT_TRUE(ends.ok()) << ends.status();
  ends_ = *std::move(ends);
  const absl::StatusOr<uint32_t> cid = server().LocalCid();
  ASSERT_TRUE(cid.ok()) << cid.status();
  server_cid_ = *cid;
}

void ContractTest::TearDown() {
  ends_.client.reset();
  ends_.server.reset();
  ends_.world.reset();
}

std::vector<SocketType> ContractTest::Types() {
  std::vector<SocketType> types = {SocketType::kStream};
  if (server().capabilities().seqpacket && client().capabilities().seqpacket) {
    types.push_back(SocketType::kSeqpacket);
  }
  return types;
}

bool ContractTest::Has(Capability capability) { return client().capabilities().*capability; }

std::unique_ptr<Listener> ContractTest::Listen(SocketType type, uint32_t port, int backlog) {
  absl::StatusOr<std::unique_ptr<Listener>> listener =
      server().Listen(port, type, {.backlog = backlog});
  EXPECT_TRUE(listener.ok()) << listener.status();
  return listener.ok() ? *std::move(listener) : nullptr;
}

absl::StatusOr<Socket> ContractTest::Connect(uint32_t port, SocketType type) {
  return ConnectBlocking(client(), {server_cid(), port}, type);
}

absl::Status ContractTest::ConnectFrom(uint32_t local_port, uint32_t port) {
  absl::StatusOr<std::unique_ptr<Connecting>> connecting =
      client().Connect({server_cid(), port}, SocketType::kStream, {.local_port = local_port});
  if (!connecting.ok()) return connecting.status();
  for (;;) {
    const absl::Status status = (*connecting)->Complete().status();
    if (ErrnoOf(status) != EAGAIN) return status;
    pollfd p = {(*connecting)->fd(), (*connecting)->events(), 0};
    if (poll(&p, 1, 60'000) != 1) return ErrnoError(ETIMEDOUT, "it never becomes ready");
  }
}

ContractTest::Connection ContractTest::Connected(SocketType type) {
  const std::unique_ptr<Listener> listener = Listen(type);
  absl::StatusOr<Socket> client = Connect(listener->local().port, type);
  EXPECT_TRUE(client.ok()) << client.status();
  absl::StatusOr<Socket> server = AcceptBlocking(*listener, Far());
  EXPECT_TRUE(server.ok()) << server.status();
  // Without a connection nothing below makes sense: value() ends the test program with the reason.
  return {*std::move(client), *std::move(server)};
}

absl::Time Far() { return absl::Now() + absl::Seconds(60); }

uint8_t PatternAt(uint64_t i) { return static_cast<uint8_t>((i * 2654435761u) >> 13); }

std::vector<uint8_t> Pattern(size_t size, uint64_t first) {
  std::vector<uint8_t> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = PatternAt(first + i);
  return bytes;
}

bool SendAll(int fd, const void* bytes, size_t size) {
  const char* at = static_cast<const char*>(bytes);
  while (size > 0) {
    const ssize_t n = send(fd, at, size, MSG_NOSIGNAL);
    if (n < 0) {
      ADD_FAILURE() << "send: " << strerror(errno);
      return false;
    }
    at += n;
    size -= n;
  }
  return true;
}

std::vector<uint8_t> ReadToEnd(int fd) {
  std::vector<uint8_t> all;
  std::vector<uint8_t> buffer(256 * 1024);
  for (;;) {
    const ssize_t n = read(fd, buffer.data(), buffer.size());
    if (n < 0) ADD_FAILURE() << "read: " << strerror(errno);
    if (n <= 0) return all;
    all.insert(all.end(), buffer.begin(), buffer.begin() + n);
  }
}

std::string ReadSome(int fd) {
  char buffer[256];
  const ssize_t n = read(fd, buffer, sizeof(buffer));
  if (n < 0) return absl::StrCat("errno ", errno);
  return std::string(buffer, n);
}

}  // namespace argosy
