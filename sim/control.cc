// SPDX-License-Identifier: Apache-2.0
#include "sim/control.h"

#include <cstring>

#include "transport/packet/wire.h"

namespace argosy::sim::control {

bool ParseRequest(absl::Span<const uint8_t> record, Request* request, absl::string_view* why) {
  if (record.size() != sizeof(Request)) {
    *why = "a record of the wrong size";
    return false;
  }
  // Enumerations are read as numbers first: a number that is no enumerator must not become one.
  uint32_t kind, verb;
  std::memcpy(&kind, record.data() + offsetof(Request, kind), sizeof(kind));
  std::memcpy(&verb, record.data() + offsetof(Request, verb), sizeof(verb));
  if (kind < static_cast<uint32_t>(Kind::kHello) || kind > static_cast<uint32_t>(Kind::kCommand)) {
    *why = "an unknown request";
    return false;
  }
  if (verb < static_cast<uint32_t>(Verb::kList) || verb > static_cast<uint32_t>(Verb::kResume)) {
    *why = "an unknown command";
    return false;
  }
  std::memcpy(static_cast<void*>(request), record.data(), sizeof(*request));
  if (request->name[kNameSize - 1] != '\0') {
    *why = "a name without end";
    return false;
  }
  const bool has_type = request->kind == Kind::kConnect || request->kind == Kind::kListen;
  if (has_type && request->type != VSOCK_TYPE_STREAM && request->type != VSOCK_TYPE_SEQPACKET) {
    *why = "an unknown socket type";
    return false;
  }
  const bool names_socket = request->kind == Kind::kConnect || request->kind == Kind::kListen ||
                            request->kind == Kind::kBindDatagram;
  if (names_socket && request->id >= kDaemonIds) {
    *why = "a socket id that is the daemon's to choose";
    return false;
  }
  return true;
}

}  // namespace argosy::sim::control
