// SPDX-License-Identifier: Apache-2.0
// A client of Xenstore, for the programs of the rig: in a guest as in dom0, over the kernel's device.
//
// Xenstore is the tree of small values that dom0 keeps for all domains.  A request is a header (struct xsd_sockmsg) and
// bytes; the reply carries the same req_id.  A watch on a node makes Xenstore send an event, at any time between
// replies, whenever something changes at or below the node, and once at the beginning.  A path that does not start
// with / is below the own domain's node, /local/domain/N: so it stays right when a restored domain gets another number.
#ifndef ARGOSY_NESTED_TEST_XEN_XENSTORE_H_
#define ARGOSY_NESTED_TEST_XEN_XENSTORE_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "transport/unique_fd.h"

namespace argosy {

// Ends the program with a message if the kernel or Xenstore fails in another way than "there is no such node".
class Xenstore {
 public:
  Xenstore();

  std::optional<std::string> Read(const std::string& path);
  // Makes the nodes on the way.  False if that is not possible any more, since the domain has gone.
  bool Write(const std::string& path, std::string_view value);
  void Remove(const std::string& path);
  std::vector<std::string> List(const std::string& path);
  // False once the domain is dying.
  bool DomainExists(const std::string& domid);

  void Watch(const std::string& path);
  // The path of an event, which stands for any number of changes.
  std::string NextEvent();
  bool EventQueued() const { return !events_.empty(); }
  // Readable when an event may be there, unless one is queued.
  int fd() const { return fd_.get(); }

 private:
  struct Message {
    uint32_t type;
    std::string body;
  };
  // The reply's body, or nothing if there is no such node.
  std::optional<std::string> Call(uint32_t type, std::string_view body);
  Message Receive();

  UniqueFd fd_;
  uint32_t last_id_ = 0;
  std::deque<std::string> events_;
};

[[noreturn]] void Die(const std::string& message);

}  // namespace argosy

#endif  // ARGOSY_NESTED_TEST_XEN_XENSTORE_H_
