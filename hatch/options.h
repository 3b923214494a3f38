// SPDX-License-Identifier: Apache-2.0
// File: hatch/options.h
//
// The command line of hatch as one struct.
#ifndef ARGOSY_HATCH_OPTIONS_H_
#define ARGOSY_HATCH_OPTIONS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "transport/address.h"

namespace argosy::hatch {

enum class Command { kConnect, kListen, kProbe, kSend, kReceive, kEcho, kPing, kPerf, kPerfServer };

struct Options {
  Command command = Command::kConnect;
  std::string transport;  // a URI; empty: the default
  bool verbose = false;
  absl::Duration wait;  // -w: to connect, and without any data; zero: no limit of ours

  std::string cid;    // as it was written: only the transport knows all names; empty: none was
  uint32_t port = 0;  // to connect to or to listen on
  uint32_t local_port = kPortAny;  // -p of a connector
  bool datagram = false;
  bool seqpacket = false;

  // Pipe mode.
  bool keep_listening = false;
  bool send_only = false;
  bool receive_only = false;
  std::string execute;

  // send, recv.
  std::string file = "-";
  bool overwrite = false;

  // ping, perf.
  uint64_t count = 0;  // round trips
  size_t size = 0;
  absl::Duration duration;
  uint64_t bytes = 0;  // zero: as many as fit into `duration`
  bool reverse = false;
  bool json = false;
};

// Text to print on standard output instead of doing anything: help or the version.
struct Text {
  std::string text;
};

// The command line, or InvalidArgument (EINVAL) with one line that says what is wrong with it.
absl::StatusOr<std::variant<Options, Text>> ParseOptions(int argc, const char* const* argv);

}  // namespace argosy::hatch

#endif  // ARGOSY_HATCH_OPTIONS_H_
