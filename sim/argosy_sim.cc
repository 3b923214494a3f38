// SPDX-License-Identifier: Apache-2.0
// argosy-sim: a simulated Xen machine as a daemon, and the operator's commands to one that runs.
#include <sys/epoll.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "sim/config.h"
#include "sim/control_client.h"
#include "sim/machine.h"
#include "sim/server.h"
#include "spdlog/sinks/stdout_color_sinks.h"
#include "spdlog/spdlog.h"
#include "transport/error.h"
#include "transport/event_loop.h"
#include "transport/stop_signals.h"

namespace argosy::sim {
namespace {

constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;

int Fail(const absl::Status& status, int code) {
  fprintf(stderr, "argosy-sim: %s\n", std::string(status.message()).c_str());
  return code;
}

// A connection takes a descriptor at each of its ends.
void RaiseDescriptorLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

absl::Status MakeDomains(Machine& machine, std::vector<DomainConfig> domains) {
  if (domains.empty()) {
    for (uint16_t id = 0; id < 2; ++id) domains.push_back({.domid = id});
  }
  for (const DomainConfig& domain : domains) {
    if (absl::Status s = machine.Create(domain).status(); !s.ok()) return s;
  }
  return absl::OkStatus();
}

int Serve(const Config& config) {
  RaiseDescriptorLimit();
  signal(SIGPIPE, SIG_IGN);
  EventLoop loop;
  StopSignals signals;
  if (absl::Status s = loop.Add(signals.fd(), &signals); !s.ok()) return Fail(s, kExitFailed);
  Machine machine(config.machine);
  if (absl::Status s = MakeDomains(machine, config.domains); !s.ok()) return Fail(s, kExitUsage);
  Server server(machine, loop);
  if (absl::Status s = server.Start(config.socket); !s.ok()) return Fail(s, kExitUsage);
  std::vector<std::string> names;
  for (const auto& [domid, domain] : machine.domains()) {
    names.push_back(absl::StrCat(domain->name(), " (CID ", domain->cid(), ")"));
  }
  printf("argosy-sim: ready on %s with %s\n", config.socket.c_str(),
         absl::StrJoin(names, ", ").c_str());
  fflush(stdout);
  while (!signals.stop()) {
    if (absl::Status s = server.RunOnce(); !s.ok()) {
      server.Stop("argosy-sim failed");
      return Fail(s, kExitFailed);
    }
  }
  server.Stop("argosy-sim was stopped");
  spdlog::info("stopped");
  return 0;
}

int RunCommand(const std::string& socket, control::Verb verb, const std::string& name) {
  auto client = ControlClient::Open(socket, "");
  if (!client.ok()) return Fail(client.status(), kExitFailed);
  absl::StatusOr<std::string> text = (*client)->Command(verb, name);
  if (!text.ok()) return Fail(text.status(), kExitFailed);
  fputs(text->c_str(), stdout);
  return 0;
}

int Main(int argc, char** argv) {
  CLI::App app{
      "A simulated Xen machine: domains whose programs talk over VM sockets, carried by Argo "
      "rings.\n"
      "Without a command it runs one in the foreground, until SIGTERM.\n"
      "Programs join with the transport URI sim:SOCKET?domain=NAME, for example\n"
      "  hatch -T 'sim:SOCKET?domain=dom1' dom0 1234"};
  app.name("argosy-sim");
  app.set_version_flag("--version", "argosy-sim 0.1");
  std::string socket, config_path, log_level = "info";
  std::vector<std::string> domain_texts;
  int domains = 0;
  uint64_t budget_mib = 0, ring_size = 0;
  bool mac_permissive = false;
  app.add_option("-s,--socket", socket,
                 "control socket (default: " + control::DefaultSocket() + ")")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.add_option("-c,--config", config_path, "YAML file, see docs/simulator.md; flags win over it");
  app.add_option("-n,--domains", domains, "domains dom0 to domN-1 (default: 2)")
      ->check(CLI::Range(1, 128));
  app.add_option("-d,--domain", domain_texts,
                 "a domain as ID=NAME, more or other names than the file's; may be repeated");
  app.add_flag("--mac-permissive", mac_permissive,
               "allow wildcard rings, as Xen's mac-permissive=1");
  app.add_option("--ring-size", ring_size, "bytes of each Argo ring (default: 262144)")
      ->check(CLI::Range(4096, 16777152));
  app.add_option("--buffer-budget", budget_mib,
                 "MiB that all receive buffers may take (default: 4096)")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 30));
  app.add_option("--log-level", log_level, "debug, info, warn or error")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}));
  const struct {
    control::Verb verb;
    const char* name;
    const char* help;
  } commands[] = {
      {control::Verb::kList, "list", "show the domains of a running machine"},
      {control::Verb::kStats, "stats", "show its counters that are not 0"},
      {control::Verb::kCreate, "create", "boot another domain"},
      {control::Verb::kKill, "kill", "kill a domain at once"},
      {control::Verb::kRestart, "restart", "kill a domain and boot it again"},
      {control::Verb::kPause, "pause", "stop a domain's interrupts"},
      {control::Verb::kResume, "resume", "let them go on"},
  };
  std::string name;
  for (const auto& command : commands) {
    CLI::App* sub = app.add_subcommand(command.name, command.help);
    sub->fallthrough();
    if (command.verb != control::Verb::kList && command.verb != control::Verb::kStats) {
      sub->add_option("domain", name, "its name")->required();
    }
  }
  app.require_subcommand(0, 1);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help
    fprintf(stderr, "argosy-sim: %s (try --help)\n", e.what());
    return kExitUsage;
  }
  spdlog::set_default_logger(spdlog::stderr_color_mt("argosy-sim"));
  spdlog::set_level(spdlog::level::from_str(log_level == "warn" ? "warning" : log_level));

  Config config;
  if (!config_path.empty()) {
    absl::StatusOr<Config> read = ReadConfig(config_path);
    if (!read.ok()) return Fail(read.status(), kExitUsage);
    config = *std::move(read);
  }
  if (!socket.empty()) config.socket = socket;
  for (const auto& command : commands) {
    if (app.got_subcommand(command.name)) return RunCommand(config.socket, command.verb, name);
  }
  if (mac_permissive) config.machine.mac_permissive = true;
  if (budget_mib != 0) config.machine.buffer_budget = budget_mib << 20;
  if (domains != 0) {
    config.domains.clear();
    for (int id = 0; id < domains; ++id)
      config.domains.push_back({.domid = static_cast<uint16_t>(id)});
  }
  for (const std::string& text : domain_texts) {
    absl::StatusOr<DomainConfig> domain = ParseDomain(text);
    if (!domain.ok()) return Fail(domain.status(), kExitUsage);
    auto same = std::find_if(config.domains.begin(), config.domains.end(),
                             [&](const DomainConfig& c) { return c.domid == domain->domid; });
    if (same == config.domains.end()) {
      config.domains.push_back(*std::move(domain));
    } else if (!domain->name.empty()) {
      same->name = domain->name;
    }
  }
  if (ring_size != 0) {
    if (config.domains.empty()) config.domains = {{.domid = 0}, {.domid = 1}};
    for (DomainConfig& domain : config.domains)
      domain.ring_size = argo_slots(static_cast<uint32_t>(ring_size));
  }
  return Serve(config);
}

}  // namespace
}  // namespace argosy::sim

int main(int argc, char** argv) { return argosy::sim::Main(argc, argv); }
