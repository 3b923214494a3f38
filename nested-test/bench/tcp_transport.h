// SPDX-License-Identifier: Apache-2.0
// File: nested-test/bench/tcp_transport.h
//
// TCP behind the socket contract, so that the code of `hatch perf` measures it: the same system calls
// in the same order as over AF_VSOCK.  A benchmark's tool: streams only, and an address's "CID" is an
// IPv4 address.
#ifndef ARGOSY_NESTED_TEST_BENCH_TCP_TRANSPORT_H_
#define ARGOSY_NESTED_TEST_BENCH_TCP_TRANSPORT_H_

#include <memory>

#include "transport/transport.h"

namespace argosy {

std::unique_ptr<Transport> MakeTcpTransport();

}  // namespace argosy

#endif  // ARGOSY_NESTED_TEST_BENCH_TCP_TRANSPORT_H_
