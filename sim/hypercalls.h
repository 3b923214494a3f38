// SPDX-License-Identifier: Apache-2.0
// File: sim/hypercalls.h
//
// What one domain can do to Argo: issue argo_op on its own memory and count its interrupts.  The
// tests C01 to C30 are written against this, so that the same source can issue real hypercalls
// under Xen.
#ifndef ARGOSY_SIM_HYPERCALLS_H_
#define ARGOSY_SIM_HYPERCALLS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/strings/string_view.h"
#include "backends/argo/abi/argo.h"

namespace argosy::sim {

// Pages of a domain, contiguous in its own address space.
struct Pages {
  uint8_t* memory = nullptr;   // 4096 * gfns.size() bytes, zeroed
  std::vector<uint64_t> gfns;  // as register_ring wants them
};

class Hypercalls {
 public:
  virtual ~Hypercalls() = default;

  virtual uint16_t domid() const = 0;

  // argo_op.  arg1 and arg2 must lie in memory from AllocatePages() or Allocate() (or be bad on
  // purpose).  Returns what Xen returns, truncated to int: 0 or more, or a negative Linux errno.
  virtual int ArgoOp(uint32_t command, const void* arg1, const void* arg2, uint64_t arg3,
                     uint64_t arg4) = 0;

  // Fresh zeroed pages; they live as long as the domain.
  virtual Pages AllocatePages(size_t count) = 0;
  // Zeroed memory for arguments, 16-byte aligned.
  virtual void* Allocate(size_t size) = 0;

  // VIRQ_ARGO interrupts since the last call, coalesced as the machine coalesces them: 0 for none,
  // 1 or more for any number (the simulator has one pending bit and answers 0 or 1).
  virtual uint64_t TakeInterrupts() = 0;

  // For the fault tests: a frame number that is no memory, one of a device if the domain has any,
  // and an address that no domain may pass.  The 4096 bytes before it are memory that nobody else
  // uses.
  virtual uint64_t InvalidGfn() const = 0;
  virtual std::optional<uint64_t> MmioGfn() const = 0;
  virtual const void* BadPointer() const = 0;
};

// A machine whose domains a test may make and kill.
class HypercallBed {
 public:
  struct Options {
    bool argo = true;                    // argo= on Xen's command line
    std::optional<bool> mac_permissive;  // mac-permissive=; not set: the test takes either
  };
  virtual ~HypercallBed() = default;
  // Null with a reason in *why if this bed cannot (real Xen: another boot, or too many domains);
  // the test is skipped.
  virtual Hypercalls* CreateDomain(absl::string_view* why) = 0;
  // False with a reason if this one cannot be killed.
  virtual bool KillDomain(Hypercalls* domain, absl::string_view* why) = 0;
};

// Made by the bed that the test binary is linked with.  Null with a reason if it cannot have these
// options.
std::unique_ptr<HypercallBed> MakeHypercallBed(const HypercallBed::Options& options,
                                               absl::string_view* why);

}  // namespace argosy::sim

#endif  // ARGOSY_SIM_HYPERCALLS_H_
