// SPDX-License-Identifier: Apache-2.0
// Waiting without sleeping: for a descriptor, with a deadline, while the other side may live on
// this very thread.
#ifndef ARGOSY_BACKENDS_VHOST_USER_TESTING_WAIT_H_
#define ARGOSY_BACKENDS_VHOST_USER_TESTING_WAIT_H_

#include <functional>

#include "absl/time/time.h"

namespace argosy::vhost_user {

// Lets a device in this process work; none if the device is another process.
using Pump = std::function<void()>;

// True once `fd` is readable or hung up, false at the deadline.  With a pump it alternates between
// pumping and looking, else it waits in poll().
bool WaitReadable(int fd, absl::Time deadline, const Pump& pump);

}  // namespace argosy::vhost_user

#endif  // ARGOSY_BACKENDS_VHOST_USER_TESTING_WAIT_H_
