// SPDX-License-Identifier: Apache-2.0
// File: backends/kernel/kernel.h
//
// kernel: AF_VSOCK of the running kernel, whatever carries it there: virtio, vhost, Argo, VMCI,
// Hyper-V or vsock_loopback.
#ifndef ARGOSY_BACKENDS_KERNEL_KERNEL_H_
#define ARGOSY_BACKENDS_KERNEL_KERNEL_H_

#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "transport/transport.h"

namespace argosy {

// EINVAL: not "kernel:".  ENODEV: the kernel has no AF_VSOCK.
absl::StatusOr<std::unique_ptr<Transport>> OpenKernel(absl::string_view uri);

}  // namespace argosy

#endif  // ARGOSY_BACKENDS_KERNEL_KERNEL_H_
