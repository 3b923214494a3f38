// SPDX-License-Identifier: Apache-2.0
// File: transport/packet/connection.h
//
// One connection, as a pure state machine: packets, the program's wishes and the time come in;
// packets and calls to its ConnectionUser go out.  No descriptor, clock, thread or unbounded memory
// inside.
//
// Short primer of the protocol (virtio 1.3, 5.10.6, and what Linux does):
//
//   Establish   client REQUEST -> server RESPONSE, or RST (nobody listens, backlog full, other
//               type).  No answer within 2 s: ETIMEDOUT.
//   Data        RW packets.  SEQPACKET marks a message's last packet with EOM (and EOR if the
//               program said so).
//   Credit      Every packet tells buf_alloc (the sender's receive buffer) and fwd_cnt (bytes its
//               reader has taken so far).  A side may have at most
//               peer_buf_alloc - (tx_cnt - peer_fwd_cnt) more bytes under way.  All counters wrap
//               at 2^32.  A receiver sends CREDIT_UPDATE when a quarter of its buffer, or a quarter
//               of PacketLimit(), was taken since it last told, for each zero-length message, and
//               when all is taken behind the peer's SHUTDOWN(SEND).  A sender that is stuck asks
//               with CREDIT_REQUEST: at once if too little is under way for the peer to tell by
//               itself, else after kCreditRetry.  It is answered at once, and again when the buffer
//               is empty.
//   Half-close  SHUTDOWN(SEND): no more data from me; all earlier data is still delivered before
//               end-of-file.  SHUTDOWN(RCV): I read no more; the peer's writes fail.
//   Close       SHUTDOWN(SEND|RCV), when both directions are done and the peer took all, or when
//               the program left entirely.  Answered by RST once the other side has delivered what
//               it holds; after 8 s without an answer the closer sends RST itself.  So an RST
//               behind SHUTDOWN is an acknowledgement, and an RST without one is an error: a reset
//               is never an end-of-file.
//   Lost data   At the end tx_cnt == peer_fwd_cnt says that the peer took everything; if not, the
//               end is kReset.
#ifndef ARGOSY_TRANSPORT_PACKET_CONNECTION_H_
#define ARGOSY_TRANSPORT_PACKET_CONNECTION_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "transport/address.h"
#include "transport/packet/limits.h"
#include "transport/packet/link.h"
#include "transport/packet/packet_meter.h"

namespace argosy::packet {

class Connection;
class Endpoint;
struct PeerRecord;

// How a connection ended.
enum class End {
  kClean,        // both directions ended and the peer took all that was sent
  kReset,        // RST from the peer, data it never took, or its breach of the protocol
  kRefused,      // RST in answer to REQUEST
  kTimedOut,     // no answer to REQUEST
  kCarrierLost,  // the peer's session ended: domain killed or restarted
  kLocal,        // Connection::Reset() by this side's program
};

// The program's side of a connection.  Calls come from inside Endpoint calls; it may call the
// connection back, except that a connection is gone after OnEnded().
class ConnectionUser {
 public:
  virtual ~ConnectionUser() = default;
  // The RESPONSE came (client side only).
  virtual void OnConnected(Connection& connection) = 0;
  // STREAM: bytes in order; returns how many it took (0 to data.size()).  The connection keeps the
  // rest and offers it again in Drain().
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
    kAnswering,   // REQUEST is in; RequestUser has not decided
    kConnected,
    kClosing,   // SHUTDOWN(SEND|RCV) is out; waits for RST
    kDraining,  // the peer is through with it; what was received is still to be taken
  };

  // Made by Endpoint only.
  Connection(Endpoint& endpoint, PeerRecord& record, Address local, Address peer, uint16_t type);
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  State state() const { return state_; }
  Address local() const { return local_; }
  Address peer() const { return peer_; }
  // VSOCK_TYPE_STREAM or VSOCK_TYPE_SEQPACKET.
  uint16_t type() const { return type_; }

  // ---- answering ----

  // Inside RequestUser::OnRequest() only: the answer follows later, by Accept() or by Reset(), which
  // refuses.  Until then nothing is sent or received, and the peer may end it: OnEnded().  The engine
  // sets no limit to that time; the connection counts in max_connections.
  void AnswerLater() { state_ = State::kAnswering; }
  // Sends the RESPONSE.  Once, after AnswerLater().
  void Accept();

  // ---- sending ----

  // Bytes that Send() takes now, at most VSOCK_MAX_PAYLOAD; 0: wait for OnCanSend() (or sending has
  // ended).  OnEnded() never comes from inside the calls of this part.
  size_t SendCapacity();
  // STREAM: sends data.size() <= SendCapacity() bytes.
  void Send(const Payload& data);

  // SEQPACKET: whether a message of `size` bytes can be sent now; false: wait for OnCanSend().
  // Never true above MaxMessage().
  bool CanSendMessage(size_t size);
  // Largest message that the peer can take: its buffer, and at most the burst that every link takes
  // (see Link::Send).
  size_t MaxMessage() const {
    return peer_buf_alloc_ < kDefaultBufAlloc ? peer_buf_alloc_ : kDefaultBufAlloc;
  }
  // Bytes of credit left: a look only, OnCanSend() does not follow.
  size_t Credit() const;
  // SEQPACKET: sends one message; CanSendMessage(message.size()) was true.
  void SendMessage(const Payload& message, bool end_of_record);

  // The program sends no more (end-of-file from it).  Idempotent.
  void FinishSending();

  // ---- receiving ----

  // The program can take data again: offers what was kept.  With the last of it the connection may
  // end: OnPeerFinished() and OnEnded() may come from inside.  Inside OnData() and OnMessage() it
  // does nothing.
  void Drain();
  // For a user that hands data to a buffer it cannot see into (an AF_UNIX socket), where it may yet
  // be lost: from now on the last byte taken is not told to the peer, and the end is not judged,
  // until ConfirmTaken().  A SEQPACKET peer that asks is told all, for the byte may be what its next
  // message lacks; if the program leaves before ConfirmTaken(), the last packet takes the byte back.
  void HoldLastByte() { holds_ = true; }
  // The program has read everything that was taken.  OnEnded() may come from inside.
  void ConfirmTaken();
  // The program reads no more.  What is kept or still comes is dropped and never counted as taken,
  // so that the peer learns of the loss.  If only that held the connection up, it ends: OnEnded()
  // may come from inside.  Idempotent.
  void StopReading();

  // ---- ending ----

  // Sends RST; OnEnded(kLocal) is called before it returns.  The connection is gone then.
  void Reset();

  // Bytes held for the program.
  size_t buffered() const { return stopped_ ? 0 : rx_cnt_ - fwd_cnt_; }
  // Whether the peer has taken all that was sent, as far as it told.
  bool all_taken() const { return tx_cnt_ == peer_fwd_cnt_; }

 private:
  friend class Endpoint;

  // What was received and not taken: pieces of a stream, or whole messages.
  struct Piece {
    std::vector<uint8_t> bytes;
    size_t taken = 0;
    uint32_t packets = 0;
    bool end_of_record = false;
  };
  // Exists only while something is kept, so that an idle connection stays small.
  struct Inbox {
    std::deque<Piece> pieces;
    // The fragments of a message whose last one has not come.
    Piece partial;
  };
  // What the peer must be told, in the order in which it is sent.
  enum Owed : uint8_t {
    kOwedRequest = 1,
    kOwedResponse = 2,
    kOwedCredit = 4,
    kOwedCreditRequest = 8,
    kOwedShutdown = 16,
  };

  // ---- sending ----

  // Whether sending is of any use: connected, not finished, and the peer reads.
  bool MaySend() const;
  // Whether the carrier takes a packet of this connection now; if not, the program's wish is
  // queued.
  bool CarrierReady();
  // Whether a message of `size` bytes, or anything of a stream, fits into the credit and the packet
  // limit.
  bool Fits(size_t size) const;
  size_t StreamRoom() const;
  // Whether all that keeps the program waiting is zero-length messages: the peer tells of each by
  // itself.
  bool OnlyEmptiesUnderWay() const { return all_taken() && meter_.in_flight() > 0; }
  // Notes that the program waits for the peer, and asks it for credit if it would not tell by
  // itself.
  void WaitForCredit(size_t size);
  void AskForCredit();
  // Tells the program that waits if it can send now.
  void WakeSender();
  void ForgetWish();
  void Transmit(uint16_t op, uint32_t flags, const Payload& payload);
  Header MakeHeader(uint16_t op, uint32_t flags, uint32_t len) const;
  void Owe(uint8_t owed);
  // Sends what is owed; false if the carrier blocked.
  bool Flush();

  // ---- receiving ----

  void Receive(const Header& header, const Payload& payload);
  // Takes buf_alloc and fwd_cnt; false: fwd_cnt is ahead of what was sent.
  bool ReceiveCredit(const Header& header);
  void ReceiveReset(const Header& header);
  void ReceiveShutdown(uint32_t flags);
  void ReceiveData(const Header& header, const Payload& payload);
  void ReceiveBytes(const Payload& bytes);
  void ReceiveFragment(uint32_t flags, const Payload& fragment);
  bool HasPieces() const { return inbox_ != nullptr && !inbox_->pieces.empty(); }
  void Keep(const Payload& bytes);
  // Keeps a whole message; false: there are too many, and the connection is gone.
  bool KeepMessage(Piece message);
  // Offers what is kept until the program takes no more.
  void Offer();
  void Taken(size_t bytes, uint32_t packets);
  // What the peer is told, while the program reads and once it does not.
  uint32_t ReportedFwdCnt() const { return stopped_ ? FinalFwdCnt() : fwd_cnt_ - held_; }
  uint32_t FinalFwdCnt() const { return fwd_cnt_ - unconfirmed_; }
  // Tells the peer what was taken if it is time to.
  void TellIfDue();

  // ---- ending ----

  // Tells the peer what this side will not do any more, if it does not know.
  void TellShutdown();
  uint8_t WantedShutdown() const;
  // End-of-file, close and end, as far as they are due.
  void CheckEnd();
  // Its last packet.  A connection that was never announced to the peer ends as one that was refused.
  void SendReset();
  // The peer is through with it: only what is kept is left.
  void StartDraining();
  void OnDeadline();
  // Breach of the protocol: RST and kReset.
  void Breach(uint64_t& counter);
  bool Stale() const;

  Endpoint& endpoint_;
  PeerRecord& record_;
  const Address local_;
  const Address peer_;
  const uint64_t id_;          // order of creation
  const uint32_t generation_;  // the peer's session
  const uint16_t type_;
  State state_ = State::kConnecting;
  uint8_t owed_ = 0;
  uint8_t shutdown_sent_ = 0;
  uint8_t peer_shutdown_ = 0;
  bool ended_ = false;
  bool finished_ = false;        // FinishSending()
  bool stopped_ = false;         // StopReading()
  bool holds_ = false;           // HoldLastByte()
  uint8_t unconfirmed_ = 0;      // the last byte taken, until ConfirmTaken()
  uint8_t held_ = 0;             // that byte, while the peer is not told of it
  bool eof_told_ = false;        // OnPeerFinished()
  bool delivering_ = false;      // inside OnData() or OnMessage()
  bool unaccepted_ = false;      // counts against a listener's backlog
  bool in_owing_ = false;        // in record_.owing
  bool in_waiting_ = false;      // in record_.waiting
  bool wants_send_ = false;      // the program waits for OnCanSend()
  bool asked_ = false;           // CREDIT_REQUEST went since the program waits
  uint8_t unanswered_ = 0;       // repetitions of it, since the last answer
  bool peer_asked_ = false;      // the peer sent CREDIT_REQUEST and something was still kept
  bool clean_ = false;           // kDraining: how it will end
  End early_end_ = End::kLocal;  // ended inside OnIncoming(): for the user to come
  ConnectionUser* user_ = nullptr;
  size_t wanted_size_ = 0;
  uint32_t tx_cnt_ = 0;
  uint32_t peer_fwd_cnt_ = 0;
  uint32_t peer_buf_alloc_ = 0;
  uint32_t rx_cnt_ = 0;
  uint32_t fwd_cnt_ = 0;
  uint32_t told_fwd_cnt_ = 0;
  uint32_t packets_taken_ = 0;  // since the peer was told
  uint32_t owed_empties_ = 0;   // zero-length messages taken: one CREDIT_UPDATE each
  PacketMeter meter_;
  absl::Time deadline_ = absl::InfiniteFuture();
  std::unique_ptr<Inbox> inbox_;
  std::list<Connection>::iterator self_;
  std::list<Connection*>::iterator owing_place_;
  std::list<Connection*>::iterator waiting_place_;
};

}  // namespace argosy::packet

#endif  // ARGOSY_TRANSPORT_PACKET_CONNECTION_H_
