// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
// Every number, size and offset of argo.h against Xen's own public header.
#include <cstddef>

#include "backends/argo/abi/abi_facts.h"
#include "backends/argo/abi/argo.h"
#include "gtest/gtest.h"

namespace argosy::argo {
namespace {

AbiFacts FactsOfOurs() {
  return {
      {"hypercall", ARGO_HYPERCALL},
      {"virq", ARGO_VIRQ},
      {"op register", ARGO_OP_REGISTER_RING},
      {"op unregister", ARGO_OP_UNREGISTER_RING},
      {"op sendv", ARGO_OP_SENDV},
      {"op notify", ARGO_OP_NOTIFY},
      {"domid any", ARGO_DOMID_ANY},
      {"domid self", ARGO_DOMID_SELF},
      {"slot size", ARGO_SLOT_SIZE},
      {"max iov", ARGO_MAX_IOV},
      {"max ring size", ARGO_MAX_RING_SIZE},
      {"fail exist", ARGO_REGISTER_FLAG_FAIL_EXIST},
      {"exists", ARGO_RING_EXISTS},
      {"shared", ARGO_RING_SHARED},
      {"empty", ARGO_RING_EMPTY},
      {"sufficient", ARGO_RING_SUFFICIENT},
      {"emsgsize", ARGO_RING_EMSGSIZE},
      {"ebusy", ARGO_RING_EBUSY},

      {"iov size", sizeof(argo_iov)},
      {"iov base", offsetof(argo_iov, base)},
      {"iov len", offsetof(argo_iov, len)},
      {"iov pad", offsetof(argo_iov, pad)},
      {"addr size", sizeof(argo_addr)},
      {"addr port", offsetof(argo_addr, port)},
      {"addr domid", offsetof(argo_addr, domid)},
      {"addr pad", offsetof(argo_addr, pad)},
      {"send_addr size", sizeof(argo_send_addr)},
      {"send_addr src", offsetof(argo_send_addr, src)},
      {"send_addr dst", offsetof(argo_send_addr, dst)},
      {"ring rx_ptr", offsetof(argo_ring_header, rx_ptr)},
      {"ring tx_ptr", offsetof(argo_ring_header, tx_ptr)},
      {"ring reserved", offsetof(argo_ring_header, reserved)},
      {"ring data", ARGO_RING_HEADER_SIZE},
      {"register size", sizeof(argo_register_ring)},
      {"register port", offsetof(argo_register_ring, port)},
      {"register partner", offsetof(argo_register_ring, partner)},
      {"register pad", offsetof(argo_register_ring, pad)},
      {"register len", offsetof(argo_register_ring, len)},
      {"unregister size", sizeof(argo_unregister_ring)},
      {"unregister port", offsetof(argo_unregister_ring, port)},
      {"unregister partner", offsetof(argo_unregister_ring, partner)},
      {"unregister pad", offsetof(argo_unregister_ring, pad)},
      {"entry size", sizeof(argo_ring_data_ent)},
      {"entry ring", offsetof(argo_ring_data_ent, ring)},
      {"entry flags", offsetof(argo_ring_data_ent, flags)},
      {"entry pad", offsetof(argo_ring_data_ent, pad)},
      {"entry space", offsetof(argo_ring_data_ent, space_required)},
      {"entry max", offsetof(argo_ring_data_ent, max_message_size)},
      {"data nent", offsetof(argo_ring_data, nent)},
      {"data pad", offsetof(argo_ring_data, pad)},
      {"data entries", sizeof(argo_ring_data)},
      {"message len", offsetof(argo_message_header, len)},
      {"message source", offsetof(argo_message_header, src)},
      {"message type", offsetof(argo_message_header, type)},
      {"message payload", ARGO_MESSAGE_HEADER_SIZE},
  };
}

TEST(Abi, AgreesWithXen) {
  const AbiFacts xen = FactsOfXen();
  const AbiFacts ours = FactsOfOurs();
  EXPECT_EQ(ours.size(), xen.size());
  for (const auto& [name, value] : ours) {
    ASSERT_TRUE(xen.count(name)) << name;
    EXPECT_EQ(value, xen.at(name)) << name;
  }
}

TEST(Abi, RoundsToSlotsAndPages) {
  EXPECT_EQ(argo_slots(0), 0u);
  EXPECT_EQ(argo_slots(1), 16u);
  EXPECT_EQ(argo_slots(16), 16u);
  EXPECT_EQ(argo_slots(ARGO_MAX_MESSAGE_SIZE), ARGO_MAX_RING_SIZE - 32);
  EXPECT_EQ(argo_ring_pages(ARGO_MIN_RING_SIZE), 1u);
  EXPECT_EQ(argo_ring_pages(4096 - 64), 1u);
  EXPECT_EQ(argo_ring_pages(4096 - 48), 2u);
  EXPECT_EQ(argo_ring_pages(ARGO_MAX_USABLE_RING_SIZE), 4096u);
  EXPECT_EQ(argo_ring_pages(ARGO_MAX_RING_SIZE), 4097u);
}

}  // namespace
}  // namespace argosy::argo
