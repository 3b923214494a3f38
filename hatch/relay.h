// SPDX-License-Identifier: Apache-2.0
// File: hatch/relay.h
//
// Pipe mode: standard input to a socket and the socket to standard output, until both directions
// have ended.
#ifndef ARGOSY_HATCH_RELAY_H_
#define ARGOSY_HATCH_RELAY_H_

#include "absl/status/status.h"
#include "hatch/session.h"
#include "transport/transport.h"

namespace argosy::hatch {

// One connection, STREAM or SEQPACKET.  OK: both directions ended cleanly and nothing was left
// unsent.
absl::Status Relay(const Session& session, Socket& socket);

// Datagrams: each read of standard input is one.  Connected (`to` given) it talks to that peer
// only; otherwise to the first one that sends something, and with -k to whoever sent last.  A
// datagram conversation has no end: -w or a signal ends it, and with --send-only the end of input.
absl::Status RelayDatagrams(const Session& session, DatagramSocket& socket, const Address* to);

}  // namespace argosy::hatch

#endif  // ARGOSY_HATCH_RELAY_H_
