/* SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause */
#include "backends/argo/core/link.h"

ARGO_ASSERT_SIZE(argo_link_greeting, 40);
ARGO_ASSERT_AT(argo_link_greeting, version_min, 0);
ARGO_ASSERT_AT(argo_link_greeting, version_max, 2);
ARGO_ASSERT_AT(argo_link_greeting, features, 4);
ARGO_ASSERT_AT(argo_link_greeting, max_payload, 8);
ARGO_ASSERT_AT(argo_link_greeting, reserved, 12);
ARGO_ASSERT_AT(argo_link_greeting, incarnation, 16);
ARGO_ASSERT_AT(argo_link_greeting, heard, 24);
ARGO_ASSERT_AT(argo_link_greeting, reserved2, 32);

static int has_ring(const struct argo_peer* peer) { return peer->state >= ARGO_PEER_GREETING; }

static int has_session(const struct argo_peer* peer) { return peer->state >= ARGO_PEER_READY; }

static struct argo_peer* find_peer(const struct argo_link* link, uint16_t domid) {
  uint32_t i;

  for (i = 0; i < link->used; i++) {
    struct argo_peer* peer = &link->peers[i];

    if (peer->state != ARGO_PEER_ABSENT && peer->domid == domid) return peer;
  }
  return NULL;
}

/* ---- the end of a session ---- */

static void forget_session(struct argo_peer* peer) {
  peer->state = ARGO_PEER_UNKNOWN;
  peer->greet_again = 0;
  peer->met = 0;
  peer->ask = 0;
  peer->doomed = 0;
  peer->more = 0;
  peer->features = 0;
  peer->max_payload = 0;
  peer->incarnation = 0;
  peer->heard = 0;
  peer->told = 0;
  peer->retry_at_ms = 0;
  peer->queue_head = 0;
  peer->queue_count = 0;
}

static void* pop(struct argo_peer* peer) {
  void* cookie = peer->queue[peer->queue_head];

  peer->queue_head = (peer->queue_head + 1) % ARGO_LINK_QUEUE;
  peer->queue_count--;
  return cookie;
}

static void end_session(struct argo_link* link, struct argo_peer* peer) {
  if (has_ring(peer)) link->ops->ring_close(link->ctx, peer->domid, &peer->ring);
  while (peer->queue_count > 0) link->ops->done(link->ctx, pop(peer), -ARGO_ECONNRESET);
  forget_session(peer);
}

static void lose_now(struct argo_link* link, struct argo_peer* peer, uint64_t now_ms) {
  const int had_session = has_session(peer);

  end_session(link, peer);
  peer->probe_at_ms = now_ms + ARGO_LINK_RETRY_MS;
  if (!had_session) return;
  peer->count.lost++;
  link->ops->peer_lost(link->ctx, peer->domid);
}

static void lose(struct argo_link* link, struct argo_peer* peer, uint64_t now_ms) {
  if (!has_ring(peer)) return;
  if (!link->in_callback) {
    lose_now(link, peer, now_ms);
    return;
  }
  peer->doomed = 1;
  link->doomed = 1;
}

static void enter_callback(struct argo_link* link) { link->in_callback = 1; }

static void leave_callback(struct argo_link* link, uint64_t now_ms) {
  uint32_t i;

  link->in_callback = 0;
  if (!link->doomed) return;
  link->doomed = 0;
  for (i = 0; i < link->used; i++) {
    struct argo_peer* peer = &link->peers[i];

    if (has_ring(peer) && peer->doomed) lose_now(link, peer, now_ms);
  }
}

/* ---- greetings ---- */

/* Whether Xen would put our message into the ring that the partner keeps for us. */
static int own_ring_exists(uint16_t flags) {
  return (flags & ARGO_RING_EXISTS) != 0 && (flags & ARGO_RING_SHARED) == 0;
}

static void become_ready_if_agreed(struct argo_link* link, struct argo_peer* peer,
                                   uint64_t now_ms) {
  if (peer->state != ARGO_PEER_GREETING) return;
  if (peer->heard == 0 || !peer->met || peer->told != peer->heard) return;
  peer->state = ARGO_PEER_READY;
  peer->greet_again = 0;
  peer->retry_at_ms = 0;
  enter_callback(link);
  link->ops->peer_ready(link->ctx, peer->domid);
  leave_callback(link, now_ms);
}

static uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* The largest payload that fits into our own ring: one slot stays free, the headers take theirs. */
static uint32_t own_max_payload(const struct argo_peer* peer) {
  const uint32_t overhead = ARGO_SLOT_SIZE + ARGO_MESSAGE_HEADER_SIZE + ARGO_LINK_PACKET_HEADER;

  if (peer->ring.len < overhead) return 0;
  return smaller(peer->ring.len - overhead, ARGO_LINK_MAX_PAYLOAD);
}

/* Sends our greeting if the partner's ring takes it.  Where it does not the timer tries again: a
 * ring that is not there yet is the normal state before the partner has started. */
static void greet(struct argo_link* link, struct argo_peer* peer, uint64_t now_ms) {
  const struct argo_link_greeting greeting = {
      .version_min = ARGO_LINK_VERSION,
      .version_max = ARGO_LINK_VERSION,
      .features = link->features,
      .max_payload = own_max_payload(peer),
      .incarnation = peer->incarnation,
      .heard = peer->heard,
  };
  const struct argo_iov iov = {.base = (uint64_t)(uintptr_t)&greeting, .len = sizeof(greeting)};
  struct argo_ring_data_ent entry = {.ring = {.port = ARGO_LINK_PORT, .domid = peer->domid}};
  int ret;

  peer->greet_again = 0;
  if (link->ops->notify(link->ctx, &entry, 1) < 0) return;
  if ((entry.flags & ARGO_RING_EXISTS) == 0) return;
  if ((entry.flags & ARGO_RING_SHARED) != 0 && (entry.flags & ARGO_RING_EMPTY) == 0) return;

  ret = link->ops->sendv(link->ctx, peer->domid, ARGO_LINK_TYPE_GREETING, &iov, 1);
  if (ret >= 0) {
    peer->told = peer->heard;
    become_ready_if_agreed(link, peer, now_ms);
    return;
  }
  if (!own_ring_exists(entry.flags)) {
    /* Somebody was faster on the wildcard ring, and Xen has put us on its list of those who wait: a
     * domain that dies there takes Xen with it (docs/simulator.md).  To ask for nothing ends it. */
    if (ret == -ARGO_EAGAIN) link->ops->notify(link->ctx, &entry, 1);
    return;
  }
  if (peer->state != ARGO_PEER_GREETING) return;
  if (ret == -ARGO_EAGAIN) {
    peer->count.full++;
    peer->greet_again = 1;
  } else if (ret == -ARGO_EBUSY || ret == -ARGO_ENOMEM) {
    peer->count.busy++;
    peer->greet_again = 1;
    peer->retry_at_ms = now_ms + ARGO_LINK_RETRY_MS;
  }
}

static void open_ring(struct argo_link* link, struct argo_peer* peer, uint64_t now_ms) {
  peer->probe_at_ms = now_ms + ARGO_LINK_PROBE_MS;
  if (link->ops->ring_open(link->ctx, peer->domid, &peer->ring) != 0) return;
  peer->incarnation = link->ops->random(link->ctx);
  peer->state = ARGO_PEER_GREETING;
  greet(link, peer, now_ms);
}

/* Copies the message's first bytes out of the ring, so that they are read once. */
static void copy_out(void* to, const struct argo_ring_message* message, uint32_t len) {
  const uint32_t first = message->seg[0].len < len ? message->seg[0].len : len;

  __builtin_memcpy(to, message->seg[0].data, first);
  __builtin_memcpy((uint8_t*)to + first, message->seg[1].data, len - first);
}

static void hear_greeting(struct argo_link* link, struct argo_peer* peer,
                          const struct argo_ring_message* message, uint64_t now_ms) {
  struct argo_link_greeting greeting;
  int news;

  if (message->len != sizeof(greeting)) {
    peer->count.drop_length++;
    return;
  }
  copy_out(&greeting, message, sizeof(greeting));
  if (greeting.version_min > ARGO_LINK_VERSION || greeting.version_max < ARGO_LINK_VERSION ||
      greeting.incarnation == 0 || greeting.max_payload < ARGO_LINK_MIN_PAYLOAD) {
    peer->count.drop_version++;
    return;
  }
  news = greeting.incarnation != peer->heard;
  if (has_session(peer)) {
    if (news) {
      lose(link, peer, now_ms);
      return;
    }
    if (greeting.heard != peer->incarnation) greet(link, peer, now_ms);
    return;
  }
  peer->heard = greeting.incarnation;
  peer->met = greeting.heard == peer->incarnation;
  peer->features = link->features & greeting.features;
  peer->max_payload = smaller(greeting.max_payload, ARGO_LINK_MAX_PAYLOAD);
  if (news || !peer->met) {
    greet(link, peer, now_ms);
  } else {
    become_ready_if_agreed(link, peer, now_ms);
  }
}

/* ---- sending ---- */

static int is_gone(int ret) { return ret == -ARGO_ECONNREFUSED || ret == -ARGO_ESRCH; }

static int is_full(int ret) {
  return ret == -ARGO_EAGAIN || ret == -ARGO_EBUSY || ret == -ARGO_ENOMEM;
}

/* One sendv, counted.  After is_full() somebody will look at the peer again: Xen after EAGAIN, our
 * timer after the two others. */
static int transmit(struct argo_link* link, struct argo_peer* peer, const struct argo_iov* iov,
                    uint32_t niov, uint64_t now_ms) {
  const int ret = link->ops->sendv(link->ctx, peer->domid, ARGO_LINK_TYPE_PACKET, iov, niov);

  if (ret >= 0) {
    peer->count.tx_messages++;
    peer->count.tx_bytes += (uint32_t)ret;
  } else if (ret == -ARGO_EAGAIN) {
    peer->count.full++;
  } else if (is_full(ret)) {
    peer->count.busy++;
    peer->retry_at_ms = now_ms + ARGO_LINK_RETRY_MS;
  }
  return ret;
}

static uint64_t total_len(const struct argo_iov* iov, uint32_t niov) {
  uint64_t len = 0;
  uint32_t i;

  for (i = 0; i < niov; i++) len += iov[i].len;
  return len;
}

static int enqueue(struct argo_peer* peer, enum argo_send_class send_class, void* cookie) {
  const uint32_t places =
      send_class == ARGO_SEND_REPLY ? ARGO_LINK_QUEUE : ARGO_LINK_QUEUE - ARGO_LINK_REPLIES;

  if (peer->queue_count >= places) {
    peer->count.queue_refused++;
    return -ARGO_ENOBUFS;
  }
  peer->queue[(peer->queue_head + peer->queue_count) % ARGO_LINK_QUEUE] = cookie;
  peer->queue_count++;
  peer->count.queued++;
  if (peer->state == ARGO_PEER_READY) peer->count.blocked++;
  peer->state = ARGO_PEER_BLOCKED;
  return 1;
}

int argo_link_send(struct argo_link* link, uint16_t dst, enum argo_send_class send_class,
                   const struct argo_iov* iov, uint32_t niov, void* cookie, uint64_t now_ms) {
  struct argo_peer* peer = find_peer(link, dst);
  uint64_t len;

  if (!peer || !has_session(peer) || peer->doomed) return -ARGO_ENODEV;
  if (niov > ARGO_MAX_IOV) return -ARGO_EINVAL;
  len = total_len(iov, niov);
  if (len < ARGO_LINK_PACKET_HEADER) return -ARGO_EINVAL;
  if (len > ARGO_LINK_PACKET_HEADER + peer->max_payload) return -ARGO_EMSGSIZE;

  if (peer->state == ARGO_PEER_READY) {
    const int ret = transmit(link, peer, iov, niov, now_ms);

    if (ret >= 0) return 0;
    if (is_gone(ret)) {
      lose(link, peer, now_ms);
      return -ARGO_ECONNRESET;
    }
    if (!is_full(ret)) return ret;
  }
  return enqueue(peer, send_class, cookie);
}

/* Sends what waits, until the partner's ring is full again. */
static void flush(struct argo_link* link, struct argo_peer* peer, uint64_t now_ms) {
  while (peer->queue_count > 0) {
    void* cookie = peer->queue[peer->queue_head];
    struct argo_iov iov[ARGO_MAX_IOV];
    const uint32_t niov = link->ops->describe(link->ctx, cookie, iov);
    const int ret = transmit(link, peer, iov, niov, now_ms);

    if (is_full(ret)) return;
    if (is_gone(ret)) {
      lose(link, peer, now_ms);
      return;
    }
    pop(peer);
    link->ops->done(link->ctx, cookie, ret < 0 ? ret : 0);
  }
  peer->state = ARGO_PEER_READY;
  peer->count.wakes++;
  peer->retry_at_ms = 0;
  enter_callback(link);
  link->ops->writable(link->ctx, peer->domid);
  leave_callback(link, now_ms);
}

/* ---- asking Xen about the partners' rings ---- */

static void hear_ring_data(struct argo_link* link, struct argo_peer* peer, uint16_t flags,
                           uint64_t now_ms) {
  if (!has_ring(peer)) return; /* lost while an earlier answer of this batch was looked at */
  if (peer->state == ARGO_PEER_GREETING) {
    if ((flags & ARGO_RING_SUFFICIENT) != 0) {
      greet(link, peer, now_ms);
    } else if ((flags & ARGO_RING_EBUSY) != 0) {
      peer->count.busy++;
      peer->retry_at_ms = now_ms + ARGO_LINK_RETRY_MS;
    }
    return;
  }
  if (!own_ring_exists(flags)) {
    lose(link, peer, now_ms);
    return;
  }
  if (peer->state != ARGO_PEER_BLOCKED) return;
  if ((flags & (ARGO_RING_SUFFICIENT | ARGO_RING_EMSGSIZE)) != 0) {
    flush(link, peer, now_ms); /* EMSGSIZE: sendv says so too, and the packet is dropped */
  } else if ((flags & ARGO_RING_EBUSY) != 0) {
    peer->count.busy++;
    peer->retry_at_ms = now_ms + ARGO_LINK_RETRY_MS;
  }
}

/* What must fit before it is worth to send again: 0 asks only whether the ring exists. */
static uint32_t space_wanted(struct argo_link* link, struct argo_peer* peer) {
  struct argo_iov iov[ARGO_MAX_IOV];
  uint32_t niov;

  if (peer->state == ARGO_PEER_GREETING) return sizeof(struct argo_link_greeting);
  if (peer->state != ARGO_PEER_BLOCKED) return 0;
  niov = link->ops->describe(link->ctx, peer->queue[peer->queue_head], iov);
  return (uint32_t)total_len(iov, niov);
}

/* Asks about every peer that is marked.  Returns whether some notify was made, which has also woken
 * those who wait for our own rings. */
static int ask(struct argo_link* link, uint64_t now_ms) {
  uint32_t at = 0;
  int notified = 0;

  while (at < link->used) {
    uint32_t n = 0, k;
    int ret;

    for (; at < link->used && n < ARGO_MAX_NOTIFY_ENTRIES; at++) {
      struct argo_peer* peer = &link->peers[at];
      const struct argo_ring_data_ent blank = {
          .ring = {.port = ARGO_LINK_PORT, .domid = peer->domid}};

      if (!has_ring(peer) || !peer->ask) continue;
      peer->ask = 0;
      link->entries[n] = blank;
      link->entries[n].space_required = space_wanted(link, peer);
      link->asked[n] = at;
      n++;
    }
    if (n == 0) break;
    ret = link->ops->notify(link->ctx, link->entries, n);
    if (ret >= 0) notified = 1;
    for (k = 0; k < n; k++) {
      struct argo_peer* peer = &link->peers[link->asked[k]];

      if (ret >= 0) {
        hear_ring_data(link, peer, link->entries[k].flags, now_ms);
      } else if (peer->greet_again || peer->state == ARGO_PEER_BLOCKED) {
        peer->retry_at_ms = now_ms + ARGO_LINK_RETRY_MS;
      }
    }
  }
  return notified;
}

/* ---- receiving ---- */

static void receive(struct argo_link* link, struct argo_peer* peer,
                    const struct argo_ring_message* message, uint64_t now_ms) {
  if (message->src.domid != peer->domid || message->src.port != ARGO_LINK_PORT) {
    peer->count.drop_source++;
  } else if (message->type == ARGO_LINK_TYPE_GREETING) {
    hear_greeting(link, peer, message, now_ms);
  } else if (message->type != ARGO_LINK_TYPE_PACKET) {
    peer->count.drop_type++;
  } else if (message->len < ARGO_LINK_PACKET_HEADER || message->len > ARGO_LINK_MAX_MESSAGE) {
    peer->count.drop_length++;
  } else if (!has_session(peer)) {
    peer->count.drop_not_ready++;
  } else {
    peer->count.rx_messages++;
    peer->count.rx_bytes += message->len;
    enter_callback(link);
    link->ops->deliver(link->ctx, peer->domid, message);
    leave_callback(link, now_ms);
  }
}

/* Whether Xen may have refused a message while the one that was just released still lay in the ring.
 * Then its sender waits for our notify; else nobody does, and a hypercall is saved. */
static int may_have_refused(const struct argo_ring_reader* reader, uint32_t released) {
  const uint32_t largest = ARGO_MESSAGE_HEADER_SIZE + argo_slots(ARGO_LINK_MAX_MESSAGE);

  return argo_ring_used(reader) + released + largest >= reader->len;
}

/* Reads one ring within its budget.  Returns the bytes freed, since the last notify, that somebody
 * may wait for. */
static uint32_t drain(struct argo_link* link, struct argo_peer* peer, uint64_t now_ms) {
  const uint64_t session = peer->incarnation;
  const uint32_t quarter = peer->ring.len / 4;
  uint32_t taken = 0, freed = 0;

  peer->more = 0;
  for (;;) {
    struct argo_ring_message message;
    const int ret = argo_ring_peek(&peer->ring, &message);
    uint32_t bytes;

    if (ret == 0) break;
    if (ret < 0) {
      /* Packets are missing: going on would cut holes into streams. */
      peer->count.drop_corrupt++;
      lose(link, peer, now_ms);
      break;
    }
    if (taken >= ARGO_LINK_BUDGET) {
      peer->more = 1;
      break;
    }
    receive(link, peer, &message, now_ms);
    if (peer->incarnation != session) break; /* the ring is closed */
    argo_ring_release(&peer->ring, &message);
    bytes = ARGO_MESSAGE_HEADER_SIZE + argo_slots(message.len);
    taken += bytes;
    if (freed > 0 || may_have_refused(&peer->ring, bytes)) freed += bytes;
    if (freed >= quarter) {
      link->ops->notify(link->ctx, NULL, 0);
      freed = 0;
    }
  }
  return freed;
}

int argo_link_interrupt(struct argo_link* link, uint64_t now_ms) {
  int freed = 0, more = 0;
  uint32_t i;

  for (i = 0; i < link->used; i++) {
    struct argo_peer* peer = &link->peers[i];

    if (!has_ring(peer)) continue;
    if (drain(link, peer, now_ms) > 0) freed = 1;
  }
  /* VIRQ_ARGO names no ring: any that we wait for may have room now. */
  for (i = 0; i < link->used; i++) {
    struct argo_peer* peer = &link->peers[i];

    if (!has_ring(peer)) continue;
    if (peer->greet_again || peer->state == ARGO_PEER_BLOCKED) peer->ask = 1;
    if (peer->more) more = 1;
  }
  if (!ask(link, now_ms) && freed) link->ops->notify(link->ctx, NULL, 0);
  return more;
}

/* ---- time ---- */

/* Returns what drain() does. */
static uint32_t probe(struct argo_link* link, struct argo_peer* peer, uint64_t now_ms) {
  uint32_t freed;

  peer->count.probes++;
  peer->probe_at_ms = now_ms + ARGO_LINK_PROBE_MS;
  if (!link->ops->ring_alive(link->ctx, peer->domid, &peer->ring)) {
    lose(link, peer, now_ms);
    return 0;
  }
  freed = drain(link, peer, now_ms);
  if (!has_ring(peer)) return freed;
  if (peer->more) peer->probe_at_ms = now_ms;
  if (peer->state == ARGO_PEER_GREETING) {
    greet(link, peer, now_ms);
  } else {
    peer->ask = 1;
  }
  return freed;
}

uint64_t argo_link_timer(struct argo_link* link, uint64_t now_ms) {
  int freed = 0;
  uint32_t i;

  for (i = 0; i < link->used; i++) {
    struct argo_peer* peer = &link->peers[i];

    if (peer->state == ARGO_PEER_ABSENT) continue;
    if (peer->retry_at_ms != 0 && peer->retry_at_ms <= now_ms) {
      peer->retry_at_ms = 0;
      peer->ask = 1;
    }
    if (peer->probe_at_ms > now_ms) continue;
    if (!has_ring(peer)) {
      open_ring(link, peer, now_ms);
    } else if (probe(link, peer, now_ms) > 0) {
      freed = 1;
    }
  }
  if (!ask(link, now_ms) && freed) link->ops->notify(link->ctx, NULL, 0);
  return argo_link_due_ms(link);
}

uint64_t argo_link_due_ms(const struct argo_link* link) {
  uint64_t due = ~(uint64_t)0;
  uint32_t i;

  for (i = 0; i < link->used; i++) {
    const struct argo_peer* peer = &link->peers[i];

    if (peer->state == ARGO_PEER_ABSENT) continue;
    if (peer->probe_at_ms < due) due = peer->probe_at_ms;
    if (peer->retry_at_ms != 0 && peer->retry_at_ms < due) due = peer->retry_at_ms;
  }
  return due;
}

/* ---- partners come and go ---- */

void argo_link_init(struct argo_link* link, const struct argo_link_ops* ops, void* ctx,
                    uint16_t own_domid, struct argo_peer* peers, uint32_t max_peers) {
  uint32_t i;

  link->ops = ops;
  link->ctx = ctx;
  link->own_domid = own_domid;
  link->features = 0;
  link->peers = peers;
  link->max_peers = max_peers;
  link->used = 0;
  link->in_callback = 0;
  link->doomed = 0;
  for (i = 0; i < max_peers; i++) peers[i].state = ARGO_PEER_ABSENT;
}

void argo_link_fini(struct argo_link* link) {
  uint32_t i;

  for (i = 0; i < link->used; i++) {
    struct argo_peer* peer = &link->peers[i];

    if (peer->state == ARGO_PEER_ABSENT) continue;
    end_session(link, peer);
    peer->state = ARGO_PEER_ABSENT;
  }
}

int argo_link_add_peer(struct argo_link* link, uint16_t domid, uint64_t now_ms) {
  const struct argo_peer_counters zero = {0};
  uint32_t i;

  if (domid >= ARGO_DOMID_SELF) return -ARGO_EINVAL;
  if (find_peer(link, domid)) return -ARGO_EEXIST;
  for (i = 0; i < link->max_peers; i++) {
    struct argo_peer* peer = &link->peers[i];

    if (peer->state != ARGO_PEER_ABSENT) continue;
    if (i >= link->used) link->used = i + 1;
    forget_session(peer);
    peer->domid = domid;
    peer->count = zero;
    open_ring(link, peer, now_ms);
    return 0;
  }
  return -ARGO_ENOSPC;
}

int argo_link_remove_peer(struct argo_link* link, uint16_t domid) {
  struct argo_peer* peer = find_peer(link, domid);

  if (!peer) return -ARGO_ENODEV;
  lose(link, peer, 0);
  peer->state = ARGO_PEER_ABSENT;
  return 0;
}

int argo_link_peer_gone(struct argo_link* link, uint16_t domid, uint64_t now_ms) {
  struct argo_peer* peer = find_peer(link, domid);

  if (!peer) return -ARGO_ENODEV;
  lose(link, peer, now_ms);
  return 0;
}

const struct argo_peer* argo_link_peer(const struct argo_link* link, uint16_t domid) {
  return find_peer(link, domid);
}
