// SPDX-License-Identifier: Apache-2.0
#include "hatch/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"

namespace argosy::hatch {
namespace {

constexpr absl::Duration kRedraw = absl::Milliseconds(100);
constexpr int kWidestBar = 40;
constexpr int kNarrowestBar = 5;

std::string FormatTime(double seconds) {
  const auto s = static_cast<int64_t>(std::min(seconds, 359999.0));
  return s >= 3600 ? absl::StrFormat("%d:%02d:%02d", s / 3600, s / 60 % 60, s % 60)
                   : absl::StrFormat("%d:%02d", s / 60, s % 60);
}

int TerminalWidth() {
  winsize size = {};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

void Draw(const std::string& line) {
  // Carriage return, and the rest of the old line erased.
  const std::string text = absl::StrCat("\r", line, "\033[K");
  if (write(STDERR_FILENO, text.data(), text.size()) < 0) return;
}

}  // namespace

std::string FormatBytes(double bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < std::size(kUnits)) bytes /= 1024, ++unit;
  return absl::StrFormat("%.*f %s", unit == 0 ? 0 : 1, bytes, kUnits[unit]);
}

std::string FormatProgress(uint64_t done, std::optional<uint64_t> total, absl::Duration elapsed,
                           int width) {
  const double seconds = absl::ToDoubleSeconds(elapsed);
  const double rate = seconds > 0 ? done / seconds : 0;
  std::string numbers = absl::StrCat(FormatBytes(done), "  ", FormatBytes(rate), "/s");
  std::string share;
  if (total.has_value() && *total > 0) {
    const double part = std::min(1.0, static_cast<double>(done) / *total);
    share = absl::StrFormat("%3d%% ", static_cast<int>(part * 100));
    if (rate > 0) absl::StrAppend(&numbers, "  ETA ", FormatTime((1 - part) * *total / rate));
    const int room = width - static_cast<int>(share.size() + numbers.size()) - 4;
    const int bar = std::min(room, kWidestBar);
    if (bar >= kNarrowestBar) {
      const int full = static_cast<int>(part * bar);
      absl::StrAppend(&share, "[", std::string(full, '='), std::string(bar - full, ' '), "] ");
    }
  }
  return absl::StrCat(share, numbers).substr(0, std::max(width - 1, 0));
}

Progress::Progress()
    : shown_(isatty(STDERR_FILENO)), start_(absl::Now()), next_(start_ + kRedraw) {}

Progress::~Progress() {
  if (shown_) Draw("");
}

void Progress::Update(uint64_t done, std::optional<uint64_t> total) {
  if (!shown_) return;
  const absl::Time now = absl::Now();
  if (now < next_) return;
  next_ = now + kRedraw;
  Draw(FormatProgress(done, total, now - start_, TerminalWidth()));
}

}  // namespace argosy::hatch
