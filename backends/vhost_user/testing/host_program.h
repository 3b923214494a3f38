// SPDX-License-Identifier: Apache-2.0
// File: backends/vhost_user/testing/host_program.h
//
// What a program of the host does with its socket, in words that a test can compare.
#ifndef ARGOSY_BACKENDS_VHOST_USER_TESTING_HOST_PROGRAM_H_
#define ARGOSY_BACKENDS_VHOST_USER_TESTING_HOST_PROGRAM_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "backends/vhost_user/testing/wait.h"
#include "transport/unique_fd.h"

namespace argosy::vhost_user {

// What can be read: `size` bytes, or less and what came instead: "<eof>", an error as "<Connection reset
// by peer>", or, at the deadline, "<nothing more>".
std::string Read(const UniqueFd& fd, size_t size, absl::Time deadline, const Pump& pump = nullptr);

// Writes little enough that a socket takes it; a failure of the test if that is not all.
void Write(const UniqueFd& fd, absl::string_view text);

}  // namespace argosy::vhost_user

#endif  // ARGOSY_BACKENDS_VHOST_USER_TESTING_HOST_PROGRAM_H_
