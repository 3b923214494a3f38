// SPDX-License-Identifier: Apache-2.0
// File: transport/packet/connection.h
//
// One connection, as a pure state machine: packets, the program's wishes and the time come in; packets and calls to its
// ConnectionUser go out.  No descriptor, clock, thread or unbounded memory inside.
//
// Short primer of the protocol (virtio 1.3, 5.10.6, and what Linux does):
//
//   Establish   client REQUEST -> server RESPONSE, or RST (nobody listens, backlog full, other type).  No answer within 2 s:
//               ETIMEDOUT.
//   Data        RW packets.  SEQPACKET marks a message's last packet with EOM (and EOR if the program said so).
//   Credit      Every packet tells buf_alloc (the sender's receive buffer) and fwd_cnt (bytes its reader has taken so far).
//               A side may have at most peer_buf_alloc - (tx_cnt - peer_fwd_cnt) more bytes under way.  All counters wrap at
//               2^32.  A receiver sends CREDIT_UPDATE when a quarter of its buffer, or kMaxPacketsInFlight / 4 packets, were
//               taken since it last told; a sender that is stuck asks with CREDIT_REQUEST.
//   Half-close  SHUTDOWN(SEND): no more data from me; all earlier data is still delivered before end-of-file.
//               SHUTDOWN(RCV): I read no more; the peer's writes fail.
//   Close       SHUTDOWN(SEND|RCV), answered by RST once the other side has delivered what it holds; after 8 s without
//               an answer the closer sends RST itself.  So an RST behind SHUTDOWN is an acknowledgement, and an RST without
//               one is an error: a reset is never an end-of-file.
//   Lost data   At the end tx_cnt == peer_fwd_cnt says that the peer took everything; if not, the end is kReset.
#ifndef ARGOSY_TRANSPORT_PACKET_CONNECTION_H_
#define ARGOSY_TRANSPORT_PACKET_CONNECTION_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "absl/time/time.h"
#include "transport/address.h"
#include "transport/packet/limits.h"
#include "transport/packet/link.h"

namespace argosy::packet {

class Connection;
class Endpoint;

// How a connection ended.
enum class End {
  kClean,        // both directions ended, nothing was lost
  kReset,        // RST from the peer, data that the peer never took, or a breach of the protocol by the peer
  kRefused,      // RST in answer to REQUEST
  kTimedOut,     // no answer to REQUEST
  kCarrierLost,  // the peer's session ended: domain killed or restarted
  kLocal,        // Connection::Reset() by this side's program
};

// The program's side of a connection.  Calls come from inside Endpoint calls; it may call the connection back, except
// that a connection is gone after OnEnded().
class ConnectionUser {
 public:
  virtual ~ConnectionUser() = default;
  // The RESPONSE came (client side only).
  virtual void OnConnected(Connection& connection) = 0;
  // STREAM: bytes in order; returns how many it took (0 to data.size()).  The connection keeps the rest and offers it again
  // in Drain().
  virtual size_t OnData(Connection& connection, const Payload& data) = 0;
  // SEQPACKET: one whole message, taken (true) or kept by the connection for Drain() (false).
  virtual bool OnMessage(Connection& connection, const Payload& message, bool end_of_record) = 0;
  // SendCapacity() was 0 or CanSendMessage() false, and may be better now.
  virtual void OnCanSend(Connection& connection) = 0;
  // End-of-file: the peer sends no more and everything was taken.  At most once.
  virtual void OnPeerFinished(Connection& connection) = 0;
  // The peer reads no more: sending is of no use.  At most once.
  virtual void OnPeerStoppedReading(Connection& connection) = 0;
  // The last call.  Without an OnPeerFinished() before it, what was received is no complete stream.
  virtual void OnEnded(Connection& connection, End end) = 0;
};

class Connection {
 public:
  enum class State {
    kConnecting,  // REQUEST is out, or waits for the carrier
    kConnected,
    kClosing,   // SHUTDOWN(SEND|RCV) is out; waits for RST
    kDraining,  // the peer is through with it (RST behind SHUTDOWN); what was received is still to be taken
  };

  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  State state() const { return state_; }
  Address local() const { return local_; }
  Address peer() const { return peer_; }
  // VSOCK_TYPE_STREAM or VSOCK_TYPE_SEQPACKET.
  uint16_t type() const { return type_; }
  ConnectionUser* user() const { return user_; }

  // ---- sending ----

  // Bytes that Send() takes now, at most VSOCK_MAX_PAYLOAD; 0: wait for OnCanSend() (or sending has ended).
  size_t SendCapacity();
  // STREAM: sends data.size() <= SendCapacity() bytes.
  void Send(const Payload& data);

  // SEQPACKET: whether a message of `size` bytes can be sent now; false: wait for OnCanSend().  Never true above
  // MaxMessage().
  bool CanSendMessage(size_t size);
  // Largest message that the peer can take: its buffer.
  size_t MaxMessage() const { return peer_buf_alloc_; }
  // SEQPACKET: sends one message; CanSendMessage(message.size()) was true.
  void SendMessage(const Payload& message, bool end_of_record);

  // The program sends no more (end-of-file from it).  Idempotent.
  void FinishSending();

  // ---- receiving ----

  // The program can take data again: offers what was kept.
  void Drain();
  // The program reads no more.  What is kept or still comes is dropped and never counted as taken, so that the peer learns
  // of the loss.  Idempotent.
  void StopReading();

  // ---- ending ----

  // Sends RST; OnEnded(kLocal) is called before it returns.  The connection is gone then.
  void Reset();

  // Bytes held for the program.
  size_t buffered() const { return buffered_; }
  // Whether the peer has taken all that was sent, as far as it told.
  bool all_taken() const { return tx_cnt_ == peer_fwd_cnt_; }

 private:
  friend class Endpoint;
  // The engine's own part: see connection.cc.
  Connection(Endpoint& endpoint, Address local, Address peer, uint16_t type);

  // (helper fills in)
  Endpoint& endpoint_;
  const Address local_;
  const Address peer_;
  const uint16_t type_;
  State state_ = State::kConnecting;
  ConnectionUser* user_ = nullptr;
  uint32_t tx_cnt_ = 0;
  uint32_t peer_fwd_cnt_ = 0;
  uint32_t peer_buf_alloc_ = 0;
  size_t buffered_ = 0;
};

}  // namespace argosy::packet

#endif  // ARGOSY_TRANSPORT_PACKET_CONNECTION_H_
