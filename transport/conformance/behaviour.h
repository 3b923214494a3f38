// SPDX-License-Identifier: Apache-2.0
// File: transport/conformance/behaviour.h
//
// What a run has shown, compared with docs/behaviour.md: a row for each case and type of socket, a
// column for each transport, and in a cell "yes" or the capability that the transport lacks.  The
// table is written by tools/behaviour from the lines that runs print, so it cannot say what no run
// has shown; and each run fails where the table says something else, so it cannot get old.
#ifndef ARGOSY_TRANSPORT_CONFORMANCE_BEHAVIOUR_H_
#define ARGOSY_TRANSPORT_CONFORMANCE_BEHAVIOUR_H_

#include <map>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"

namespace argosy::conformance {

// The file with the table; "": nothing is compared or printed.
extern std::string behaviour_file;

// "ConnectionTest", "HalfCloseHere/stream" -> {"half close here", "STREAM"}.
using Row = std::pair<std::string, std::string>;
Row RowOf(absl::string_view suite, absl::string_view name);

// One column of a table in Markdown.  Empty if there is none of that name.
std::map<Row, std::string> ParseColumn(absl::string_view markdown, absl::string_view column);

}  // namespace argosy::conformance

#endif  // ARGOSY_TRANSPORT_CONFORMANCE_BEHAVIOUR_H_
