// SPDX-License-Identifier: Apache-2.0
#include <cstddef>

#include "transport/packet/link.h"
#include "transport/packet/wire.h"

namespace argosy::packet {
namespace {

static_assert(sizeof(vsock_header) == VSOCK_HEADER_SIZE);
static_assert(offsetof(vsock_header, src_cid) == 0);
static_assert(offsetof(vsock_header, dst_cid) == 8);
static_assert(offsetof(vsock_header, src_port) == 16);
static_assert(offsetof(vsock_header, dst_port) == 20);
static_assert(offsetof(vsock_header, len) == 24);
static_assert(offsetof(vsock_header, type) == 28);
static_assert(offsetof(vsock_header, op) == 30);
static_assert(offsetof(vsock_header, flags) == 32);
static_assert(offsetof(vsock_header, buf_alloc) == 36);
static_assert(offsetof(vsock_header, fwd_cnt) == 40);

// Little endian, whatever the machine and the alignment.
template <typename T>
T Load(const uint8_t* from) {
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) value |= static_cast<T>(T{from[i]} << (8 * i));
  return value;
}

template <typename T>
void Store(uint8_t* to, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) to[i] = static_cast<uint8_t>(value >> (8 * i));
}

}  // namespace

bool ParseHeader(absl::Span<const uint8_t> bytes, size_t total_size, Header* header) {
  if (bytes.size() < VSOCK_HEADER_SIZE || total_size < VSOCK_HEADER_SIZE) return false;
  const uint8_t* p = bytes.data();
  header->src_cid = Load<uint64_t>(p + offsetof(vsock_header, src_cid));
  header->dst_cid = Load<uint64_t>(p + offsetof(vsock_header, dst_cid));
  header->src_port = Load<uint32_t>(p + offsetof(vsock_header, src_port));
  header->dst_port = Load<uint32_t>(p + offsetof(vsock_header, dst_port));
  header->len = Load<uint32_t>(p + offsetof(vsock_header, len));
  header->type = Load<uint16_t>(p + offsetof(vsock_header, type));
  header->op = Load<uint16_t>(p + offsetof(vsock_header, op));
  header->flags = Load<uint32_t>(p + offsetof(vsock_header, flags));
  header->buf_alloc = Load<uint32_t>(p + offsetof(vsock_header, buf_alloc));
  header->fwd_cnt = Load<uint32_t>(p + offsetof(vsock_header, fwd_cnt));
  return header->len <= VSOCK_MAX_PAYLOAD && header->len == total_size - VSOCK_HEADER_SIZE;
}

std::array<uint8_t, VSOCK_HEADER_SIZE> SerializeHeader(const Header& header) {
  std::array<uint8_t, VSOCK_HEADER_SIZE> bytes;
  uint8_t* p = bytes.data();
  Store(p + offsetof(vsock_header, src_cid), header.src_cid);
  Store(p + offsetof(vsock_header, dst_cid), header.dst_cid);
  Store(p + offsetof(vsock_header, src_port), header.src_port);
  Store(p + offsetof(vsock_header, dst_port), header.dst_port);
  Store(p + offsetof(vsock_header, len), header.len);
  Store(p + offsetof(vsock_header, type), header.type);
  Store(p + offsetof(vsock_header, op), header.op);
  Store(p + offsetof(vsock_header, flags), header.flags);
  Store(p + offsetof(vsock_header, buf_alloc), header.buf_alloc);
  Store(p + offsetof(vsock_header, fwd_cnt), header.fwd_cnt);
  return bytes;
}

}  // namespace argosy::packet
