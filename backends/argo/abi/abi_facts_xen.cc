// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
// Xen's headers want the fixed-width integers to be there, and argo.h wants xen.h.
#include <stddef.h>
#include <stdint.h>

#include <xen/xen.h>

#include <xen/argo.h>

#include "backends/argo/abi/abi_facts.h"

namespace argosy::argo {

AbiFacts FactsOfXen() {
  return {
      {"hypercall", __HYPERVISOR_argo_op},
      {"virq", VIRQ_ARGO},
      {"op register", XEN_ARGO_OP_register_ring},
      {"op unregister", XEN_ARGO_OP_unregister_ring},
      {"op sendv", XEN_ARGO_OP_sendv},
      {"op notify", XEN_ARGO_OP_notify},
      {"domid any", XEN_ARGO_DOMID_ANY},
      {"domid self", DOMID_SELF},
      {"slot size", XEN_ARGO_MSG_SLOT_SIZE},
      {"max iov", XEN_ARGO_MAXIOV},
      {"max ring size", XEN_ARGO_MAX_RING_SIZE},
      {"fail exist", XEN_ARGO_REGISTER_FLAG_FAIL_EXIST},
      {"exists", XEN_ARGO_RING_EXISTS},
      {"shared", XEN_ARGO_RING_SHARED},
      {"empty", XEN_ARGO_RING_EMPTY},
      {"sufficient", XEN_ARGO_RING_SUFFICIENT},
      {"emsgsize", XEN_ARGO_RING_EMSGSIZE},
      {"ebusy", XEN_ARGO_RING_EBUSY},

      {"iov size", sizeof(xen_argo_iov_t)},
      {"iov base", offsetof(xen_argo_iov_t, iov_hnd)},
      {"iov len", offsetof(xen_argo_iov_t, iov_len)},
      {"iov pad", offsetof(xen_argo_iov_t, pad)},
      {"addr size", sizeof(xen_argo_addr_t)},
      {"addr port", offsetof(xen_argo_addr_t, aport)},
      {"addr domid", offsetof(xen_argo_addr_t, domain_id)},
      {"addr pad", offsetof(xen_argo_addr_t, pad)},
      {"send_addr size", sizeof(xen_argo_send_addr_t)},
      {"send_addr src", offsetof(xen_argo_send_addr_t, src)},
      {"send_addr dst", offsetof(xen_argo_send_addr_t, dst)},
      {"ring rx_ptr", offsetof(xen_argo_ring_t, rx_ptr)},
      {"ring tx_ptr", offsetof(xen_argo_ring_t, tx_ptr)},
      {"ring reserved", offsetof(xen_argo_ring_t, reserved)},
      {"ring data", offsetof(xen_argo_ring_t, ring)},
      {"register size", sizeof(xen_argo_register_ring_t)},
      {"register port", offsetof(xen_argo_register_ring_t, aport)},
      {"register partner", offsetof(xen_argo_register_ring_t, partner_id)},
      {"register pad", offsetof(xen_argo_register_ring_t, pad)},
      {"register len", offsetof(xen_argo_register_ring_t, len)},
      {"unregister size", sizeof(xen_argo_unregister_ring_t)},
      {"unregister port", offsetof(xen_argo_unregister_ring_t, aport)},
      {"unregister partner", offsetof(xen_argo_unregister_ring_t, partner_id)},
      {"unregister pad", offsetof(xen_argo_unregister_ring_t, pad)},
      {"entry size", sizeof(xen_argo_ring_data_ent_t)},
      {"entry ring", offsetof(xen_argo_ring_data_ent_t, ring)},
      {"entry flags", offsetof(xen_argo_ring_data_ent_t, flags)},
      {"entry pad", offsetof(xen_argo_ring_data_ent_t, pad)},
      {"entry space", offsetof(xen_argo_ring_data_ent_t, space_required)},
      {"entry max", offsetof(xen_argo_ring_data_ent_t, max_message_size)},
      {"data nent", offsetof(xen_argo_ring_data_t, nent)},
      {"data pad", offsetof(xen_argo_ring_data_t, pad)},
      {"data entries", offsetof(xen_argo_ring_data_t, data)},
      {"message len", offsetof(xen_argo_ring_message_header, len)},
      {"message source", offsetof(xen_argo_ring_message_header, source)},
      {"message type", offsetof(xen_argo_ring_message_header, message_type)},
      {"message payload", offsetof(xen_argo_ring_message_header, data)},
  };
}

}  // namespace argosy::argo
