// SPDX-License-Identifier: Apache-2.0
// The contract's behaviours over loopback:, between two transports in one directory.
#include "absl/strings/str_cat.h"
#include "backends/loopback/loopback.h"
#include "transport/testing/contract_tests.h"
#include "transport/testing/temporary_directory.h"

namespace argosy {
namespace {

absl::StatusOr<ContractEnds> OpenTwoEnds() {
  auto directory = std::make_shared<TemporaryDirectory>();
  const std::string uri = absl::StrCat("loopback:", directory->path());
  absl::StatusOr<std::unique_ptr<Transport>> server = OpenLoopback(uri);
  if (!server.ok()) return server.status();
  absl::StatusOr<std::unique_ptr<Transport>> client = OpenLoopback(uri);
  if (!client.ok()) return client.status();
  return ContractEnds{*std::move(server), *std::move(client), std::move(directory)};
}

INSTANTIATE_TEST_SUITE_P(Loopback, ContractTest, testing::Values(ContractSetup{&OpenTwoEnds}));

}  // namespace
}  // namespace argosy
