/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
#include "backends/argo/core/ring.h"

/* Every word that the other side may write is loaded exactly once, by one of these. */
#define LOAD_ACQUIRE(word) __atomic_load_n(&(word), __ATOMIC_ACQUIRE)
#define LOAD_ONCE(word) __atomic_load_n(&(word), __ATOMIC_RELAXED)
#define STORE_RELEASE(word, value) __atomic_store_n(&(word), value, __ATOMIC_RELEASE)

static int is_position(uint32_t pointer, uint32_t ring_len) {
  return pointer < ring_len && pointer % ARGO_SLOT_SIZE == 0;
}

/* `step` is at most ring_len, and both are small enough never to wrap 32 bits. */
static uint32_t advance(uint32_t pointer, uint32_t step, uint32_t ring_len) {
  pointer += step;
  return pointer < ring_len ? pointer : pointer - ring_len;
}

/* ---- reading ---- */

int argo_ring_reader_init(struct argo_ring_reader* reader, void* memory, uint32_t len) {
  if (len < ARGO_MIN_RING_SIZE || len > ARGO_MAX_RING_SIZE || len % ARGO_SLOT_SIZE != 0) {
    return -ARGO_EINVAL;
  }
  reader->header = memory;
  reader->data = (const uint8_t*)memory + ARGO_RING_HEADER_SIZE;
  reader->len = len;
  reader->rx_ptr = LOAD_ONCE(reader->header->rx_ptr);
  if (!is_position(reader->rx_ptr, len)) {
    reader->rx_ptr = 0;
    STORE_RELEASE(reader->header->rx_ptr, 0);
  }
  return 0;
}

int argo_ring_peek(struct argo_ring_reader* reader, struct argo_ring_message* message) {
  const uint32_t rx = reader->rx_ptr;
  const uint32_t tx = LOAD_ACQUIRE(reader->header->tx_ptr);
  const struct argo_message_header* header;
  uint32_t available, whole, start, contiguous;

  if (LOAD_ONCE(reader->header->rx_ptr) != rx) return -ARGO_EPROTO;
  if (tx == rx) return 0;
  if (!is_position(tx, reader->len)) return -ARGO_EPROTO;
  available = tx > rx ? tx - rx : tx - rx + reader->len;

  header = (const struct argo_message_header*)(const void*)(reader->data + rx);
  whole = LOAD_ONCE(header->len);
  /* `available` is a multiple of the slot, so the padding lies within it, too. */
  if (whole < ARGO_MESSAGE_HEADER_SIZE || whole > available) return -ARGO_EPROTO;
  message->src.port = LOAD_ONCE(header->src.port);
  message->src.domid = LOAD_ONCE(header->src.domid);
  message->src.pad = 0;
  message->type = LOAD_ONCE(header->type);
  message->len = whole - ARGO_MESSAGE_HEADER_SIZE;

  start = advance(rx, ARGO_MESSAGE_HEADER_SIZE, reader->len);
  contiguous = reader->len - start;
  if (contiguous > message->len) contiguous = message->len;
  message->seg[0].data = reader->data + start;
  message->seg[0].len = contiguous;
  message->seg[1].data = reader->data;
  message->seg[1].len = message->len - contiguous;
  return 1;
}

void argo_ring_release(struct argo_ring_reader* reader, const struct argo_ring_message* message) {
  reader->rx_ptr =
      advance(reader->rx_ptr, ARGO_MESSAGE_HEADER_SIZE + argo_slots(message->len), reader->len);
  STORE_RELEASE(reader->header->rx_ptr, reader->rx_ptr);
}

uint32_t argo_ring_used(const struct argo_ring_reader* reader) {
  uint32_t tx;

  /* The store of rx_ptr before the load of tx_ptr. */
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  tx = LOAD_ACQUIRE(reader->header->tx_ptr);
  /* Nonsense is found by the next peek. */
  return tx >= reader->rx_ptr ? tx - reader->rx_ptr : tx - reader->rx_ptr + reader->len;
}

/* ---- filling ---- */

/* Xen's reading of whatever the owner wrote there. */
static uint32_t sane_rx(const struct argo_ring_writer* writer) {
  const uint32_t rx = argo_slots(LOAD_ACQUIRE(writer->header->rx_ptr));

  return rx < writer->len ? rx : 0;
}

/* Bytes from tx_ptr round to rx_ptr; the whole ring when they are equal, for that is empty. */
static uint32_t free_bytes(const struct argo_ring_writer* writer) {
  const uint32_t rx = sane_rx(writer);

  return rx > writer->tx_ptr ? rx - writer->tx_ptr : rx - writer->tx_ptr + writer->len;
}

void argo_ring_writer_init(struct argo_ring_writer* writer, void* memory, uint32_t len) {
  writer->header = memory;
  writer->data = (uint8_t*)memory + ARGO_RING_HEADER_SIZE;
  writer->len = len;
  writer->tx_ptr = LOAD_ONCE(writer->header->tx_ptr);
  if (!is_position(writer->tx_ptr, len)) {
    writer->tx_ptr = sane_rx(writer);
    STORE_RELEASE(writer->header->tx_ptr, writer->tx_ptr);
  }
}

uint32_t argo_ring_writer_space(const struct argo_ring_writer* writer) {
  const uint32_t bytes = free_bytes(writer);
  const uint32_t overhead = ARGO_MESSAGE_HEADER_SIZE + ARGO_SLOT_SIZE;

  return bytes > overhead ? bytes - overhead : 0;
}

int argo_ring_writer_admits(const struct argo_ring_writer* writer, uint32_t len) {
  uint32_t needed;

  if (len > ARGO_MAX_MESSAGE_SIZE) return -ARGO_EMSGSIZE;
  needed = ARGO_MESSAGE_HEADER_SIZE + argo_slots(len);
  if (needed >= writer->len) return -ARGO_EMSGSIZE;
  if (needed >= free_bytes(writer)) return -ARGO_EAGAIN;
  return 0;
}

int argo_ring_writer_insert(struct argo_ring_writer* writer, struct argo_addr src, uint32_t type,
                            const struct argo_iov* iov, uint32_t niov, uint32_t len) {
  const struct argo_message_header header = {
      .len = ARGO_MESSAGE_HEADER_SIZE + len,
      .src = {.port = src.port, .domid = src.domid},
      .type = type,
  };
  const int admitted = argo_ring_writer_admits(writer, len);
  uint32_t at = writer->tx_ptr;
  uint32_t i;

  if (admitted != 0) return admitted;
  __builtin_memcpy(writer->data + at, &header, sizeof(header));
  at = advance(at, sizeof(header), writer->len);
  for (i = 0; i < niov; i++) {
    const uint8_t* from = (const uint8_t*)(uintptr_t)iov[i].base;
    uint32_t contiguous = writer->len - at;

    if (iov[i].len == 0) continue;
    if (contiguous > iov[i].len) contiguous = iov[i].len;
    __builtin_memcpy(writer->data + at, from, contiguous);
    if (contiguous < iov[i].len) {
      __builtin_memcpy(writer->data, from + contiguous, iov[i].len - contiguous);
    }
    at = advance(at, iov[i].len, writer->len);
  }
  at = argo_slots(at);
  writer->tx_ptr = at < writer->len ? at : 0;
  STORE_RELEASE(writer->header->tx_ptr, writer->tx_ptr);
  return 0;
}
