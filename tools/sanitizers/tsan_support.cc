// SPDX-License-Identifier: Apache-2.0
// Suppressions for abseil's own semaphore, which gcc's TSan does not understand.
extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() {
  return "race:absl::*::synchronization_internal::Waiter\n"
         "race:synchronization_internal::Waiter::Post\n";
}
