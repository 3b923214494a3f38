// SPDX-License-Identifier: Apache-2.0
// File: sim/report.h
//
// What an operator sees of a machine.
#ifndef ARGOSY_SIM_REPORT_H_
#define ARGOSY_SIM_REPORT_H_

#include <string>

#include "sim/machine.h"

namespace argosy::sim {

// A table of its domains.
std::string ListDomains(const Machine& machine);
// Every counter that is not 0: of Xen, and of each domain's packets and link.
std::string ListCounters(const Machine& machine);

}  // namespace argosy::sim

#endif  // ARGOSY_SIM_REPORT_H_
