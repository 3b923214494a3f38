// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/channel.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <optional>
#include <vector>

#include "backends/vhost_user/testing/front_end.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "transport/error.h"

namespace argosy::vhost_user {
namespace {

using ::testing::HasSubstr;

size_t OpenDescriptors() {
  size_t count = 0;
  DIR* const folder = opendir("/proc/self/fd");
  while (readdir(folder) != nullptr) ++count;
  closedir(folder);
  return count;
}

class ChannelTest : public testing::Test {
 protected:
  ChannelTest() {
    int pair[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    channel_.emplace(UniqueFd(pair[0]));
    peer_.emplace(UniqueFd(pair[1]), FrontEnd::Options{.timeout = absl::Seconds(1)});
  }

  // Receives, expecting an error.
  absl::Status Error() {
    Message message;
    absl::StatusOr<bool> got = channel_->Receive(&message);
    return got.status();
  }

  std::optional<Channel> channel_;
  std::optional<FrontEnd> peer_;
};

TEST_F(ChannelTest, NothingIsThere) {
  Message message;
  absl::StatusOr<bool> got = channel_->Receive(&message);
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_FALSE(*got);
}

TEST_F(ChannelTest, MessagesKeepTheirBoundaries) {
  ASSERT_TRUE(peer_->Send(Request::kSetOwner, {}).ok());
  ASSERT_TRUE(peer_
                  ->Send(Request::kSetFeatures, FrontEnd::BytesOf(uint64_t{0x1234}), {},
                         kVersion | kNeedReplyFlag)
                  .ok());
  Message message;
  ASSERT_TRUE(*channel_->Receive(&message));
  EXPECT_EQ(message.request, Request::kSetOwner);
  EXPECT_FALSE(message.needs_reply);
  EXPECT_TRUE(message.payload.empty());
  ASSERT_TRUE(*channel_->Receive(&message));
  EXPECT_EQ(message.request, Request::kSetFeatures);
  EXPECT_TRUE(message.needs_reply);
  ASSERT_EQ(message.payload.size(), 8u);
  EXPECT_EQ(message.At<uint64_t>(), 0x1234u);
  EXPECT_FALSE(*channel_->Receive(&message));
}

TEST_F(ChannelTest, AMessageComesByteByByte) {
  const UniqueFd event(eventfd(0, EFD_CLOEXEC));
  const struct {
    Header header = {static_cast<uint32_t>(Request::kSetVringKick), kVersion, 8};
    uint8_t payload[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  } whole;
  const absl::Span<const uint8_t> bytes = FrontEnd::BytesOf(whole).subspan(0, 20);
  Message message;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const std::vector<int> with = i == 0 ? std::vector<int>{event.get()} : std::vector<int>{};
    ASSERT_TRUE(peer_->SendRaw(bytes.subspan(i, 1), with).ok());
    absl::StatusOr<bool> got = channel_->Receive(&message);
    ASSERT_TRUE(got.ok()) << got.status();
    ASSERT_EQ(*got, i + 1 == bytes.size());
  }
  EXPECT_EQ(message.payload[7], 8);
  EXPECT_EQ(message.descriptors.size(), 1u);
}

TEST_F(ChannelTest, DescriptorsComeWithTheirMessage) {
  const UniqueFd event(eventfd(0, EFD_CLOEXEC));
  const size_t before = OpenDescriptors();
  ASSERT_TRUE(peer_->Send(Request::kSetOwner, {}, {event.get()}).ok());
  const std::vector<int> most(kMaxDescriptors, event.get());
  ASSERT_TRUE(peer_->Send(Request::kSetMemTable, {}, most).ok());
  ASSERT_TRUE(peer_->Send(Request::kSetOwner, {}).ok());
  {
    Message message;
    ASSERT_TRUE(*channel_->Receive(&message));
    EXPECT_EQ(message.descriptors.size(), 1u);
    ASSERT_TRUE(*channel_->Receive(&message));
    ASSERT_EQ(message.descriptors.size(), kMaxDescriptors);
    EXPECT_NE(fcntl(message.descriptors[0].get(), F_GETFD) & FD_CLOEXEC, 0);
    EXPECT_EQ(OpenDescriptors(), before + kMaxDescriptors);
    ASSERT_TRUE(*channel_->Receive(&message));
    EXPECT_TRUE(message.descriptors.empty());
  }
  EXPECT_EQ(OpenDescriptors(), before);
}

TEST_F(ChannelTest, TooManyDescriptors) {
  const UniqueFd event(eventfd(0, EFD_CLOEXEC));
  const size_t before = OpenDescriptors();
  const std::vector<int> many(kMaxDescriptors + 1, event.get());
  ASSERT_TRUE(peer_->Send(Request::kSetMemTable, {}, many).ok());
  const absl::Status status = Error();
  EXPECT_EQ(ErrnoOf(status), EPROTO);
  EXPECT_THAT(status.message(), HasSubstr("descriptors"));
  EXPECT_EQ(OpenDescriptors(), before);
}

TEST_F(ChannelTest, TooManyDescriptorsInPieces) {
  const UniqueFd event(eventfd(0, EFD_CLOEXEC));
  const size_t before = OpenDescriptors();
  const std::vector<int> most(kMaxDescriptors, event.get());
  const Header header = {static_cast<uint32_t>(Request::kSetMemTable), kVersion, 8};
  ASSERT_TRUE(peer_->SendRaw(FrontEnd::BytesOf(header), most).ok());
  Message message;
  EXPECT_FALSE(*channel_->Receive(&message));
  ASSERT_TRUE(peer_->SendRaw(FrontEnd::BytesOf(uint32_t{0}), {event.get()}).ok());
  EXPECT_EQ(ErrnoOf(Error()), EPROTO);
  EXPECT_EQ(OpenDescriptors(), before);
}

// Nobody would hear the VMM hang up if its end lived on here.
TEST_F(ChannelTest, TheOtherEndIsNotTaken) {
  const size_t before = OpenDescriptors();
  ASSERT_TRUE(peer_->SendRaw(FrontEnd::BytesOf(uint8_t{0}), {peer_->descriptor()}).ok());
  const absl::Status status = Error();
  EXPECT_EQ(ErrnoOf(status), EPROTO);
  EXPECT_THAT(status.message(), HasSubstr("a socket"));
  EXPECT_EQ(OpenDescriptors(), before);
}

// The kernel drops descriptors that the process has no room for, and says so.
TEST_F(ChannelTest, TruncatedControlData) {
  const UniqueFd event(eventfd(0, EFD_CLOEXEC));
  ASSERT_TRUE(peer_->Send(Request::kSetMemTable, {}, {event.get(), event.get()}).ok());
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  rlimit none = limit;
  none.rlim_cur = 0;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const absl::Status status = Error();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_EQ(ErrnoOf(status), EPROTO);
}

TEST_F(ChannelTest, WrongVersion) {
  ASSERT_TRUE(peer_->Send(Request::kSetOwner, {}, {}, 2).ok());
  const absl::Status status = Error();
  EXPECT_EQ(ErrnoOf(status), EPROTO);
  EXPECT_THAT(status.message(), HasSubstr("version 2"));
}

TEST_F(ChannelTest, AReplyToNothing) {
  ASSERT_TRUE(peer_->Send(Request::kSetOwner, {}, {}, kVersion | kReplyFlag).ok());
  EXPECT_THAT(Error().message(), HasSubstr("a reply"));
}

TEST_F(ChannelTest, UnknownFlags) {
  ASSERT_TRUE(peer_->Send(Request::kSetOwner, {}, {}, kVersion | 0x100).ok());
  EXPECT_THAT(Error().message(), HasSubstr("0x10"));
}

TEST_F(ChannelTest, TooLong) {
  for (const uint32_t size : {static_cast<uint32_t>(kMaxPayload) + 1, ~uint32_t{0}}) {
    const Header header = {static_cast<uint32_t>(Request::kSetMemTable), kVersion, size};
    ASSERT_TRUE(peer_->SendRaw(FrontEnd::BytesOf(header)).ok());
    const absl::Status status = Error();
    EXPECT_EQ(ErrnoOf(status), EPROTO);
    EXPECT_THAT(status.message(), HasSubstr("at most 1032"));
  }
}

TEST_F(ChannelTest, TheLongest) {
  ASSERT_TRUE(peer_->Send(Request::kSetMemTable, std::vector<uint8_t>(kMaxPayload, 7)).ok());
  Message message;
  ASSERT_TRUE(*channel_->Receive(&message));
  EXPECT_EQ(message.payload.size(), kMaxPayload);
  EXPECT_EQ(message.payload[kMaxPayload - 1], 7);
}

TEST_F(ChannelTest, HangUpBetweenMessages) {
  ASSERT_TRUE(peer_->Send(Request::kSetOwner, {}).ok());
  peer_.reset();
  Message message;
  ASSERT_TRUE(*channel_->Receive(&message));
  EXPECT_EQ(ErrnoOf(Error()), ECONNRESET);
}

TEST_F(ChannelTest, HangUpWithinAMessage) {
  const UniqueFd event(eventfd(0, EFD_CLOEXEC));
  const Header header = {static_cast<uint32_t>(Request::kSetFeatures), kVersion, 8};
  ASSERT_TRUE(peer_->SendRaw(FrontEnd::BytesOf(header), {event.get()}).ok());
  peer_.reset();
  const size_t before = OpenDescriptors();
  EXPECT_EQ(ErrnoOf(Error()), EPROTO);
  EXPECT_EQ(OpenDescriptors(), before);
}

TEST_F(ChannelTest, Replies) {
  ASSERT_TRUE(channel_->Reply(Request::kGetFeatures, FrontEnd::BytesOf(uint64_t{99})).ok());
  ASSERT_TRUE(channel_->Reply(Request::kGetConfig, {}).ok());
  absl::StatusOr<FrontEnd::Reply> reply = peer_->Receive();
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->request, Request::kGetFeatures);
  EXPECT_EQ(reply->payload, std::vector<uint8_t>({99, 0, 0, 0, 0, 0, 0, 0}));
  reply = peer_->Receive();
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->request, Request::kGetConfig);
  EXPECT_TRUE(reply->payload.empty());
}

TEST_F(ChannelTest, APeerThatReadsNoRepliesIsNotWaitedFor) {
  absl::Status status;
  for (int i = 0; i < 100'000 && status.ok(); ++i) {
    status = channel_->Reply(Request::kGetFeatures, FrontEnd::BytesOf(uint64_t{1}));
  }
  EXPECT_EQ(ErrnoOf(status), ENOBUFS);
}

TEST_F(ChannelTest, ReplyToNobody) {
  peer_.reset();
  EXPECT_EQ(ErrnoOf(channel_->Reply(Request::kGetFeatures, {})), EPIPE);
}

}  // namespace
}  // namespace argosy::vhost_user
