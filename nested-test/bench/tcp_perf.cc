// SPDX-License-Identifier: Apache-2.0
//
// tcp-perf ADDRESS PORT, tcp-perf --server PORT: `hatch perf` over TCP, with the same options.
#include <cerrno>
#include <memory>
#include <variant>
#include <vector>

#include "hatch/options.h"
#include "hatch/perf.h"
#include "hatch/session.h"
#include "hatch/wait.h"
#include "nested-test/bench/tcp_transport.h"
#include "transport/error.h"

namespace argosy::hatch {
namespace {

absl::Status Main(int argc, char** argv) {
  std::vector<const char*> arguments = {"hatch", "perf"};
  arguments.insert(arguments.end(), argv + 1, argv + argc);
  absl::StatusOr<std::variant<Options, Text>> parsed =
      ParseOptions(static_cast<int>(arguments.size()), arguments.data());
  if (!parsed.ok()) return parsed.status();
  const Options* options = std::get_if<Options>(&*parsed);
  if (options == nullptr) return ConfigurationError("see 'hatch perf --help'");
  const std::unique_ptr<Transport> transport = MakeTcpTransport();
  const Session session = {*options, *transport};
  if (options->command == Command::kPerf) return RunPerf(session);
  const absl::Status status = RunPerfServer(session);
  return ErrnoOf(status) == EINTR ? absl::OkStatus() : status;
}

}  // namespace
}  // namespace argosy::hatch

int main(int argc, char** argv) {
  argosy::hatch::CatchSignals();
  const absl::Status status = argosy::hatch::Main(argc, argv);
  if (!status.ok()) argosy::hatch::Say(status.message());
  return argosy::hatch::ExitCode(status);
}
