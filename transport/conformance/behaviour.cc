// SPDX-License-Identifier: Apache-2.0
#include "transport/conformance/behaviour.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <set>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"

namespace argosy::conformance {
namespace {

std::vector<std::string> Cells(absl::string_view line) {
  std::vector<std::string> cells;
  for (absl::string_view cell : absl::StrSplit(line, '|')) {
    cells.emplace_back(absl::StripAsciiWhitespace(cell));
  }
  return cells;
}

const char* Property(const testing::TestResult& result, absl::string_view key) {
  for (int i = 0; i < result.test_property_count(); ++i) {
    if (key == result.GetTestProperty(i).key()) return result.GetTestProperty(i).value();
  }
  return "";
}

std::string CellOf(const testing::TestResult& result) {
  if (result.Passed()) return "yes";
  return result.Skipped() ? Property(result, "needs") : "FAILED";
}

class CompareWithTable : public testing::Environment {
 public:
  void TearDown() override {
    if (behaviour_file.empty()) return;
    std::ifstream file(behaviour_file);
    const std::string markdown{std::istreambuf_iterator<char>(file), {}};
    std::map<std::string, std::map<Row, std::string>> shown;  // column -> row -> cell
    const testing::UnitTest& run = *testing::UnitTest::GetInstance();
    for (int i = 0; i < run.total_test_suite_count(); ++i) {
      const testing::TestSuite& suite = *run.GetTestSuite(i);
      for (int j = 0; j < suite.total_test_count(); ++j) {
        const testing::TestInfo& test = *suite.GetTestInfo(j);
        const std::string column = Property(*test.result(), "column");
        if (!test.should_run() || column.empty()) continue;
        const Row row = RowOf(suite.name(), test.name());
        const std::string cell = CellOf(*test.result());
        printf("behaviour: %s | %s | %d | %s | %s | %s\n", column.c_str(), test.file(), test.line(),
               row.first.c_str(), row.second.c_str(), cell.c_str());
        shown[column][row] = cell;
      }
    }
    const bool all = run.test_to_run_count() == run.total_test_count();
    for (const auto& [column, cells] : shown) {
      Compare(column, cells, ParseColumn(markdown, column), all);
    }
  }

 private:
  static void Compare(const std::string& column, const std::map<Row, std::string>& shown,
                      const std::map<Row, std::string>& table, bool all) {
    std::vector<std::string> differences;
    for (const auto& [row, cell] : shown) {
      const auto found = table.find(row);
      const std::string said = found == table.end() ? "nothing" : found->second;
      if (cell != said && cell != "FAILED") {
        differences.push_back(
            absl::StrCat(row.first, " (", row.second, "): '", cell, "', table: '", said, "'"));
      }
    }
    for (const auto& [row, said] : table) {
      if (all && shown.find(row) == shown.end()) {
        differences.push_back(absl::StrCat(row.first, " (", row.second, "): no such case"));
      }
    }
    EXPECT_TRUE(differences.empty())
        << "run tools/behaviour: " << behaviour_file << " says otherwise of " << column << "\n  "
        << absl::StrJoin(differences, "\n  ");
  }
};

const auto* const compare_with_table = testing::AddGlobalTestEnvironment(new CompareWithTable);

}  // namespace

std::string behaviour_file = "docs/behaviour.md";

Row RowOf(absl::string_view suite, absl::string_view name) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(name, absl::MaxSplits('/', 1));
  std::string title;
  for (char c : parts.first) {
    if (absl::ascii_isupper(c) && !title.empty()) title += ' ';
    title += absl::ascii_tolower(c);
  }
  absl::StrReplaceAll({{" cid", " CID"}}, &title);
  const absl::string_view kind = suite.substr(suite.rfind('/') + 1);
  if (kind == "ConnectionTest") return {title, absl::AsciiStrToUpper(parts.second)};
  if (kind == "StreamTest") return {title, "STREAM"};
  if (kind == "SeqpacketTest") return {title, "SEQPACKET"};
  if (kind == "DatagramTest") return {title, "DGRAM"};
  return {title, "any"};
}

std::map<Row, std::string> ParseColumn(absl::string_view markdown, absl::string_view column) {
  std::map<Row, std::string> cells_by_row;
  size_t index = 0;  // of the column, while inside a table that has it
  for (absl::string_view line : absl::StrSplit(markdown, '\n')) {
    const std::vector<std::string> cells = Cells(line);
    if (line.empty() || line[0] != '|' || cells.size() < 4) {
      index = 0;
    } else if (index == 0) {
      const auto found = std::find(cells.begin() + 3, cells.end(), column);
      if (found != cells.end()) index = found - cells.begin();
    } else if (index < cells.size() && cells[1].rfind("---", 0) != 0) {
      cells_by_row[{cells[1], cells[2]}] = cells[index];
    }
  }
  return cells_by_row;
}

}  // namespace argosy::conformance
