// SPDX-License-Identifier: Apache-2.0
// A directory for one test, gone with its contents when the test ends.
#ifndef ARGOSY_TRANSPORT_TESTING_TEMPORARY_DIRECTORY_H_
#define ARGOSY_TRANSPORT_TESTING_TEMPORARY_DIRECTORY_H_

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

namespace argosy {

class TemporaryDirectory {
 public:
  // In /tmp rather than $TEST_TMPDIR: the path of a UNIX socket has 107 bytes, and Bazel's alone
  // may take more.
  TemporaryDirectory() : path_("/tmp/argosy-test-XXXXXX") {
    if (mkdtemp(path_.data()) == nullptr) {
      perror("mkdtemp /tmp/argosy-test-XXXXXX");
      abort();
    }
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace argosy

#endif  // ARGOSY_TRANSPORT_TESTING_TEMPORARY_DIRECTORY_H_
