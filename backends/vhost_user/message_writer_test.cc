// SPDX-License-Identifier: Apache-2.0
#include "backends/vhost_user/message_writer.h"

#include <pthread.h>
#include <sys/socket.h>

#include <cerrno>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "transport/error.h"

namespace argosy::vhost_user {
namespace {

// Over AF_UNIX, which waits for room as AF_VSOCK does.
class MessageWriterTest : public testing::Test {
 protected:
  MessageWriterTest() {
    int pair[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    here_ = UniqueFd(pair[0]);
    there_ = UniqueFd(pair[1]);
    auto writer =
        MessageWriter::Create(loop_, here_.get(), [this](bool ok) { told_.push_back(ok); });
    EXPECT_TRUE(writer.ok()) << writer.status();
    writer_ = *std::move(writer);
  }
  ~MessageWriterTest() override {
    if (writer_ != nullptr) Retire();
  }

  void Retire() {
    loop_.Retire(std::move(writer_));
    EXPECT_TRUE(loop_.RunOnce(absl::InfinitePast()).ok());
  }
  bool Write(const std::string& message) {
    return writer_->Write(
        absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(message.data()), message.size()),
        false);
  }
  // Until the message under way is written.
  void Wait() {
    const absl::Time deadline = absl::Now() + absl::Seconds(30);
    while (writer_->busy() && absl::Now() < deadline) {
      ASSERT_TRUE(loop_.RunOnce(deadline).ok());
    }
    ASSERT_FALSE(writer_->busy());
  }
  std::string Read() {
    char bytes[1000];
    const ssize_t n = recv(there_.get(), bytes, sizeof(bytes), MSG_DONTWAIT);
    return n < 0 ? "nothing" : std::string(bytes, static_cast<size_t>(n));
  }
  // Sends messages until the socket takes no more; how many it took.
  int Fill() {
    int count = 0;
    while (send(here_.get(), "filler", 6, MSG_DONTWAIT) == 6) ++count;
    return count;
  }

  EventLoop loop_;
  UniqueFd here_, there_;
  std::vector<bool> told_;
  std::unique_ptr<MessageWriter> writer_;
};

TEST_F(MessageWriterTest, WritesOneMessageAtATime) {
  EXPECT_TRUE(Write("one"));
  EXPECT_FALSE(Write("not yet"));
  Wait();
  EXPECT_TRUE(Write("two"));
  Wait();
  EXPECT_EQ(told_, (std::vector<bool>{true, true}));
  EXPECT_EQ(Read(), "one");
  EXPECT_EQ(Read(), "two");
  EXPECT_EQ(Read(), "nothing");
}

TEST_F(MessageWriterTest, WaitsForRoomWithoutStoppingTheLoop) {
  const int fillers = Fill();
  ASSERT_GT(fillers, 0);
  EXPECT_TRUE(Write("patient"));
  ASSERT_TRUE(loop_.RunOnce(absl::InfinitePast()).ok());
  EXPECT_TRUE(writer_->busy());
  for (int i = 0; i < fillers; ++i) EXPECT_EQ(Read(), "filler");
  Wait();
  EXPECT_EQ(Read(), "patient");
}

TEST_F(MessageWriterTest, TellsOfAReaderThatIsGone) {
  there_.reset();
  EXPECT_TRUE(Write("for nobody"));
  Wait();
  EXPECT_EQ(told_, std::vector<bool>{false});
}

TEST_F(MessageWriterTest, EndsWhileItWaitsForRoom) {
  const int fillers = Fill();
  EXPECT_TRUE(Write("never"));
  Retire();
  for (int i = 0; i < fillers; ++i) EXPECT_EQ(Read(), "filler");
  EXPECT_EQ(Read(), "");  // end-of-file
}

// A guest makes as many as it has connections.
TEST_F(MessageWriterTest, IsNotMadeWithoutAThread) {
  pthread_attr_t usual, impossible;
  ASSERT_EQ(pthread_getattr_default_np(&usual), 0);
  ASSERT_EQ(pthread_attr_init(&impossible), 0);
  // A stack of which there is not even address space.
  ASSERT_EQ(pthread_attr_setstacksize(&impossible, size_t{1} << 60), 0);
  ASSERT_EQ(pthread_setattr_default_np(&impossible), 0);
  const auto another = MessageWriter::Create(loop_, here_.get(), [](bool) {});
  ASSERT_EQ(pthread_setattr_default_np(&usual), 0);
  EXPECT_EQ(ErrnoOf(another.status()), EAGAIN);
}

}  // namespace
}  // namespace argosy::vhost_user
