// SPDX-License-Identifier: Apache-2.0
// File: backends/sim/sim_transport.h
//
// The transport sim:PATH?domain=NAME: a program in a domain of a simulated Xen machine
// (//sim:argosy-sim).
#ifndef ARGOSY_BACKENDS_SIM_SIM_TRANSPORT_H_
#define ARGOSY_BACKENDS_SIM_SIM_TRANSPORT_H_

#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "transport/transport.h"

namespace argosy {

// Joins the domain.  EINVAL (URI), ECONNREFUSED (no daemon at PATH), ENODEV (no such domain),
// EPROTO (another version).
absl::StatusOr<std::unique_ptr<Transport>> OpenSim(absl::string_view uri);

}  // namespace argosy

#endif  // ARGOSY_BACKENDS_SIM_SIM_TRANSPORT_H_
