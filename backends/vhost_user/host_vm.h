// SPDX-License-Identifier: Apache-2.0
// File: backends/vhost_user/host_vm.h
//
// One virtual machine, as its device sees it: the VMM's socket, the device, and the host's side of
// its connections, over UNIX sockets (hybrid vsock):
//
//   SOCKET               the VMM connects here (vhost-user), one at a time; it may come back
//   UDS_PATH             clients of the host: "CONNECT port", then the guest's port
//   UDS_PATH_seqpacket   the same for SOCK_SEQPACKET
//   UDS_PATH_PORT        where a connection from the guest to the host's PORT goes
//
// or, instead of UNIX sockets, over the host's own AF_VSOCK: host_forward.h.  What the guest sends to
// others than the host goes to the SiblingSwitch.
//
// One thread; nothing here waits.
#ifndef ARGOSY_BACKENDS_VHOST_USER_HOST_VM_H_
#define ARGOSY_BACKENDS_VHOST_USER_HOST_VM_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "backends/vhost_user/host_forward.h"
#include "backends/vhost_user/host_socket.h"
#include "backends/vhost_user/policy.h"
#include "backends/vhost_user/server.h"
#include "backends/vhost_user/sibling_switch.h"
#include "backends/vhost_user/vsock_device.h"
#include "transport/event_loop.h"
#include "transport/packet/endpoint.h"
#include "transport/unique_fd.h"

namespace argosy::vhost_user {

struct VmOptions {
  uint32_t guest_cid = 3;
  std::string socket;
  // The host's side: one of the two, or none.
  std::string uds_path;
  uint32_t forward_cid = 0;  // 0: none
  std::vector<uint32_t> forward_listen;
  uint32_t tx_buffer_size = 262144;  // buf_alloc of the host's ends; as large as Linux's
  uint32_t queue_size = 1024;
  uint32_t max_connections = 1024;
  std::vector<std::string> groups = {"default"};  // siblings have one in common
  std::vector<Rule> rules;
  bool outbound_only = false;
};

class HostVm : public packet::LinkUser, public packet::RequestUser, public HostSocketOwner {
 public:
  // How long a client may take for its line.
  static constexpr absl::Duration kLineTime = absl::Seconds(10);
  // Clients that have not sent theirs.
  static constexpr size_t kMaxLines = 64;

  // Makes the sockets.  `loop` and `siblings` outlive the machine.  Errors: EADDRINUSE (another process
  // serves a socket there), EEXIST (no socket is at that path), EINVAL (a path is too long), of the
  // system; of HostForward.
  static absl::StatusOr<std::unique_ptr<HostVm>> Create(EventLoop& loop, SiblingSwitch& siblings,
                                                        const VmOptions& options);
  ~HostVm() override;

  const packet::Endpoint& endpoint() const { return endpoint_; }

  // Tells the time, and does what is due.
  void Advance(absl::Time now);
  absl::Time NextDeadline() const;

  // packet::LinkUser, for the device
  void OnPacket(uint64_t src_cid, const packet::Header& header,
                const packet::Payload& payload) override;
  void OnCanSend(uint64_t cid) override;
  void OnPeerReset(uint64_t cid) override;

  // packet::RequestUser
  packet::ConnectionUser* OnRequest(packet::Connection& connection) override;

  // HostSocketOwner
  absl::StatusOr<packet::Connection*> ConnectGuest(HostSocket* socket, uint32_t port) override;
  void LineEnded(HostSocket* socket) override;
  void SocketEnded(HostSocket* socket) override;

 private:
  class Listener;
  class Vmm;

  HostVm(EventLoop& loop, SiblingSwitch& siblings, const VmOptions& options);
  absl::Status Listen();
  void AcceptVmm(UniqueFd fd);
  void VmmEnded(const absl::Status& reason);
  void AcceptClient(UniqueFd fd, uint16_t type);
  void AcceptForward(UniqueFd fd, uint32_t port);
  packet::ConnectionUser* Forward(packet::Connection& connection);
  HostSocket* MakeSocket(UniqueFd fd, int domain, uint16_t type);
  // Sockets that have, or had, a connection: of one that is over, what it brought may still wait for
  // a program that does not read.  The endpoint counts only those that live.
  size_t SocketsAtPorts() const { return sockets_.size() - lines_.size(); }

  EventLoop& loop_;
  SiblingSwitch& siblings_;
  const VmOptions options_;
  Policy policy_;
  VsockDevice device_;
  packet::Endpoint endpoint_;
  bool siblings_first_ = false;  // who has the next turn at the guest's buffers
  absl::Time now_ = absl::UnixEpoch();
  std::unique_ptr<Vmm> vmm_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  std::unique_ptr<HostForward> forward_;
  absl::flat_hash_map<HostSocket*, std::unique_ptr<HostSocket>> sockets_;
  std::deque<std::pair<absl::Time, HostSocket*>> lines_;  // by deadline
};

}  // namespace argosy::vhost_user

#endif  // ARGOSY_BACKENDS_VHOST_USER_HOST_VM_H_
