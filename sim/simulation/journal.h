// SPDX-License-Identifier: Apache-2.0
// File: sim/simulation/journal.h
//
// What every part of a simulation writes to: the timeline (if somebody reads it), the tally, and
// the first finding.
#ifndef ARGOSY_SIM_SIMULATION_JOURNAL_H_
#define ARGOSY_SIM_SIMULATION_JOURNAL_H_

#include <functional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "sim/simulation/tally.h"

namespace argosy::sim {

class Journal {
 public:
  using Reader = std::function<void(const std::string& line)>;

  // `reader` gets the timeline line by line; null: nobody, and no text is made.
  explicit Journal(Reader reader) : reader_(std::move(reader)) {}

  // The machine's time, for the lines that follow.
  void set_now(absl::Duration since_start) { now_ = since_start; }

  absl::Duration now() const { return now_; }

  // Something happened.  `text()` is called only if somebody reads.
  template <typename Text>
  void Note(const Text& text) {
    if (reader_) Write(text());
  }
  template <typename Text>
  void Note(Fault fault, const Text& text) {
    Count(fault);
    if (reader_) Write(absl::StrCat("* ", Name(fault), ": ", text()));
  }
  void Count(Fault fault, uint64_t times = 1) {
    tally_.faults[static_cast<size_t>(fault)] += times;
  }

  // Judges; `text()` says what was wrong.  Returns `holds`.
  template <typename Text>
  bool Check(Oracle oracle, bool holds, const Text& text) {
    ++tally_.oracles[static_cast<size_t>(oracle)];
    if (!holds) Find(absl::StrCat(Name(oracle), ": ", text()));
    return holds;
  }

  bool found() const { return !finding_.empty(); }
  const std::string& finding() const { return finding_; }
  Tally& tally() { return tally_; }

 private:
  void Write(const std::string& text) {
    reader_(absl::StrFormat("%12.6f  %s", absl::ToDoubleSeconds(now_), text));
  }
  void Find(std::string what) {
    if (reader_) Write(absl::StrCat("! ", what));
    if (finding_.empty()) finding_ = std::move(what);
  }

  const Reader reader_;
  absl::Duration now_ = absl::ZeroDuration();
  Tally tally_;
  std::string finding_;
};

}  // namespace argosy::sim

#endif  // ARGOSY_SIM_SIMULATION_JOURNAL_H_
