// SPDX-License-Identifier: Apache-2.0
#include "transport/error.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"

namespace argosy {
namespace {

// Every errno that transport.h names, and those of opening a transport.
const std::map<std::string, int>& ErrnosOfTheContract() {
  static const auto* const errnos = new std::map<std::string, int>{
      {"EAGAIN", EAGAIN},
      {"ECONNRESET", ECONNRESET},
      {"ETIMEDOUT", ETIMEDOUT},
      {"ENODEV", ENODEV},
      {"ESOCKTNOSUPPORT", ESOCKTNOSUPPORT},
      {"EADDRINUSE", EADDRINUSE},
      {"EADDRNOTAVAIL", EADDRNOTAVAIL},
      {"EPIPE", EPIPE},
      {"EACCES", EACCES},
      {"ENETRESET", ENETRESET},
      {"ENOBUFS", ENOBUFS},
      {"EMSGSIZE", EMSGSIZE},
      {"EMFILE", EMFILE},
      {"EINVAL", EINVAL},
      {"EPROTO", EPROTO},
      {"ENOENT", ENOENT},
      {"ECONNREFUSED", ECONNREFUSED},
  };
  return *errnos;
}

std::string CamelCase(absl::StatusCode code) {
  std::string camel;
  for (absl::string_view word : absl::StrSplit(absl::StatusCodeToString(code), '_')) {
    camel += word[0];
    camel += absl::AsciiStrToLower(word.substr(1));
  }
  return camel;
}

// errno name -> status code, as docs/errors.md says.
std::map<std::string, std::string> DocumentedTable() {
  std::map<std::string, std::string> table;
  std::ifstream file("docs/errors.md");
  EXPECT_TRUE(file.is_open());
  std::string line;
  while (std::getline(file, line)) {
    if (line.rfind("| E", 0) != 0) continue;
    const std::vector<std::string> cells = absl::StrSplit(line, '|');
    EXPECT_EQ(cells.size(), 6u) << line;
    if (cells.size() != 6) continue;
    for (int i = 1; i < 5; ++i) EXPECT_FALSE(absl::StripAsciiWhitespace(cells[i]).empty()) << line;
    const bool fresh =
        table.emplace(absl::StripAsciiWhitespace(cells[1]), absl::StripAsciiWhitespace(cells[2]))
            .second;
    EXPECT_TRUE(fresh) << "twice: " << line;
  }
  return table;
}

TEST(ErrorTest, CodeAndDocumentationAgree) {
  std::map<std::string, std::string> in_code;
  for (const auto& [name, err] : ErrnosOfTheContract()) {
    in_code[name] = CamelCase(ErrnoError(err, "x").code());
  }
  EXPECT_EQ(DocumentedTable(), in_code);
}

TEST(ErrorTest, KeepsErrno) {
  for (const auto& [name, err] : ErrnosOfTheContract()) {
    EXPECT_EQ(ErrnoOf(ErrnoError(err, "x")), err) << name;
  }
  // Also an errno that the table does not know.
  EXPECT_EQ(ErrnoOf(ErrnoError(EXDEV, "x")), EXDEV);
  EXPECT_FALSE(ErrnoError(EXDEV, "x").ok());
}

TEST(ErrorTest, ErrnoOfStatusesFromElsewhere) {
  EXPECT_EQ(ErrnoOf(absl::OkStatus()), 0);
  EXPECT_EQ(ErrnoOf(absl::InternalError("x")), EIO);
}

TEST(ErrorTest, SystemErrorSaysWhatTheSystemSays) {
  EXPECT_EQ(SystemError(ENOENT, "open /x").message(), std::string("open /x: ") + strerror(ENOENT));
}

TEST(ErrorTest, AnnotateKeepsCodeAndErrno) {
  const absl::Status status = Annotate(ErrnoError(ECONNRESET, "nobody listens"), "3:1234");
  EXPECT_EQ(status.message(), "3:1234: nobody listens");
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_EQ(ErrnoOf(status), ECONNRESET);
  EXPECT_TRUE(Annotate(absl::OkStatus(), "x").ok());
}

}  // namespace
}  // namespace argosy
