// SPDX-License-Identifier: Apache-2.0
#include "hatch/message_sender.h"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace argosy::hatch {
namespace {

constexpr ssize_t kSize = 10'000;

class MessageSenderTest : public testing::Test {
 protected:
  void SetUp() override {
    int pair[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    near_.reset(pair[0]);
    far_.reset(pair[1]);
    absl::StatusOr<std::unique_ptr<MessageSender>> sender = MessageSender::Start(near_.get());
    ASSERT_TRUE(sender.ok()) << sender.status();
    sender_ = *std::move(sender);
  }

  // As a poll loop does it.
  ssize_t SendAndWait() {
    for (;;) {
      const ssize_t n = sender_->Send(message_);
      if (n >= 0 || errno != EAGAIN) return n;
      pollfd ready = {sender_->fd(), POLLIN, 0};
      EXPECT_EQ(poll(&ready, 1, -1), 1);
    }
  }
  // Until nothing more fits.  How many messages did.
  int Fill() {
    int sent = 0;
    while (send(near_.get(), message_.data(), message_.size(), MSG_DONTWAIT) == kSize) ++sent;
    EXPECT_EQ(errno, EAGAIN);
    return sent;
  }
  ssize_t Receive() {
    std::vector<uint8_t> buffer(2 * kSize);
    return recv(far_.get(), buffer.data(), buffer.size(), 0);
  }

  const std::vector<uint8_t> message_ = std::vector<uint8_t>(kSize, 'm');
  UniqueFd near_, far_;
  std::unique_ptr<MessageSender> sender_;
};

TEST_F(MessageSenderTest, SendsOneMessageBehindTheOther) {
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(SendAndWait(), kSize);
    EXPECT_EQ(Receive(), kSize);
  }
}

TEST_F(MessageSenderTest, WaitsWithoutBlockingTheCaller) {
  const int before = Fill();
  EXPECT_EQ(sender_->Send(message_), -1);
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_EQ(sender_->Send(message_), -1);
  EXPECT_EQ(errno, EAGAIN);
  for (int i = 0; i < before; ++i) EXPECT_EQ(Receive(), kSize);
  EXPECT_EQ(SendAndWait(), kSize);
  EXPECT_EQ(Receive(), kSize);
  EXPECT_EQ(recv(far_.get(), nullptr, 0, MSG_DONTWAIT), -1) << "the message came twice";
}

TEST_F(MessageSenderTest, ReportsWhatSendSays) {
  far_.reset();
  EXPECT_EQ(SendAndWait(), -1);
  EXPECT_EQ(errno, EPIPE);
}

TEST_F(MessageSenderTest, GivesUpAMessageUnderWay) {
  Fill();
  EXPECT_EQ(sender_->Send(message_), -1);
  sender_.reset();  // hangs if the thread does
  EXPECT_EQ(send(near_.get(), "", 1, MSG_NOSIGNAL), -1);
  EXPECT_EQ(errno, EPIPE);
}

}  // namespace
}  // namespace argosy::hatch
