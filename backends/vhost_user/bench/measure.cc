// SPDX-License-Identifier: Apache-2.0
// vhost-user-measure: one figure of one vhost-user vsock device, or of a plain AF_UNIX pair.
//
//   vhost-user-measure --device PATH --what host-to-guest --size 65536 --seconds 1
//
// Starts the device, is its VMM and its guest (linux_guest.h) and the programs of the host, and
// prints lines of a name and a number.  Exit 0, 1 if the device failed, 2 for a wrong command line.
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "backends/vhost_user/bench/linux_guest.h"
#include "backends/vhost_user/testing/device_process.h"
#include "transport/error.h"
#include "transport/testing/listen_unix.h"
#include "transport/testing/temporary_directory.h"
#include "transport/unique_fd.h"

namespace argosy::vhost_user {
namespace {

constexpr int kExitFailed = 1, kExitUsage = 2;
constexpr uint32_t kGuestPort = 1234, kHostPort = 5678;
constexpr size_t kReadBuffer = 64 * 1024;
constexpr size_t kPing = 64;
// A device that is silent for so long has failed.
constexpr timeval kPatience = {10, 0};

struct Options {
  std::string device;
  std::string what;
  uint32_t size = 65536;
  double seconds = 1;
  int count = 1000;
};

void Print(const char* name, double value) { printf("%s %.9g\n", name, value); }

// A program that reads or writes without end, in a thread.
class Program {
 public:
  // Writes `size` bytes again and again; 0: reads.
  Program(UniqueFd fd, size_t size) : fd_(std::move(fd)), thread_([this, size] { Run(size); }) {}
  ~Program() {
    // Wakes it from its system call.
    shutdown(fd_.get(), SHUT_RDWR);
    thread_.join();
  }
  uint64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }
  absl::Duration CpuTime() {
    clockid_t clock;
    timespec time;
    if (pthread_getcpuclockid(thread_.native_handle(), &clock) != 0 ||
        clock_gettime(clock, &time) != 0) {
      return absl::ZeroDuration();
    }
    return absl::DurationFromTimespec(time);
  }

 private:
  void Run(size_t size) {
    std::vector<char> buffer(size == 0 ? kReadBuffer : size);
    for (;;) {
      const ssize_t n = size == 0 ? read(fd_.get(), buffer.data(), buffer.size())
                                  : write(fd_.get(), buffer.data(), buffer.size());
      if (n <= 0) return;
      bytes_.store(bytes() + static_cast<uint64_t>(n), std::memory_order_relaxed);
    }
  }

  const UniqueFd fd_;
  std::atomic<uint64_t> bytes_ = 0;
  std::thread thread_;
};

// What is counted during `seconds`, once it flows.
struct Window {
  double bytes_per_second;
  std::vector<double> cpu;  // of each clock, in seconds
  double bytes;
};
absl::StatusOr<Window> Watch(double seconds, const std::function<uint64_t()>& bytes,
                             const std::vector<std::function<absl::Duration()>>& clocks) {
  const absl::Time patience = absl::Now() + absl::DurationFromTimeval(kPatience);
  while (bytes() == 0) {
    if (absl::Now() > patience) return ErrnoError(ETIMEDOUT, "nothing arrives");
    absl::SleepFor(absl::Milliseconds(1));
  }
  absl::SleepFor(absl::Seconds(seconds) / 10);
  std::vector<absl::Duration> before;
  for (const auto& clock : clocks) before.push_back(clock());
  const uint64_t first = bytes();
  const absl::Time begin = absl::Now();
  absl::SleepFor(absl::Seconds(seconds));
  const auto carried = static_cast<double>(bytes() - first);
  const double took = absl::ToDoubleSeconds(absl::Now() - begin);
  if (carried == 0) return ErrnoError(ETIMEDOUT, "the stream has stalled");
  Window window = {carried / took, {}, carried};
  for (size_t i = 0; i < clocks.size(); ++i) {
    window.cpu.push_back(absl::ToDoubleSeconds(clocks[i]() - before[i]) / took);
  }
  return window;
}

// A device with its guest.
struct Bed {
  std::unique_ptr<TemporaryDirectory> folder = std::make_unique<TemporaryDirectory>();
  std::unique_ptr<DeviceProcess> device;
  std::unique_ptr<LinuxGuest> guest;

  static absl::StatusOr<Bed> Start(const Options& options, const LinuxGuest::Options& wanted) {
    Bed bed;
    if (absl::Status s = bed.StartDevice(options.device); !s.ok()) return s;
    if (absl::Status s = bed.StartGuest(wanted); !s.ok()) return s;
    return bed;
  }
  std::string vmm_path() const { return folder->path() + "/vmm"; }
  std::string uds_path() const { return folder->path() + "/uds"; }
  absl::Status StartDevice(const std::string& program) {
    auto started = DeviceProcess::Start(
        program, {"--guest-cid", "3", "--socket", vmm_path(), "--uds-path", uds_path()},
        folder->path() + "/log");
    if (!started.ok()) return started.status();
    device = *std::move(started);
    return absl::OkStatus();
  }
  absl::StatusOr<UniqueFd> Dial(const std::string& path) const {
    return device->Dial(path, absl::Now() + absl::DurationFromTimeval(kPatience));
  }
  absl::Status StartGuest(const LinuxGuest::Options& wanted) {
    auto vmm = Dial(vmm_path());
    if (!vmm.ok()) return vmm.status();
    auto started = LinuxGuest::Start(*std::move(vmm), wanted);
    if (!started.ok()) return started.status();
    guest = *std::move(started);
    return absl::OkStatus();
  }
  // Why nothing comes: what the guest has against the device, if it has something.
  absl::Status Explain(const absl::Status& status) const {
    return !status.ok() && guest->failed() ? guest->failure() : status;
  }
  // A client that has been told OK.
  absl::StatusOr<UniqueFd> Connect() {
    auto fd = Dial(uds_path());
    if (!fd.ok()) return fd;
    setsockopt(fd->get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof(kPatience));
    const std::string line = absl::StrCat("CONNECT ", kGuestPort, "\n");
    if (write(fd->get(), line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
      return SystemError(errno, "writing CONNECT");
    }
    char answer[32];
    const ssize_t n = read(fd->get(), answer, sizeof(answer));
    if (n < 0) return SystemError(errno, "waiting for OK");
    if (n < 4 || answer[0] != 'O' || answer[n - 1] != '\n') {
      return ErrnoError(ECONNRESET, "no OK, but a hang-up");
    }
    return fd;
  }
};

absl::Status Ping(int fd) {
  char bytes[kPing] = {};
  if (write(fd, bytes, sizeof(bytes)) != sizeof(bytes)) return SystemError(errno, "writing");
  for (size_t got = 0; got < sizeof(bytes);) {
    const ssize_t n = read(fd, bytes, sizeof(bytes) - got);
    if (n <= 0) return n < 0 ? SystemError(errno, "reading") : ErrnoError(ECONNRESET, "hang-up");
    got += static_cast<size_t>(n);
  }
  return absl::OkStatus();
}

void PrintWindow(const Window& window) {
  Print("mib_per_second", window.bytes_per_second / (1 << 20));
  if (window.cpu.size() < 3) return;
  Print("cpu_seconds_per_gib", window.cpu[0] / (window.bytes_per_second / (1 << 30)));
  Print("device_busy", window.cpu[0]);
  Print("guest_busy", window.cpu[1]);
  Print("program_busy", window.cpu[2]);
}

absl::Status HostToGuest(const Options& options) {
  auto bed = Bed::Start(options, {});
  if (!bed.ok()) return bed.status();
  auto fd = bed->Connect();
  if (!fd.ok()) return bed->Explain(fd.status());
  Program program(*std::move(fd), options.size);
  auto window = Watch(options.seconds, [&] { return bed->guest->received(); },
                      {[&] { return bed->device->CpuTime(); },
                       [&] { return bed->guest->CpuTime(); }, [&] { return program.CpuTime(); }});
  if (window.ok()) PrintWindow(*window);
  return bed->Explain(window.status());
}

absl::Status GuestToHost(const Options& options) {
  Bed bed;
  if (absl::Status s = bed.StartDevice(options.device); !s.ok()) return s;
  const UniqueFd listener = ListenUnix(absl::StrCat(bed.uds_path(), "_", kHostPort), SOCK_STREAM);
  setsockopt(listener.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof(kPatience));
  absl::Status started = bed.StartGuest({.send_to = kHostPort, .write_size = options.size});
  if (!started.ok()) return started;
  UniqueFd fd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!fd.valid()) return SystemError(errno, "the guest does not connect");
  Program program(std::move(fd), 0);
  auto window = Watch(options.seconds, [&] { return program.bytes(); },
                      {[&] { return bed.device->CpuTime(); }, [&] { return bed.guest->CpuTime(); },
                       [&] { return program.CpuTime(); }});
  if (window.ok()) PrintWindow(*window);
  return bed.Explain(window.status());
}

absl::Status Pair(const Options& options) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
    return SystemError(errno, "socketpair");
  }
  Program reader(UniqueFd(pair[0]), 0);
  Program writer(UniqueFd(pair[1]), options.size);
  auto window = Watch(options.seconds, [&] { return reader.bytes(); }, {});
  if (window.ok()) PrintWindow(*window);
  return window.status();
}

absl::Status RoundTrip(const Options& options) {
  auto bed = Bed::Start(options, {.echo = true});
  if (!bed.ok()) return bed.status();
  auto fd = bed->Connect();
  if (!fd.ok()) return bed->Explain(fd.status());
  for (int i = 0; i < 100; ++i) {
    if (absl::Status s = Ping(fd->get()); !s.ok()) return s;
  }
  std::vector<int64_t> ns;
  const absl::Time end = absl::Now() + absl::Seconds(options.seconds);
  for (absl::Time begin = absl::Now(); begin < end;) {
    if (absl::Status s = Ping(fd->get()); !s.ok()) return bed->Explain(s);
    const absl::Time now = absl::Now();
    ns.push_back(absl::ToInt64Nanoseconds(now - begin));
    begin = now;
  }
  std::sort(ns.begin(), ns.end());
  Print("p50_us", static_cast<double>(ns[ns.size() / 2]) / 1000);
  Print("p99_us", static_cast<double>(ns[ns.size() * 99 / 100]) / 1000);
  return absl::OkStatus();
}

absl::Status Connections(const Options& options) {
  auto bed = Bed::Start(options, {});
  if (!bed.ok()) return bed.status();
  uint64_t done = 0;
  const absl::Time begin = absl::Now();
  const absl::Time end = begin + absl::Seconds(options.seconds);
  const absl::Duration cpu = bed->device->CpuTime();
  while (done == 0 || absl::Now() < end) {
    if (auto fd = bed->Connect(); !fd.ok()) {
      return Annotate(bed->Explain(fd.status()), absl::StrCat("connection ", done));
    }
    ++done;
  }
  Print("per_second", static_cast<double>(done) / absl::ToDoubleSeconds(absl::Now() - begin));
  Print("cpu_us_each",
        absl::ToDoubleMicroseconds(bed->device->CpuTime() - cpu) / static_cast<double>(done));
  return absl::OkStatus();
}

absl::Status Idle(const Options& options) {
  auto bed = Bed::Start(options, {.echo = true});
  if (!bed.ok()) return bed.status();
  std::vector<UniqueFd> clients;
  // Used once, then idle: what a few bytes leave behind counts as well.
  const auto add = [&]() -> absl::Status {
    auto fd = bed->Connect();
    if (!fd.ok()) return fd.status();
    clients.push_back(*std::move(fd));
    return Ping(clients.back().get());
  };
  // The first one may cost what all share.
  if (absl::Status s = add(); !s.ok()) return s;
  auto before = bed->device->MemoryKiB();
  if (!before.ok()) return before.status();
  for (int i = 0; i < options.count; ++i) {
    if (absl::Status s = add(); !s.ok())
      return Annotate(bed->Explain(s), absl::StrCat("connection ", i));
  }
  auto after = bed->device->MemoryKiB();
  if (!after.ok()) return after.status();
  const absl::Duration cpu = bed->device->CpuTime();
  absl::SleepFor(absl::Seconds(options.seconds));
  Print("kib_each", static_cast<double>(*after - *before) / options.count);
  Print("idle_cpu_ms", absl::ToDoubleMilliseconds(bed->device->CpuTime() - cpu));
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  const std::vector<std::pair<std::string, absl::Status (*)(const Options&)>> figures = {
      {"host-to-guest", HostToGuest},
      {"guest-to-host", GuestToHost},
      {"round-trip", RoundTrip},
      {"connections", Connections},
      {"idle", Idle},
      {"pair", Pair}};
  std::vector<std::string> names;
  for (const auto& [name, measure] : figures) names.push_back(name);
  Options options;
  CLI::App app{"One figure of a vhost-user vsock device, or of a plain AF_UNIX pair."};
  app.add_option("--device", options.device, "its program; not for pair");
  app.add_option("--what", options.what, "the figure")->required()->check(CLI::IsMember(names));
  app.add_option("--size", options.size, "bytes of each write (default: 65536)")
      ->check(CLI::Range(1, 65536));
  app.add_option("--seconds", options.seconds, "how long (default: 1)")->check(CLI::PositiveNumber);
  app.add_option("--count", options.count, "idle connections (default: 1000)")
      ->check(CLI::Range(1, 100000));
  try {
    app.parse(argc, argv);
    if (options.device.empty() && options.what != "pair") throw CLI::RequiredError("--device");
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help
    fprintf(stderr, "vhost-user-measure: %s (try --help)\n", e.what());
    return kExitUsage;
  }
  signal(SIGPIPE, SIG_IGN);
  // The device inherits it: a descriptor or more for each connection.
  rlimit files;
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  for (const auto& [name, measure] : figures) {
    if (name != options.what) continue;
    if (absl::Status s = measure(options); !s.ok()) {
      fprintf(stderr, "vhost-user-measure: %s: %s\n", name.c_str(),
              std::string(s.message()).c_str());
      return kExitFailed;
    }
  }
  return 0;
}

}  // namespace
}  // namespace argosy::vhost_user

int main(int argc, char** argv) { return argosy::vhost_user::Main(argc, argv); }
