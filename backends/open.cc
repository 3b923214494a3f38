// SPDX-License-Identifier: Apache-2.0
#include "backends/open.h"

#include <cerrno>
#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "backends/kernel/kernel.h"
#include "backends/loopback/loopback.h"
#include "backends/sim/sim_transport.h"
#include "backends/uds/uds.h"
#include "sim/control.h"
#include "transport/error.h"

namespace argosy {
namespace {

struct Scheme {
  absl::string_view name;  // with its colon
  absl::string_view usage;
  absl::StatusOr<std::unique_ptr<Transport>> (*open)(absl::string_view uri);
};

constexpr Scheme kSchemes[] = {
    {"loopback:", "loopback:[DIR]", &OpenLoopback},
    {"kernel:", "kernel:", &OpenKernel},
    {"sim:", "sim:SOCKET?domain=NAME", &OpenSim},
    {"uds:", "uds:PATH", &OpenUds},
};

// A port at which nobody is likely to listen: being refused is the answer that is wanted.
constexpr uint32_t kProbePort = 0xFFFFFF00;

// Whether the kernel's AF_VSOCK answers under this machine's own CID (CID 1 if it has no other).  A
// module that is loaded but carries nothing does not.
bool KernelAnswers() {
  const absl::StatusOr<std::unique_ptr<Transport>> kernel = OpenTransport("kernel:");
  if (!kernel.ok()) return false;
  const absl::StatusOr<uint32_t> own = (*kernel)->LocalCid();
  if (!own.ok()) return false;
  const absl::StatusOr<Socket> probe = ConnectBlocking(
      **kernel, {*own, kProbePort}, SocketType::kStream, {.timeout = absl::Seconds(1)});
  if (probe.ok() || ErrnoOf(probe.status()) == ECONNRESET) return true;
  // Argo leaves a machine's own CID to vsock_loopback and says so at once where that is not loaded;
  // with a CID of its own the machine has others to talk to.
  return ErrnoOf(probe.status()) == ENODEV && *own != kCidLocal;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Transport>> OpenTransport(absl::string_view uri) {
  for (const Scheme& scheme : kSchemes) {
    if (absl::StartsWith(uri, scheme.name)) return scheme.open(uri);
  }
  return ErrnoError(
      EINVAL, absl::StrCat("'", uri, "' names no transport; use one of: ",
                           absl::StrJoin(kSchemes, ", ", [](std::string* out, const Scheme& s) {
                             absl::StrAppend(out, s.usage);
                           })));
}

absl::StatusOr<std::string> DefaultTransportUri() {
  const char* const wanted = getenv("ARGOSY_TRANSPORT");
  if (wanted != nullptr && wanted[0] != '\0') return std::string(wanted);
  if (KernelAnswers()) return std::string("kernel:");
  const std::string socket = sim::control::DefaultSocket();
  return ErrnoError(
      ENODEV,
      absl::StrCat(
          "this machine has no VM sockets; start a simulated machine with 'argosy-sim' and set "
          "ARGOSY_TRANSPORT='sim:",
          socket, "?domain=dom1' (or, between local processes only, loopback:)"));
}

}  // namespace argosy
