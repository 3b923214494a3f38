// SPDX-License-Identifier: Apache-2.0
// The bed for the hypercall tests on a real Xen.
//
// The domains of a test are this one ("local", through /dev/argo_raw) and guests that run
// argo-raw-agent.  The environment says what there is:
//
//   ARGOSY_XEN_COMMANDLINE  how Xen was booted, as `xl info xen_commandline` says
//   ARGOSY_XEN_DOMAINS      the domains, in the order in which tests get them: "local pv=10.0.1.2".
//                           Only dom0 may name others than local.
//   ARGOSY_XEN_DESTROY, ARGOSY_XEN_CREATE
//                           commands that, with a guest's name appended, destroy it, and make it
//                           anew and return when its agent listens
//
// What was killed is made anew when the test ends.  Anything that goes wrong with the rig itself
// ends the program.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "nested-test/hypercalls/device.h"
#include "nested-test/hypercalls/remote.h"
#include "sim/hypercalls.h"
#include "transport/error.h"
#include "transport/unique_fd.h"

namespace argosy::nested {
namespace {

using sim::HypercallBed;
using sim::Hypercalls;
using sim::Pages;

[[noreturn]] void Die(absl::string_view what, const absl::Status& status) {
  fprintf(stderr, "xen_bed: %s: %s\n", std::string(what).c_str(), status.ToString().c_str());
  exit(EXIT_FAILURE);
}
template <typename T>
T OrDie(absl::string_view what, absl::StatusOr<T> value) {
  if (!value.ok()) Die(what, value.status());
  return *std::move(value);
}
void OrDie(absl::string_view what, const absl::Status& status) {
  if (!status.ok()) Die(what, status);
}

const char* Environment(const char* name) {
  const char* const value = getenv(name);
  if (value == nullptr) {
    Die(name, ErrnoError(EINVAL, "not set; see nested-test/hypercalls/README.md"));
  }
  return value;
}

// Memory of a domain, at addresses that are its own in this program and in every agent.
class XenDomain : public Hypercalls {
 public:
  explicit XenDomain(size_t slot) : base_((uint64_t{0x20} + slot) << 40), next_(base_) {}

  Pages AllocatePages(size_t count) override {
    const uint64_t at = std::exchange(next_, next_ + count * SharedPages::kPageSize);
    return {Pointer(at), MapPages(at, count)};
  }
  void* Allocate(size_t size) override {
    size = (size + 15) / 16 * 16;
    if (size > small_left_) {
      small_left_ = std::max(size, kChunk);
      small_ =
          AllocatePages((small_left_ + SharedPages::kPageSize - 1) / SharedPages::kPageSize).memory;
    }
    small_left_ -= size;
    return std::exchange(small_, small_ + size);
  }
  // Beyond any machine's memory.
  uint64_t InvalidGfn() const override { return uint64_t{1} << 36; }
  // A PV domain's frames are all the machine's, and Xen calls none of them a device.  A PVH guest
  // has none.
  std::optional<uint64_t> MmioGfn() const override { return std::nullopt; }
  const void* BadPointer() const override { return Pointer(BadAddress()); }

  // Brings the changes of the test to the domain.
  virtual void Push() = 0;
  // And those of the domain to the test.
  virtual void Pull() = 0;

 protected:
  virtual std::vector<uint64_t> MapPages(uint64_t address, size_t count) = 0;

  // Once the domain takes requests.
  void MapPageBeforeBadPointer() { MapPages(BadAddress() - SharedPages::kPageSize, 1); }

  static uint8_t* Pointer(uint64_t address) {
    return reinterpret_cast<uint8_t*>(static_cast<uintptr_t>(address));
  }
  static uint64_t Number(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer); }

 private:
  static constexpr size_t kChunk = 128 << 10;

  uint64_t BadAddress() const { return base_ + (uint64_t{1} << 39); }

  const uint64_t base_;
  uint64_t next_;
  uint8_t* small_ = nullptr;
  size_t small_left_ = 0;
};

// The other domains of the bed, whose memory a hypercall of one may change.
class Neighbours {
 public:
  virtual ~Neighbours() = default;
  virtual void PushAll() = 0;
  virtual void PullFromOthers(const Hypercalls* caller) = 0;
};

class LocalDomain : public XenDomain {
 public:
  LocalDomain(size_t slot, Neighbours* all)
      : XenDomain(slot), all_(all), device_(OrDie("local", ArgoDevice::Open())) {
    MapPageBeforeBadPointer();
  }

  uint16_t domid() const override { return device_->domid(); }
  int ArgoOp(uint32_t command, const void* arg1, const void* arg2, uint64_t arg3,
             uint64_t arg4) override {
    all_->PushAll();
    const int result =
        OrDie("local", device_->ArgoOp({command, Number(arg1), Number(arg2), arg3, arg4}));
    all_->PullFromOthers(this);
    return result;
  }
  uint64_t TakeInterrupts() override { return OrDie("local", device_->TakeInterrupts()); }
  void Push() override {}
  void Pull() override {}

 protected:
  std::vector<uint64_t> MapPages(uint64_t address, size_t count) override {
    return OrDie("local", device_->Allocate(address, count));
  }

 private:
  Neighbours* const all_;
  const std::unique_ptr<ArgoDevice> device_;
};

class RemoteDomain : public XenDomain {
 public:
  RemoteDomain(size_t slot, Neighbours* all, std::string name, const std::string& address)
      : XenDomain(slot), all_(all), name_(std::move(name)), fd_(Connect(address)) {
    domid_ = static_cast<uint16_t>(Ask({.op = RemoteOp::kDomid}).value);
    MapPageBeforeBadPointer();
  }
  ~RemoteDomain() override {
    for (const auto& [address, size] : mappings_) munmap(Pointer(address), size);
  }

  uint16_t domid() const override { return domid_; }
  int ArgoOp(uint32_t command, const void* arg1, const void* arg2, uint64_t arg3,
             uint64_t arg4) override {
    all_->PushAll();
    const int result =
        Ask({.op = RemoteOp::kArgoOp, .call = {command, Number(arg1), Number(arg2), arg3, arg4}})
            .result;
    all_->PullFromOthers(this);
    return result;
  }
  uint64_t TakeInterrupts() override { return Ask({.op = RemoteOp::kInterrupts}).value; }
  void Push() override {
    std::string changes;
    const uint32_t count = pages_.TakeChanges(&changes);
    if (count != 0) Exchange({.pages = count}, changes);
  }
  void Pull() override { Ask({}); }

  const std::string& name() const { return name_; }

 protected:
  std::vector<uint64_t> MapPages(uint64_t address, size_t count) override {
    const size_t size = count * SharedPages::kPageSize;
    void* const mapped =
        mmap(Pointer(address), size, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) Die(name_, SystemError(errno, "mmap"));
    mappings_.emplace_back(address, size);
    pages_.Add(address, count);
    Ask({.op = RemoteOp::kAllocate, .address = address, .count = count});
    return std::exchange(gfns_, {});
  }

 private:
  UniqueFd Connect(const std::string& address) {
    sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_port = htons(kAgentPort);
    if (inet_pton(AF_INET, address.c_str(), &to.sin_addr) != 1) {
      Die(name_, ErrnoError(EINVAL, absl::StrCat(address, " is no address")));
    }
    UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof(to)) != 0) {
      Die(name_, SystemError(errno, absl::StrCat("cannot connect to the agent at ", address)));
    }
    const int on = 1;
    setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
  }
  Reply Ask(Request request) {
    std::string changes;
    request.pages = pages_.TakeChanges(&changes);
    return Exchange(request, changes);
  }
  Reply Exchange(const Request& request, const std::string& changes) {
    std::string out(reinterpret_cast<const char*>(&request), sizeof(request));
    out += changes;
    OrDie(name_, WriteAll(fd_.get(), out.data(), out.size()));
    Reply reply;
    OrDie(name_, ReadAll(fd_.get(), &reply, sizeof(reply)));
    OrDie(name_, pages_.Apply(fd_.get(), reply.pages));
    gfns_.resize(reply.count);
    OrDie(name_, ReadAll(fd_.get(), gfns_.data(), reply.count * sizeof(uint64_t)));
    return reply;
  }

  Neighbours* const all_;
  const std::string name_;
  const UniqueFd fd_;
  uint16_t domid_ = 0;
  SharedPages pages_;
  std::vector<uint64_t> gfns_;  // of the last reply
  std::vector<std::pair<uint64_t, size_t>> mappings_;
};

class XenBed : public HypercallBed, public Neighbours {
 public:
  XenBed() : places_(absl::StrSplit(Environment("ARGOSY_XEN_DOMAINS"), ' ', absl::SkipEmpty())) {}
  ~XenBed() override {
    domains_.clear();
    for (const std::string& name : killed_) Command("ARGOSY_XEN_CREATE", name);
  }

  Hypercalls* CreateDomain(absl::string_view* why) override {
    const size_t slot = domains_.size();
    if (slot == places_.size()) {
      static const std::string reason =
          absl::StrCat("this bed has no more than ", places_.size(), " domains");
      *why = reason;
      return nullptr;
    }
    if (places_[slot] == "local") {
      domains_.push_back(std::make_unique<LocalDomain>(slot, this));
    } else {
      const std::pair<std::string, std::string> guest =
          absl::StrSplit(places_[slot], absl::MaxSplits('=', 1));
      domains_.push_back(std::make_unique<RemoteDomain>(slot, this, guest.first, guest.second));
    }
    return domains_.back().get();
  }

  bool KillDomain(Hypercalls* domain, absl::string_view* why) override {
    for (auto& candidate : domains_) {
      if (candidate.get() != domain) continue;
      auto* const guest = dynamic_cast<RemoteDomain*>(domain);
      if (guest == nullptr) {
        *why = "this bed cannot kill the domain that it runs in";
        return false;
      }
      Command("ARGOSY_XEN_DESTROY", guest->name());
      killed_.push_back(guest->name());
      candidate.reset();
      return true;
    }
    Die("KillDomain", ErrnoError(EINVAL, "no such domain"));
  }

  void PushAll() override {
    for (const auto& domain : domains_) {
      if (domain != nullptr) domain->Push();
    }
  }
  void PullFromOthers(const Hypercalls* caller) override {
    for (const auto& domain : domains_) {
      if (domain != nullptr && domain.get() != caller) domain->Pull();
    }
  }

 private:
  static void Command(const char* variable, const std::string& name) {
    const std::string command = absl::StrCat(Environment(variable), " ", name);
    fflush(stdout);
    const int status = system(command.c_str());
    if (status != 0) Die(command, ErrnoError(EIO, absl::StrCat("ended with status ", status)));
  }

  const std::vector<std::string> places_;
  std::vector<std::unique_ptr<XenDomain>> domains_;  // null once killed
  std::vector<std::string> killed_;
};

// Whether `name` is on in Xen's option argo=, as in "argo=1,mac-permissive=0".
bool ArgoOption(absl::string_view commandline, absl::string_view name) {
  bool on = false;
  for (absl::string_view word : absl::StrSplit(commandline, ' ')) {
    if (!absl::ConsumePrefix(&word, "argo=")) continue;
    for (absl::string_view option : absl::StrSplit(word, ',')) {
      if (name.empty() ? option == "1" : option == absl::StrCat(name, "=1")) on = true;
      if (name.empty() ? option == "0" : option == absl::StrCat(name, "=0")) on = false;
    }
  }
  return on;
}

}  // namespace
}  // namespace argosy::nested

namespace argosy::sim {

std::unique_ptr<HypercallBed> MakeHypercallBed(const HypercallBed::Options& options,
                                               absl::string_view* why) {
  const absl::string_view commandline = nested::Environment("ARGOSY_XEN_COMMANDLINE");
  if (options.argo != nested::ArgoOption(commandline, "")) {
    *why = options.argo ? "Xen was booted without argo=1" : "Xen was booted with argo=1";
    return nullptr;
  }
  if (options.mac_permissive.has_value() &&
      *options.mac_permissive != nested::ArgoOption(commandline, "mac-permissive")) {
    *why = *options.mac_permissive ? "Xen was booted without mac-permissive=1"
                                   : "Xen was booted with mac-permissive=1";
    return nullptr;
  }
  // See argo-raw-agent.
  cpu_set_t cpu;
  CPU_ZERO(&cpu);
  CPU_SET(0, &cpu);
  if (sched_setaffinity(0, sizeof(cpu), &cpu) != 0) {
    nested::Die("sched_setaffinity", SystemError(errno, "CPU 0"));
  }
  return std::make_unique<nested::XenBed>();
}

}  // namespace argosy::sim
