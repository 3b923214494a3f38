// SPDX-License-Identifier: Apache-2.0
// Runs simulations: one, with its timeline, or many in search of one that finds something.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <new>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "sim/simulation/simulation.h"
#include "transport/unique_fd.h"

namespace argosy::sim {
namespace {

// A simulation takes some hundredths of a second; one that takes longer than this hangs.
constexpr unsigned kMaxSeconds = 120;

// What a worker tells: a seed begins, or it has ended (with a finding, if there is text).  Small
// enough for one write() that no other interrupts.
struct Report {
  uint64_t seed;
  bool ended;
  Tally tally;
  char finding[1024];
};
static_assert(sizeof(Report) <= 4096, "more than PIPE_BUF");

int Replay(uint64_t seed) {
  Simulation simulation(seed, [](const std::string& line) { std::cout << line << '\n'; });
  simulation.Run();
  std::cout.flush();
  if (!std::cout) {
    std::cerr << "simulate: cannot write the timeline\n";
    return 1;
  }
  if (simulation.finding().empty()) return 0;
  std::cerr << "seed " << seed << ": " << simulation.finding() << '\n';
  return 1;
}

void Tell(int fd, const Report& report) {
  if (write(fd, &report, sizeof(report)) != sizeof(report)) _exit(1);
}

// Takes seeds until there are none left.
[[noreturn]] void Work(int fd, std::atomic<uint64_t>& next, uint64_t end) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (uint64_t seed; (seed = next.fetch_add(1)) < end;) {
    Report report = {};
    report.seed = seed;
    Tell(fd, report);
    alarm(kMaxSeconds);
    Simulation simulation(seed, nullptr);
    simulation.Run();
    report.ended = true;
    report.tally = simulation.tally();
    absl::SNPrintF(report.finding, sizeof(report.finding), "%s", simulation.finding());
    Tell(fd, report);
  }
  _exit(0);
}

class Search {
 public:
  Search(uint64_t first, uint64_t count, unsigned jobs)
      : first_(first), count_(count), jobs_(jobs) {
    void* shared = mmap(nullptr, sizeof(std::atomic<uint64_t>), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) throw std::bad_alloc();
    next_ = new (shared) std::atomic<uint64_t>(first);
  }

  int Run() {
    started_ = absl::Now();
    for (unsigned i = 0; i < std::min<uint64_t>(jobs_, count_); ++i) Start();
    while (!workers_.empty()) Wait();
    PrintSummary();
    return findings_ == 0 ? 0 : 1;
  }

 private:
  struct Worker {
    pid_t pid;
    UniqueFd fd;
    std::optional<uint64_t> seed;  // under way
  };

  void Start() {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) throw std::system_error(errno, std::generic_category(), "pipe");
    UniqueFd read_end(fds[0]), write_end(fds[1]);
    const pid_t pid = fork();
    if (pid < 0) throw std::system_error(errno, std::generic_category(), "fork");
    if (pid == 0) Work(write_end.get(), *next_, first_ + count_);
    workers_.push_back({pid, std::move(read_end), std::nullopt});
  }

  void Wait() {
    std::vector<pollfd> fds;
    for (const Worker& worker : workers_) fds.push_back({worker.fd.get(), POLLIN, 0});
    poll(fds.data(), fds.size(), 1000);
    for (size_t i = fds.size(); i-- > 0;) {
      if (fds[i].revents != 0) Hear(i);
    }
    ShowProgress();
  }

  void Hear(size_t i) {
    Worker& worker = workers_[i];
    Report report;
    const ssize_t n = read(worker.fd.get(), &report, sizeof(report));
    if (n == sizeof(report)) {
      if (!report.ended) {
        worker.seed = report.seed;
        return;
      }
      worker.seed.reset();
      ++done_;
      tally_.Add(report.tally);
      if (report.finding[0] != '\0') Find(report.seed, report.finding);
      return;
    }
    int status = 0;
    waitpid(worker.pid, &status, 0);
    const bool crashed = worker.seed.has_value();
    if (crashed) {
      ++done_;
      Find(*worker.seed, WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM
                             ? absl::StrCat("still runs after ", kMaxSeconds, " s")
                         : WIFSIGNALED(status)
                             ? absl::StrCat("crashed: ", strsignal(WTERMSIG(status)))
                             : absl::StrCat("ended with status ", WEXITSTATUS(status)));
    }
    workers_.erase(workers_.begin() + i);
    if (crashed && *next_ < first_ + count_) Start();
  }

  void Find(uint64_t seed, absl::string_view what) {
    ++findings_;
    ClearProgress();
    absl::PrintF("seed %d: %s\n", seed, what);
    std::fflush(stdout);
  }

  // On a terminal one line that is written over, each second; else a line each half minute.
  void ShowProgress() {
    const bool terminal = isatty(STDERR_FILENO);
    const absl::Time now = absl::Now();
    if (now - shown_ < (terminal ? absl::Seconds(1) : absl::Seconds(30))) return;
    if (shown_ == absl::InfinitePast() && !terminal) {
      shown_ = now;
      return;
    }
    shown_ = now;
    absl::FPrintF(stderr, "%s%d of %d seeds, %d findings, %.0f seeds/s%s", terminal ? "\r" : "",
                  done_, count_, findings_, done_ / absl::ToDoubleSeconds(now - started_),
                  terminal ? " " : "\n");
    progress_open_ = terminal;
  }
  void ClearProgress() {
    if (progress_open_) std::fputs("\r\033[K", stderr);
    progress_open_ = false;
  }

  void PrintSummary() {
    ClearProgress();
    std::puts("faults injected");
    for (size_t i = 0; i < kFaults; ++i) {
      absl::PrintF("%14d  %s\n", tally_.faults[i], Name(static_cast<Fault>(i)));
    }
    std::puts("oracles evaluated");
    for (size_t i = 0; i < kOracles; ++i) {
      absl::PrintF("%14d  %s\n", tally_.oracles[i], Name(static_cast<Oracle>(i)));
    }
    rusage usage = {};
    getrusage(RUSAGE_CHILDREN, &usage);
    const double cpu = absl::ToDoubleSeconds(absl::DurationFromTimeval(usage.ru_utime) +
                                             absl::DurationFromTimeval(usage.ru_stime));
    absl::PrintF(
        "%d packets and %.1f MiB delivered in %.1f virtual hours; %.0f s of CPU, %.0f packets/s on "
        "a core, "
        "%.0f s elapsed\n",
        tally_.packets, tally_.bytes / 1048576.0, tally_.virtual_ms / 3.6e6, cpu,
        tally_.packets / cpu, absl::ToDoubleSeconds(absl::Now() - started_));
    absl::PrintF("%d seeds, %d findings\n", done_, findings_);
  }

  const uint64_t first_;
  const uint64_t count_;
  const unsigned jobs_;
  std::atomic<uint64_t>* next_;  // shared with the workers, for the life of the process
  std::vector<Worker> workers_;
  absl::Time started_ = absl::InfinitePast();
  absl::Time shown_ = absl::InfinitePast();
  bool progress_open_ = false;
  uint64_t done_ = 0;
  uint64_t findings_ = 0;
  Tally tally_;
};

int Main(int argc, char** argv) {
  CLI::App app("Simulates whole Xen machines with faults, each decided by one number.", "simulate");
  uint64_t seed = 0, seeds = 2000, first = 1;
  unsigned jobs = std::max(1l, sysconf(_SC_NPROCESSORS_ONLN));
  auto* replay = app.add_option("--seed", seed, "Replay this one and print its timeline");
  auto* many = app.add_option("--seeds", seeds, "Run so many, and print what they find")
                   ->capture_default_str()
                   ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 40));
  many->excludes(replay);
  app.add_option("--first-seed", first, "The first of them")
      ->capture_default_str()
      ->excludes(replay)
      ->check(CLI::Range(uint64_t{0}, uint64_t{1} << 62));
  app.add_option("--jobs", jobs, "Processes at once")
      ->excludes(replay)
      ->check(CLI::Range(1u, 1024u))
      ->default_str("number of cores");
  app.footer("Exit status: 0 nothing found, 1 something found, 2 wrong arguments.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  return replay->count() > 0 ? Replay(seed) : Search(first, seeds, jobs).Run();
}

}  // namespace
}  // namespace argosy::sim

int main(int argc, char** argv) {
  try {
    return argosy::sim::Main(argc, argv);
  } catch (const std::exception& e) {
    std::cerr << "simulate: " << e.what() << '\n';
    return 1;
  }
}
