// SPDX-License-Identifier: Apache-2.0
// File: sim/simulation/tally.h
//
// What a simulation does to a machine (faults), what it holds it to (oracles), and how often it
// did either.
#ifndef ARGOSY_SIM_SIMULATION_TALLY_H_
#define ARGOSY_SIM_SIMULATION_TALLY_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace argosy::sim {

enum class Fault : uint8_t {
  // Interrupts.
  kInterruptDelayed,
  kInterruptLost,
  kInterruptCoalesced,
  // Xen.
  kRingFull,
  kNoPlaceToWait,
  kOutOfMemory,
  kRegistrationRefused,
  // Domains.
  kKilled,
  kKilledUnannounced,
  kRestarted,
  kPaused,
  kOwnPointersCorrupted,
  // Programs.
  kReaderStalled,
  kReset,
  kStoppedReading,
  kLeft,
  kListenerClosed,
  // Time.
  kClockAhead,
  kClockBack,
  // A hostile domain.
  kBadLength,
  kUnknownType,
  kCreditLie,
  kForgedSource,
  kForgedConnection,
  kBadGreeting,
  kGreetingFlood,
  kRequestFlood,
  kJunk,
  kNeverDrains,
  kCount
};
inline constexpr size_t kFaults = static_cast<size_t>(Fault::kCount);

enum class Oracle : uint8_t {
  kPrefix,             // what was received is an exact prefix of what was sent
  kNothingAfterEnd,    // no data, no call at all, behind the end of a connection
  kMessages,           // messages arrive whole, one by one, with their record marks
  kCredit,             // no byte on the way that the receiver had not promised room for
  kBounds,             // every queue is within its limit
  kSendersWake,        // once the faults stop, whoever waits goes on, and everything ends
  kProgress,           // a domain under attack still moves its other connections' data
  kNoLeak,             // at the end nothing is left: connections, budget, timers, queues
  kWholeAtEndOfFile,   // end-of-file means that all has come
  kCleanIsWhole,       // a clean end means that the peer has all
  kEndExplained,       // a connection that did not end well had a reason to
  kDatagrams,          // a datagram comes at most once, whole, from its sender
  kPartnersMeet,       // once the faults stop, all living domains have sessions again
  kNobodyNeedsTimers,  // then data goes to and fro although no time passes
  kCount
};
inline constexpr size_t kOracles = static_cast<size_t>(Oracle::kCount);

// As people read them.
absl::string_view Name(Fault fault);
absl::string_view Name(Oracle oracle);

// Plain numbers: they go from worker to parent through a pipe.
struct Tally {
  std::array<uint64_t, kFaults> faults = {};
  std::array<uint64_t, kOracles> oracles = {};
  uint64_t packets = 0;     // delivered to an endpoint
  uint64_t bytes = 0;       // taken by programs
  uint64_t virtual_ms = 0;  // time that passed in the machines

  void Add(const Tally& other);
};

}  // namespace argosy::sim

#endif  // ARGOSY_SIM_SIMULATION_TALLY_H_
