// SPDX-License-Identifier: Apache-2.0
// What an idle connection costs the daemon: 8,000 of them, from four programs.  A bound on memory,
// not on time; also run by tools/bench for its figures.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backends/sim/sim_transport.h"
#include "gtest/gtest.h"
#include "sim/testing/daemon.h"
#include "transport/transport.h"

namespace argosy::sim {
namespace {

constexpr int kPrograms = 4;
constexpr int kConnectionsPerProgram = 2000;
constexpr double kLimitKiB = 6;

// The number behind `key` in a file of lines "key: N kB".
long ReadKiB(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.compare(0, key.size() + 1, key + ":") == 0)
      return std::stol(line.substr(key.size() + 1));
  }
  return -1;
}

// A program that connects to itself and then idles until told to go: 'k' on the pipe when it is
// ready, 'x' if it failed.
[[noreturn]] void RunProgram(const Daemon& daemon, uint32_t port, int ready, int go) {
  rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  char answer = 'x';
  std::vector<Socket> sockets;
  auto server = OpenSim(daemon.Uri("dom0"));
  auto client = OpenSim(daemon.Uri("dom1"));
  if (server.ok() && client.ok()) {
    auto listener = (*server)->Listen(port, SocketType::kStream, {});
    for (int i = 0; listener.ok() && i < kConnectionsPerProgram; ++i) {
      auto near = ConnectBlocking(**client, {kCidHost, port}, SocketType::kStream);
      if (!near.ok()) {
        fprintf(stderr, "connection %d: %s\n", i, std::string(near.status().message()).c_str());
        break;
      }
      auto far = AcceptBlocking(**listener);
      if (!far.ok()) break;
      // Used once, then idle: what a byte leaves behind counts as well.
      char byte = 'b';
      if (write(near->fd(), &byte, 1) != 1 || read(far->fd(), &byte, 1) != 1) break;
      sockets.push_back(*std::move(near));
      sockets.push_back(*std::move(far));
    }
    if (sockets.size() == 2 * kConnectionsPerProgram) answer = 'k';
    (void)!write(ready, &answer, 1);
    (void)!read(go, &answer, 1);
  } else {
    (void)!write(ready, &answer, 1);
  }
  _exit(0);
}

TEST(IdleMemory, EightThousandConnections) {
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlim_t needed = 2 * kPrograms * kConnectionsPerProgram + 200;
  if (limit.rlim_max < needed) GTEST_SKIP() << "needs a hard limit of " << needed << " descriptors";
  auto daemon = Daemon::Start({"--domains", "2"});
  ASSERT_TRUE(daemon.ok()) << daemon.status();
  const std::string status = "/proc/" + std::to_string((*daemon)->pid()) + "/status";
  int ready[2], go[2];
  ASSERT_EQ(pipe(ready), 0);
  ASSERT_EQ(pipe(go), 0);
  const long anon = ReadKiB(status, "RssAnon");
  const long slab = ReadKiB("/proc/meminfo", "Slab");
  ASSERT_GT(anon, 0);
  std::vector<pid_t> programs;
  for (int i = 0; i < kPrograms; ++i) {
    const pid_t pid = fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) {
      close(go[1]);
      RunProgram(**daemon, 1000 + 1024 + i, ready[1], go[0]);
    }
    programs.push_back(pid);
  }
  int good = 0;
  for (int i = 0; i < kPrograms; ++i) {
    char answer = 'x';
    ASSERT_EQ(read(ready[0], &answer, 1), 1);
    good += answer == 'k';
  }
  const double connections = kPrograms * kConnectionsPerProgram;
  const double anon_each = (ReadKiB(status, "RssAnon") - anon) / connections;
  const double slab_each = (ReadKiB("/proc/meminfo", "Slab") - slab) / connections;
  close(go[1]);  // all of them end
  for (pid_t pid : programs) waitpid(pid, nullptr, 0);
  close(go[0]);
  close(ready[0]);
  close(ready[1]);
  ASSERT_EQ(good, kPrograms);
  printf(
      "idle connection: RssAnon of the daemon %.2f KiB, kernel memory of the machine (slab) %.2f "
      "KiB\n",
      anon_each, slab_each);
  EXPECT_LE(anon_each, kLimitKiB);
}

}  // namespace
}  // namespace argosy::sim
