// SPDX-License-Identifier: Apache-2.0
// vhost-user-vsock: virtio-vsock devices for virtual machines, in user space.
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "backends/vhost_user/config.h"
#include "backends/vhost_user/host_vm.h"
#include "spdlog/sinks/stdout_color_sinks.h"
#include "spdlog/spdlog.h"
#include "transport/event_loop.h"
#include "transport/stop_signals.h"

namespace argosy::vhost_user {
namespace {

constexpr int kExitFailed = 1, kExitUsage = 2;

int Fail(const absl::Status& status, int code) {
  fprintf(stderr, "vhost-user-vsock: %s\n", std::string(status.message()).c_str());
  return code;
}

int Serve(const std::vector<VmOptions>& configured) {
  signal(SIGPIPE, SIG_IGN);
  // A descriptor for each connection, and some.
  rlimit files;
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  EventLoop loop;
  StopSignals signals;
  if (absl::Status s = loop.Add(signals.fd(), &signals); !s.ok()) return Fail(s, kExitFailed);
  SiblingSwitch siblings;
  std::vector<std::unique_ptr<HostVm>> vms;
  for (const VmOptions& options : configured) {
    absl::StatusOr<std::unique_ptr<HostVm>> vm = HostVm::Create(loop, siblings, options);
    if (!vm.ok()) return Fail(vm.status(), kExitUsage);
    spdlog::info("CID {} at {}", options.guest_cid, options.socket);
    vms.push_back(*std::move(vm));
  }
  spdlog::info("ready");
  while (!signals.stop()) {
    const absl::Time now = absl::Now();
    siblings.Advance(now);
    absl::Time deadline = siblings.NextDeadline();
    for (const std::unique_ptr<HostVm>& vm : vms) {
      vm->Advance(now);
      deadline = std::min(deadline, vm->NextDeadline());
    }
    if (absl::Status s = loop.RunOnce(deadline); !s.ok()) return Fail(s, kExitFailed);
  }
  vms.clear();
  spdlog::info("stopped");
  return 0;
}

int Main(int argc, char** argv) {
  CLI::App app{
      "A virtio-vsock device for each virtual machine whose VMM connects by vhost-user.\n"
      "Takes the command line of vhost-device-vsock: one machine by --guest-cid, --socket and so "
      "on,\n"
      "several by --vm or --config."};
  app.name("vhost-user-vsock");
  app.set_version_flag("-V,--version", "vhost-user-vsock 0.1");
  std::string guest_cid, socket, uds_path, forward_cid, forward_listen, tx_buffer_size, queue_size,
      groups, config_path, log_level = "info";
  std::vector<std::string> vm_texts, allowed, denied;
  bool outbound_only = false;
  uint32_t max_connections = 1024;
  const struct {
    const char* name;
    std::string* value;
    const char* type;
    const char* help;
  } flat[] = {
      {"guest-cid", &guest_cid, "CID", "CID of the machine (default: 3)"},
      {"socket", &socket, "PATH", "UNIX socket to which its VMM connects"},
      {"uds-path", &uds_path, "PATH",
       "UNIX socket for the host's programs; from the guest to port N: PATH_N"},
      {"forward-cid", &forward_cid, "CID",
       "instead of --uds-path: the guest's connections to the host go\n"
       "to this CID by the host's AF_VSOCK; 1 is this host"},
      {"forward-listen", &forward_listen, "PORT+PORT...",
       "with --forward-cid: ports where the host listens, for clients\n"
       "from that CID to reach the same ports of the guest"},
      {"tx-buffer-size", &tx_buffer_size, "BYTES",
       "what the host keeps for a connection whose program does not\n"
       "read, 4096 to 67108864 (default: 262144)"},
      {"queue-size", &queue_size, "N",
       "longest virtqueue, a power of two from 2 to 32768 (default: 1024)"},
      {"groups", &groups, "NAME+NAME...",
       "machines with one in common can connect (default: default)"},
  };
  for (const auto& option : flat) {
    app.add_option(std::string("--") + option.name, *option.value, option.help)
        ->type_name(option.type);
  }
  CLI::Option* const allow = app.add_option(
      "--allow", allowed,
      "connections that may be made: in or out[:CID[:PORT[-PORT]]], with * for any;\n"
      "may be repeated, and of these and --deny the first that fits decides");
  CLI::Option* const deny =
      app.add_option("--deny", denied, "connections that may not, in the same words");
  app.add_flag("--outbound-only", outbound_only,
               "nobody connects to the machine but where a rule allows it");
  CLI::Option* const vm_option =
      app.add_option("--vm", vm_texts,
                     "a machine by the options above without --, such as\n"
                     "guest-cid=4,socket=/tmp/vm4.vmm,uds-path=/tmp/vm4.vsock;\n"
                     "may be repeated");
  vm_option->type_name("KEY=VALUE");
  allow->type_name("RULE");
  deny->type_name("RULE");
  // One value each, or `--vm A B` would be two machines.
  for (CLI::Option* option : {allow, deny, vm_option}) option->allow_extra_args(false);
  app.add_option("--config", config_path, "YAML file with machines, see docs/vhost-user.md")
      ->type_name("FILE");
  app.add_option("--max-connections", max_connections,
                 "most connections of a machine at a time (default: 1024)")
      ->check(CLI::Range(1, 65536));
  app.add_option("--log-level", log_level, "the least that is logged (default: info)")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help, --version
    fprintf(stderr, "vhost-user-vsock: %s (try --help)\n", e.what());
    return kExitUsage;
  }
  spdlog::set_default_logger(spdlog::stderr_color_mt("vhost-user-vsock"));
  spdlog::set_level(spdlog::level::from_str(log_level == "warn" ? "warning" : log_level));

  std::vector<VmOptions> vms;
  VmOptions one;
  bool has_one = false;
  for (const auto& option : flat) {
    // An empty value is one, too: of a shell's variable that is not set.
    if (app.count(std::string("--") + option.name) == 0) continue;
    has_one = true;
    if (absl::Status s = SetKey(option.name, *option.value, &one); !s.ok()) {
      return Fail(s, kExitUsage);
    }
  }
  // Their order on the command line.
  size_t next_allowed = 0, next_denied = 0;
  for (const CLI::Option* option : app.parse_order()) {
    const std::string name = option->get_single_name();
    if (name != "allow" && name != "deny") continue;
    has_one = true;
    const std::string& rule = option == allow ? allowed[next_allowed++] : denied[next_denied++];
    if (absl::Status s = SetKey(name, rule, &one); !s.ok()) return Fail(s, kExitUsage);
  }
  if (outbound_only) has_one = one.outbound_only = true;
  if (has_one + !vm_texts.empty() + !config_path.empty() > 1) {
    return Fail(absl::InvalidArgumentError("--config, --vm and the options of one machine exclude "
                                           "each other"),
                kExitUsage);
  }
  if (has_one) vms.push_back(one);
  for (const std::string& text : vm_texts) {
    absl::StatusOr<VmOptions> vm = ParseVm(text);
    if (!vm.ok()) return Fail(vm.status(), kExitUsage);
    vms.push_back(*std::move(vm));
  }
  if (!config_path.empty()) {
    absl::StatusOr<std::vector<VmOptions>> read = ReadConfig(config_path);
    if (!read.ok()) return Fail(read.status(), kExitUsage);
    vms = *std::move(read);
  }
  if (absl::Status s = CheckVms(vms); !s.ok()) return Fail(s, kExitUsage);
  for (VmOptions& vm : vms) vm.max_connections = max_connections;
  return Serve(vms);
}

}  // namespace
}  // namespace argosy::vhost_user

int main(int argc, char** argv) { return argosy::vhost_user::Main(argc, argv); }
