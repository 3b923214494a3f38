// SPDX-License-Identifier: Apache-2.0
// File: backends/vhost_user/channel.h
//
// One vhost-user connection: messages with their descriptors in, replies out.  It knows how a
// message is framed, not what it means.
//
//   Channel channel(std::move(accepted));
//   Message message;
//   absl::StatusOr<bool> got = channel.Receive(&message);   // false: nothing whole is there yet
//
// One thread at a time.
#ifndef ARGOSY_BACKENDS_VHOST_USER_CHANNEL_H_
#define ARGOSY_BACKENDS_VHOST_USER_CHANNEL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "backends/vhost_user/protocol.h"
#include "transport/unique_fd.h"

namespace argosy::vhost_user {

struct Message {
  Request request = {};
  bool needs_reply = false;
  // In the channel's buffer: valid until its next Receive().
  absl::Span<const uint8_t> payload;
  // Close-on-exec.  What nobody takes is closed with the message.
  std::vector<UniqueFd> descriptors;

  // The payload's bytes from `offset` on as a T; they must be there.
  template <typename T>
  T At(size_t offset = 0) const {
    T value;
    std::memcpy(&value, payload.data() + offset, sizeof(value));
    return value;
  }
};

class Channel {
 public:
  // `socket`: a connected AF_UNIX stream.  Reads and writes never block, whatever its flags are.
  explicit Channel(UniqueFd socket) : socket_(std::move(socket)) {}

  int descriptor() const { return socket_.get(); }

  // The next message.  False, with `message` untouched, if it is not there in full: what came is
  // kept, come again when the socket is readable.  Errors end the connection, with everything
  // received closed:
  //   ECONNRESET  the peer hung up between two messages, as a VMM that ends does
  //   EPROTO      it hung up within one; wrong version, unknown flags, a reply, a payload above
  //               kMaxPayload, more than kMaxDescriptors descriptors, one that is a socket: no
  //               request has use for it, and if it were the other end of this one, held here it
  //               would keep the hang-up from us
  //   others      recvmsg's
  absl::StatusOr<bool> Receive(Message* message);

  // Sends a reply to `request`; at most kMaxPayload bytes.  ENOBUFS if the peer lets its replies
  // lie until the socket is full; else sendmsg's error.  The connection is then of no more use.
  absl::Status Reply(Request request, absl::Span<const uint8_t> payload);

 private:
  // Fills the buffer up to `want` bytes.  True if it did.
  absl::StatusOr<bool> Fill(size_t want);
  absl::Status CheckHeader() const;

  UniqueFd socket_;
  std::array<uint8_t, sizeof(Header) + kMaxPayload> buffer_;
  size_t filled_ = 0;
  Header header_ = {};  // valid if filled_ >= sizeof(Header)
  std::vector<UniqueFd> descriptors_;
};

}  // namespace argosy::vhost_user

#endif  // ARGOSY_BACKENDS_VHOST_USER_CHANNEL_H_
