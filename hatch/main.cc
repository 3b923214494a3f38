// SPDX-License-Identifier: Apache-2.0
//
// hatch: netcat for VM sockets.  Exit codes: 0, 1 (network or peer), 2 (usage or configuration).
#include <cerrno>
#include <cstdio>
#include <memory>
#include <string>
#include <variant>

#include "absl/status/statusor.h"
#include "backends/open.h"
#include "hatch/echo.h"
#include "hatch/options.h"
#include "hatch/perf.h"
#include "hatch/ping.h"
#include "hatch/pipe.h"
#include "hatch/session.h"
#include "hatch/stdio.h"
#include "hatch/transfer.h"
#include "hatch/wait.h"
#include "transport/error.h"

namespace argosy::hatch {
namespace {

absl::Status Run(const Session& session) {
  switch (session.options.command) {
    case Command::kConnect:
      return RunConnect(session);
    case Command::kListen:
      return RunListen(session);
    case Command::kProbe:
      return RunProbe(session);
    case Command::kSend:
      return RunSend(session);
    case Command::kReceive:
      return RunReceive(session);
    case Command::kEcho:
      return RunEcho(session);
    case Command::kPing:
      return RunPing(session);
    case Command::kPerf:
      return RunPerf(session);
    case Command::kPerfServer:
      return RunPerfServer(session);
  }
  return absl::OkStatus();
}

// A signal is the ordinary end of what would never end by itself.
bool EndsBySignal(const Options& options) {
  return options.command == Command::kEcho || options.command == Command::kPerfServer ||
         (options.command == Command::kListen && options.keep_listening);
}

absl::Status Main(int argc, char** argv) {
  absl::StatusOr<std::variant<Options, Text>> parsed = ParseOptions(argc, argv);
  if (!parsed.ok()) return parsed.status();
  if (const Text* text = std::get_if<Text>(&*parsed)) {
    const bool printed = fputs(text->text.c_str(), stdout) >= 0 && fflush(stdout) == 0;
    return printed ? absl::OkStatus() : SystemError(errno, "cannot write to standard output");
  }
  const Options& options = std::get<Options>(*parsed);
  std::string uri = options.transport;
  if (uri.empty()) {
    absl::StatusOr<std::string> chosen = DefaultTransportUri();
    // Nothing to talk through: a matter of configuration, whatever the errno.
    if (!chosen.ok()) return ConfigurationError(chosen.status().message());
    uri = *chosen;
  }
  absl::StatusOr<std::unique_ptr<Transport>> transport = OpenTransport(uri);
  if (!transport.ok()) return transport.status();
  const absl::Status status = Run(Session{options, **transport});
  return EndsBySignal(options) && ErrnoOf(status) == EINTR ? absl::OkStatus() : status;
}

}  // namespace
}  // namespace argosy::hatch

int main(int argc, char** argv) {
  argosy::hatch::OpenMissingStandardStreams();
  argosy::hatch::CatchSignals();
  const absl::Status status = argosy::hatch::Main(argc, argv);
  if (!status.ok()) argosy::hatch::Say(status.message());
  return argosy::hatch::ExitCode(status);
}
