// SPDX-License-Identifier: Apache-2.0
// The contract's tests over the transport that --uri names (or, for each end its own, --server-uri
// and --client-uri).
#include <cstdio>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "backends/open.h"
#include "transport/testing/contract_tests.h"

namespace argosy {
namespace {

std::string server_uri, client_uri;

absl::StatusOr<ContractEnds> OpenTwoEnds() {
  absl::StatusOr<std::unique_ptr<Transport>> server = OpenTransport(server_uri);
  if (!server.ok()) return server.status();
  absl::StatusOr<std::unique_ptr<Transport>> client = OpenTransport(client_uri);
  if (!client.ok()) return client.status();
  return ContractEnds{*std::move(server), *std::move(client)};
}

INSTANTIATE_TEST_SUITE_P(Uri, ContractTest, testing::Values(ContractSetup{&OpenTwoEnds}));

}  // namespace
}  // namespace argosy

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i < argc; ++i) {
    absl::string_view value = argv[i];
    if (absl::ConsumePrefix(&value, "--uri=")) {
      argosy::server_uri = argosy::client_uri = std::string(value);
    } else if (absl::ConsumePrefix(&value, "--server-uri=")) {
      argosy::server_uri = std::string(value);
    } else if (absl::ConsumePrefix(&value, "--client-uri=")) {
      argosy::client_uri = std::string(value);
    } else {
      fprintf(stderr, "%s: unknown argument; try --uri=kernel:\n", argv[i]);
      return 2;
    }
  }
  return RUN_ALL_TESTS();
}
