// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
// File: backends/argo/abi/abi_facts.h
//
// The interface as two lists of named numbers, each made in a translation unit of its own: from our
// header and from Xen's.
#ifndef ARGOSY_BACKENDS_ARGO_ABI_ABI_FACTS_H_
#define ARGOSY_BACKENDS_ARGO_ABI_ABI_FACTS_H_

#include <cstdint>
#include <map>
#include <string>

namespace argosy::argo {

using AbiFacts = std::map<std::string, uint64_t>;

AbiFacts FactsOfXen();

}  // namespace argosy::argo

#endif  // ARGOSY_BACKENDS_ARGO_ABI_ABI_FACTS_H_
