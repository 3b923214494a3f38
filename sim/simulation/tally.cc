// SPDX-License-Identifier: Apache-2.0
#include "sim/simulation/tally.h"

namespace argosy::sim {

absl::string_view Name(Fault fault) {
  switch (fault) {
    case Fault::kInterruptDelayed:
      return "interrupts delayed";
    case Fault::kInterruptLost:
      return "interrupts lost";
    case Fault::kInterruptCoalesced:
      return "interrupts coalesced";
    case Fault::kRingFull:
      return "ring full (EAGAIN)";
    case Fault::kNoPlaceToWait:
      return "no place to wait (EBUSY)";
    case Fault::kOutOfMemory:
      return "send refused (ENOMEM)";
    case Fault::kRegistrationRefused:
      return "registration refused";
    case Fault::kKilled:
      return "domain killed";
    case Fault::kKilledUnannounced:
      return "domain killed, nobody told";
    case Fault::kRestarted:
      return "domain restarted";
    case Fault::kPaused:
      return "domain paused";
    case Fault::kOwnPointersCorrupted:
      return "own ring pointers corrupted";
    case Fault::kReaderStalled:
      return "reader stalled";
    case Fault::kReset:
      return "program resets";
    case Fault::kStoppedReading:
      return "program stops reading";
    case Fault::kLeft:
      return "program leaves";
    case Fault::kListenerClosed:
      return "listener closed";
    case Fault::kClockAhead:
      return "clock jumps ahead";
    case Fault::kClockBack:
      return "clock jumps back";
    case Fault::kBadLength:
      return "hostile: bad length";
    case Fault::kUnknownType:
      return "hostile: unknown type or operation";
    case Fault::kCreditLie:
      return "hostile: credit lie";
    case Fault::kForgedSource:
      return "hostile: forged source CID";
    case Fault::kForgedConnection:
      return "hostile: forged connection";
    case Fault::kBadGreeting:
      return "hostile: greeting of a wrong version";
    case Fault::kGreetingFlood:
      return "hostile: flood of greetings";
    case Fault::kRequestFlood:
      return "hostile: flood of requests";
    case Fault::kJunk:
      return "hostile: arbitrary bytes";
    case Fault::kNeverDrains:
      return "hostile: stops draining";
    case Fault::kCount:
      break;
  }
  return "";
}

absl::string_view Name(Oracle oracle) {
  switch (oracle) {
    case Oracle::kPrefix:
      return "received is a prefix of sent";
    case Oracle::kNothingAfterEnd:
      return "nothing after the end";
    case Oracle::kMessages:
      return "messages whole and in order";
    case Oracle::kCredit:
      return "credit kept";
    case Oracle::kBounds:
      return "queues within bounds";
    case Oracle::kSendersWake:
      return "who waits wakes or fails";
    case Oracle::kProgress:
      return "progress under attack";
    case Oracle::kNoLeak:
      return "nothing left over";
    case Oracle::kWholeAtEndOfFile:
      return "all came before end-of-file";
    case Oracle::kCleanIsWhole:
      return "clean end: the peer has all";
    case Oracle::kEndExplained:
      return "every bad end has a reason";
    case Oracle::kDatagrams:
      return "datagrams whole, once, from their sender";
    case Oracle::kPartnersMeet:
      return "partners meet again";
    case Oracle::kNobodyNeedsTimers:
      return "nobody needs a timer";
    case Oracle::kCount:
      break;
  }
  return "";
}

void Tally::Add(const Tally& other) {
  for (size_t i = 0; i < kFaults; ++i) faults[i] += other.faults[i];
  for (size_t i = 0; i < kOracles; ++i) oracles[i] += other.oracles[i];
  packets += other.packets;
  bytes += other.bytes;
  virtual_ms += other.virtual_ms;
}

}  // namespace argosy::sim
