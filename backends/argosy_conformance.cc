// SPDX-License-Identifier: Apache-2.0
// argosy-conformance: the suite of //transport/conformance between two processes, two guests or two
// hosts.  One runs the agent, the other the cases.
#include <cerrno>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "backends/open.h"
#include "transport/conformance/agent.h"
#include "transport/conformance/behaviour.h"
#include "transport/conformance/fixture.h"
#include "transport/error.h"

namespace argosy::conformance {
namespace {

constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;
constexpr uint32_t kDefaultPort = 6100;

// What the cases run over; set before they do.
std::string client_uri;
std::string column;  // of docs/behaviour.md; empty: the URI's scheme
Address server;

// "sim:/run/argosy/sim.sock?domain=1" -> "sim:".
std::string Column() {
  return column.empty() ? client_uri.substr(0, client_uri.find(':') + 1) : column;
}

absl::StatusOr<Ends> OpenTwoEnds() {
  absl::StatusOr<std::unique_ptr<Transport>> near = OpenTransport(client_uri);
  if (!near.ok()) return near.status();
  absl::StatusOr<Socket> control =
      ConnectBlocking(**near, server, SocketType::kStream, {.timeout = kPatience});
  if (!control.ok()) return Annotate(control.status(), "no argosy-conformance --server");
  absl::StatusOr<std::unique_ptr<FarEnd>> far = FarEnd::Over(*std::move(control));
  if (!far.ok()) return far.status();
  return Ends{nullptr, *std::move(near), *std::move(far)};
}

// Evaluated by InitGoogleTest().
INSTANTIATE_CONFORMANCE(Peers, (Tested{Column(), &OpenTwoEnds}));

int Fail(const absl::Status& status) {
  fprintf(stderr, "argosy-conformance: %s\n", std::string(status.message()).c_str());
  return ErrnoOf(status) == EINVAL ? kExitUsage : kExitFailed;
}

int Serve(const std::string& uri, uint32_t port) {
  absl::StatusOr<std::unique_ptr<Transport>> transport = OpenTransport(uri);
  if (!transport.ok()) return Fail(transport.status());
  absl::StatusOr<std::unique_ptr<Listener>> listener =
      (*transport)->Listen(port, SocketType::kStream, {});
  if (!listener.ok()) return Fail(listener.status());
  printf("argosy-conformance: serving at %s\n", ToString((*listener)->local()).c_str());
  fflush(stdout);
  for (;;) {
    absl::StatusOr<Socket> control = AcceptBlocking(**listener);
    if (!control.ok()) return Fail(control.status());
    // Each case is a session of its own.
    const absl::Status status = Agent(**transport).Serve(control->fd());
    if (!status.ok()) Fail(status);
  }
}

// "dom1" or "3:6100".
absl::StatusOr<Address> ParsePeer(Transport& transport, absl::string_view text) {
  Address address = {0, kDefaultPort};
  if (const size_t colon = text.rfind(':'); colon != absl::string_view::npos) {
    const absl::StatusOr<uint32_t> port = ParsePort(text.substr(colon + 1));
    if (!port.ok()) return port.status();
    address.port = *port;
    text = text.substr(0, colon);
  }
  const absl::StatusOr<uint32_t> cid = transport.Resolve(text);
  if (!cid.ok()) return cid.status();
  address.cid = *cid;
  return address;
}

int RunCases(const std::string& uri, const std::string& peer, std::vector<char*> gtest_arguments) {
  {
    const absl::StatusOr<std::unique_ptr<Transport>> transport = OpenTransport(uri);
    if (!transport.ok()) return Fail(transport.status());
    const absl::StatusOr<Address> address = ParsePeer(**transport, peer);
    if (!address.ok()) return Fail(address.status());
    client_uri = uri;
    server = *address;
  }
  // Better one line now than one for each case.
  if (const absl::Status status = OpenTwoEnds().status(); !status.ok()) return Fail(status);
  int count = static_cast<int>(gtest_arguments.size());
  gtest_arguments.push_back(nullptr);
  testing::InitGoogleTest(&count, gtest_arguments.data());
  const int result = RUN_ALL_TESTS();
  const testing::UnitTest& run = *testing::UnitTest::GetInstance();
  const bool differs = run.ad_hoc_test_result().Failed();
  printf("argosy-conformance: %s to %s: %d passed, %d skipped, %d failed%s\n", uri.c_str(),
         ToString(server).c_str(), run.successful_test_count(), run.skipped_test_count(),
         run.failed_test_count(), differs ? ", not as the table says" : "");
  return result == 0 ? 0 : kExitFailed;
}

int Main(char** argv) {
  std::vector<char*> own, gtest;
  for (char** argument = argv; *argument != nullptr; ++argument) {
    if (argument == argv || !absl::StartsWith(*argument, "--gtest_")) own.push_back(*argument);
    if (argument == argv || absl::StartsWith(*argument, "--gtest_")) gtest.push_back(*argument);
  }
  CLI::App app{
      "Holds a transport to the behaviour of VM sockets, between two processes, guests or hosts.\n"
      "  argosy-conformance --server kernel:            on the one side\n"
      "  argosy-conformance --client kernel: 3          on the other, with the CID of the first\n"
      "--gtest_filter=PATTERN and GoogleTest's other flags choose cases."};
  app.name("argosy-conformance");
  std::string server_uri, uri, peer;
  uint32_t port = kDefaultPort;
  bool scale = false;
  behaviour_file.clear();
  CLI::Option* const serve = app.add_option("--server", server_uri, "serve over this transport");
  app.add_option("--client", uri, "run the cases over this transport")->excludes(serve);
  app.add_option("peer", peer, "the server: CID or name, with :PORT unless it is 6100");
  app.add_option("--port", port, "where the server listens (default: 6100)")->needs(serve);
  app.add_option("--behaviour", behaviour_file,
                 "docs/behaviour.md: fail where it says otherwise of this transport");
  app.add_option("--column", column, "its column there (default: the scheme of the URI)");
  app.add_flag("--scale", scale, "less data (16 MiB for 1 GiB), for emulated machines");
  try {
    app.parse(static_cast<int>(own.size()), own.data());
    if (server_uri.empty() && (uri.empty() || peer.empty())) {
      throw CLI::RequiredError("--server URI, or --client URI PEER,");
    }
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help
    fprintf(stderr, "argosy-conformance: %s (try --help)\n", e.what());
    return kExitUsage;
  }
  RaiseDescriptorLimit();
  if (!scale) a_lot = 1 << 30;
  return server_uri.empty() ? RunCases(uri, peer, gtest) : Serve(server_uri, port);
}

}  // namespace
}  // namespace argosy::conformance

int main(int, char** argv) { return argosy::conformance::Main(argv); }
