// SPDX-License-Identifier: Apache-2.0
// vsock_test: messages.
//
// What Linux's vsock_test checks of messages.  Its numbers stand above each case.
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "transport/conformance/fixture.h"

namespace argosy::conformance {
namespace {

// 6
TEST_P(SeqpacketTest, MessagesOfAnySizeAndMarkArrive) {
  struct Planned {
    size_t size;
    int mark;
  };
  std::minstd_rand random(6);
  std::vector<Planned> messages;
  for (int i = 0; i < 200; ++i) {
    // As many of few bytes as of many.
    const size_t limit = i % 2 == 0 ? 100 : capabilities().max_message;
    messages.push_back({1 + random() % limit,
                        capabilities().record_marks && random() % 2 == 0 ? int{MSG_EOR} : 0});
  }
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  std::thread sender([&] {
    for (size_t i = 0; i < messages.size(); ++i) {
      const std::vector<uint8_t> bytes = Pattern{messages[i].size, i}.Bytes();
      ASSERT_EQ(send(pair.near.fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL | messages[i].mark),
                static_cast<ssize_t>(bytes.size()))
          << strerror(errno);
    }
  });
  for (size_t i = 0; i < messages.size(); ++i) {
    const auto got = far().ReceiveMessage(pair.far, {capabilities().max_message, i});
    EXPECT_OK(got);
    if (!got.ok()) break;
    EXPECT_EQ(got->size, messages[i].size) << "message " << i;
    EXPECT_EQ(got->flags & MSG_EOR, messages[i].mark) << "message " << i;
    EXPECT_TRUE(got->matches) << "message " << i;
  }
  shutdown(pair.near.fd(), SHUT_RDWR);  // ends the sender, if something was wrong
  sender.join();
}

// 7
TEST_P(SeqpacketTest, CutMessageSaysSo) {
  ASSERT_OK_AND_ASSIGN(const Pair pair, Connected());
  for (const int flags : {0, int{MSG_TRUNC}}) {
    ASSERT_OK(far().Send(pair.far, "0123456789"));
    char buffer[4];
    iovec iov = {buffer, sizeof(buffer)};
    msghdr header = {};
    header.msg_iov = &iov;
    header.msg_iovlen = 1;
    EXPECT_EQ(recvmsg(pair.near.fd(), &header, flags), flags == 0 ? 4 : 10);
    EXPECT_EQ(header.msg_flags & MSG_TRUNC, MSG_TRUNC);
    EXPECT_EQ(std::string(buffer, 4), "0123");
  }
  ASSERT_OK(far().Send(pair.far, "whole"));
  ASSERT_EQ(ReadSome(pair.near), "whole");
}

}  // namespace
}  // namespace argosy::conformance
