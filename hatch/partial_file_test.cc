// SPDX-License-Identifier: Apache-2.0
#include "hatch/partial_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <sstream>
#include <string>

#include "gtest/gtest.h"
#include "transport/error.h"

namespace argosy::hatch {
namespace {

class PartialFileTest : public testing::Test {
 protected:
  PartialFileTest() {
    std::string directory = testing::TempDir() + "/partial.XXXXXX";
    EXPECT_NE(mkdtemp(directory.data()), nullptr);
    name_ = directory + "/file";
  }

  static bool Exists(const std::string& name) { return access(name.c_str(), F_OK) == 0; }
  static std::string Read(const std::string& name) {
    std::stringstream text;
    text << std::ifstream(name).rdbuf();
    return text.str();
  }
  static void Write(const std::string& name, const std::string& text) {
    std::ofstream(name) << text;
  }
  static absl::Status Put(PartialFile& file, const std::string& text) {
    return file.Write({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  }

  std::string name_;
};

TEST_F(PartialFileTest, HasItsNameOnlyWhenCommitted) {
  absl::StatusOr<PartialFile> file = PartialFile::Create(name_, false);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE(Put(*file, "whole").ok());
  EXPECT_FALSE(Exists(name_));
  ASSERT_TRUE(file->Commit().ok());
  EXPECT_EQ(Read(name_), "whole");
  EXPECT_FALSE(Exists(name_ + ".part"));
}

TEST_F(PartialFileTest, LeavesNothingWhenGivenUp) {
  {
    absl::StatusOr<PartialFile> file = PartialFile::Create(name_, false);
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE(Put(*file, "half").ok());
  }
  EXPECT_FALSE(Exists(name_));
  EXPECT_FALSE(Exists(name_ + ".part"));
}

TEST_F(PartialFileTest, ReplacesOnlyWhenAsked) {
  Write(name_, "old");
  EXPECT_EQ(ErrnoOf(PartialFile::Create(name_, false).status()), EEXIST);
  absl::StatusOr<PartialFile> file = PartialFile::Create(name_, true);
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE(Put(*file, "new").ok());
  EXPECT_EQ(Read(name_), "old");
  ASSERT_TRUE(file->Commit().ok());
  EXPECT_EQ(Read(name_), "new");
}

TEST_F(PartialFileTest, DoesNotReplaceWhatCameMeanwhile) {
  absl::StatusOr<PartialFile> file = PartialFile::Create(name_, false);
  ASSERT_TRUE(file.ok());
  Write(name_, "other");
  EXPECT_EQ(ErrnoOf(file->Commit()), EEXIST);
  EXPECT_EQ(Read(name_), "other");
}

TEST_F(PartialFileTest, RefusesASecondWriter) {
  absl::StatusOr<PartialFile> file = PartialFile::Create(name_, false);
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(ErrnoOf(PartialFile::Create(name_, false).status()), EBUSY);
  EXPECT_TRUE(Exists(name_ + ".part"));
}

TEST_F(PartialFileTest, WritesALeftOverAnew) {
  Write(name_ + ".part", "left by a killed receiver");
  absl::StatusOr<PartialFile> file = PartialFile::Create(name_, false);
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE(Put(*file, "x").ok());
  ASSERT_TRUE(file->Commit().ok());
  EXPECT_EQ(Read(name_), "x");
}

TEST_F(PartialFileTest, KeepsAwayFromWhatIsNoFile) {
  ASSERT_EQ(symlink("/dev/null", name_.c_str()), 0);
  EXPECT_EQ(ErrnoOf(PartialFile::Create(name_, true).status()), EEXIST);
}

}  // namespace
}  // namespace argosy::hatch
