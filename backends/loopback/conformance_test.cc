// SPDX-License-Identifier: Apache-2.0
// The suite over loopback:, between two transports in one directory.
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backends/loopback/loopback.h"
#include "transport/conformance/fixture.h"
#include "transport/testing/temporary_directory.h"

namespace argosy::conformance {
namespace {

absl::StatusOr<Ends> OpenTwoEnds() {
  auto directory = std::make_shared<TemporaryDirectory>();
  const std::string uri = absl::StrCat("loopback:", directory->path());
  absl::StatusOr<std::unique_ptr<Transport>> near = OpenLoopback(uri);
  if (!near.ok()) return near.status();
  absl::StatusOr<std::unique_ptr<Transport>> there = OpenLoopback(uri);
  if (!there.ok()) return there.status();
  absl::StatusOr<std::unique_ptr<FarEnd>> far = FarEnd::OnThread(*std::move(there));
  if (!far.ok()) return far.status();
  return Ends{std::move(directory), *std::move(near), *std::move(far)};
}

INSTANTIATE_CONFORMANCE(Loopback, (Tested{"loopback:", &OpenTwoEnds}));

}  // namespace
}  // namespace argosy::conformance
