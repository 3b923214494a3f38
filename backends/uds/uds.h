// SPDX-License-Identifier: Apache-2.0
// File: backends/uds/uds.h
//
// The host's side of one virtual machine whose vsock device serves UNIX sockets (hybrid vsock).
#ifndef ARGOSY_BACKENDS_UDS_UDS_H_
#define ARGOSY_BACKENDS_UDS_UDS_H_

#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "transport/transport.h"

namespace argosy {

// uds:PATH.  PATH is what the device was told (our --uds-path, Firecracker's uds_path,
// cloud-hypervisor's socket=): connections to the guest go there, those to SEQPACKET sockets to
// PATH_seqpacket, and those from the guest to the host's port N come to PATH_N.  This side is CID 2,
// the host; every CID from 3 on is the guest.
//
// The device may come and go: it is looked for when something connects, and ENODEV if nobody serves
// PATH, EPROTO if somebody else does.  Beyond the contract, Connect() and Listen() fail with EINVAL
// where PATH with _seqpacket or a port is too long for a socket's path.
//
// EINVAL: no such URI, or PATH is too long.
absl::StatusOr<std::unique_ptr<Transport>> OpenUds(absl::string_view uri);

}  // namespace argosy

#endif  // ARGOSY_BACKENDS_UDS_UDS_H_
