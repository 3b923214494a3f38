// SPDX-License-Identifier: Apache-2.0
// argo-raw-agent: issues hypercalls in its domain for a test program in another one.
//
//   argo-raw-agent     listens on port 7000 and goes on in the background, one connection after the
//                      other; what goes wrong there is told on the console
//
// Each connection has the device to itself, from the beginning: rings and pages of the one before
// are gone.
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nested-test/hypercalls/device.h"
#include "nested-test/hypercalls/remote.h"
#include "transport/error.h"
#include "transport/unique_fd.h"

namespace argosy::nested {
namespace {

// Answers one request, the pages of which are in place.
absl::Status Answer(ArgoDevice& device, const Request& request, SharedPages& pages, int fd) {
  Reply reply;
  std::vector<uint64_t> gfns;
  switch (request.op) {
    case RemoteOp::kDomid:
      reply.value = device.domid();
      break;
    case RemoteOp::kAllocate: {
      absl::StatusOr<std::vector<uint64_t>> got = device.Allocate(request.address, request.count);
      if (!got.ok()) return got.status();
      gfns = *std::move(got);
      pages.Add(request.address, request.count);
      break;
    }
    case RemoteOp::kArgoOp: {
      const absl::StatusOr<int> result = device.ArgoOp(request.call);
      if (!result.ok()) return result.status();
      reply.result = *result;
      break;
    }
    case RemoteOp::kInterrupts: {
      const absl::StatusOr<uint64_t> count = device.TakeInterrupts();
      if (!count.ok()) return count.status();
      reply.value = *count;
      break;
    }
    case RemoteOp::kSync:
      break;
  }
  std::string changes;
  reply.pages = pages.TakeChanges(&changes);
  reply.count = gfns.size();
  std::string out(reinterpret_cast<const char*>(&reply), sizeof(reply));
  out += changes;
  out.append(reinterpret_cast<const char*>(gfns.data()), gfns.size() * sizeof(uint64_t));
  return WriteAll(fd, out.data(), out.size());
}

// Until the connection ends or something fails.
absl::Status Serve(int fd) {
  absl::StatusOr<std::unique_ptr<ArgoDevice>> device = ArgoDevice::Open();
  if (!device.ok()) return device.status();
  SharedPages pages;
  while (true) {
    Request request;
    absl::Status status = ReadAll(fd, &request, sizeof(request));
    if (!status.ok()) return ErrnoOf(status) == ECONNRESET ? absl::OkStatus() : status;
    status = pages.Apply(fd, request.pages);
    if (status.ok()) status = Answer(**device, request, pages, fd);
    if (!status.ok()) return status;
  }
}

absl::StatusOr<UniqueFd> Listen() {
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return SystemError(errno, "socket");
  const int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(kAgentPort);
  if (bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    return SystemError(errno, "bind");
  }
  if (listen(fd.get(), 4) != 0) return SystemError(errno, "listen");
  return fd;
}

absl::Status Run() {
  // VIRQ_ARGO comes to vCPU 0.  What runs there sees every interrupt that was raised before it.
  cpu_set_t cpu;
  CPU_ZERO(&cpu);
  CPU_SET(0, &cpu);
  if (sched_setaffinity(0, sizeof(cpu), &cpu) != 0) return SystemError(errno, "sched_setaffinity");
  const absl::StatusOr<UniqueFd> listener = Listen();
  if (!listener.ok()) return listener.status();
  const pid_t background = fork();
  if (background < 0) return SystemError(errno, "fork");
  if (background > 0) _exit(EXIT_SUCCESS);
  setsid();
  if (freopen("/dev/null", "w", stdout) == nullptr ||
      freopen("/dev/console", "w", stderr) == nullptr) {
    return SystemError(errno, "/dev/console");
  }
  while (true) {
    const UniqueFd fd(accept4(listener->get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!fd.valid()) return SystemError(errno, "accept");
    const int on = 1;
    setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    const absl::Status status = Serve(fd.get());
    if (!status.ok()) fprintf(stderr, "argo-raw-agent: %s\n", status.ToString().c_str());
  }
}

}  // namespace
}  // namespace argosy::nested

int main() {
  const absl::Status status = argosy::nested::Run();
  fprintf(stderr, "argo-raw-agent: %s\n", status.ToString().c_str());
  return EXIT_FAILURE;
}
