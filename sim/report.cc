// SPDX-License-Identifier: Apache-2.0
#include "sim/report.h"

#include <cstdint>
#include <initializer_list>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace argosy::sim {
namespace {

// " name=value" for each that is not 0.
void Append(std::string* text, const char* title,
            std::initializer_list<std::pair<const char*, uint64_t>> counters) {
  const size_t start = text->size();
  for (const auto& [name, value] : counters) {
    if (value != 0) absl::StrAppendFormat(text, " %s=%d", name, value);
  }
  if (text->size() == start) return;
  text->insert(start, absl::StrFormat("  %s:", title));
  text->push_back('\n');
}

void AppendEndpoint(std::string* text, const packet::Endpoint::Counters& c) {
  Append(text, "packets",
         {
             {"connected", c.connected},
             {"reset_sent", c.reset_sent},
             {"drop_source", c.drop_source},
             {"drop_destination", c.drop_destination},
             {"drop_type", c.drop_type},
             {"drop_op", c.drop_op},
             {"drop_no_connection", c.drop_no_connection},
             {"refused_backlog", c.refused_backlog},
             {"refused_limit", c.refused_limit},
             {"breach_credit", c.breach_credit},
             {"breach_state", c.breach_state},
             {"breach_messages", c.breach_messages},
             {"lost_resets", c.lost_resets},
             {"datagram_dropped", c.datagram_dropped},
             {"datagram_delivered", c.datagram_delivered},
             {"datagram_unsent", c.datagram_unsent},
             {"packets_in", c.packets_in},
             {"packets_out", c.packets_out},
         });
}

void AppendLink(std::string* text, const DomainLink& link, const Machine& machine) {
  argo_peer_counters c = {};
  for (const auto& [domid, domain] : machine.domains()) {
    const argo_peer* peer = link.peer(domid);
    if (peer == nullptr) continue;
    c.tx_messages += peer->count.tx_messages;
    c.tx_bytes += peer->count.tx_bytes;
    c.rx_messages += peer->count.rx_messages;
    c.rx_bytes += peer->count.rx_bytes;
    c.full += peer->count.full;
    c.busy += peer->count.busy;
    c.queued += peer->count.queued;
    c.blocked += peer->count.blocked;
    c.wakes += peer->count.wakes;
    c.queue_refused += peer->count.queue_refused;
    c.probes += peer->count.probes;
    c.lost += peer->count.lost;
    c.drop_corrupt += peer->count.drop_corrupt;
    c.drop_source += peer->count.drop_source;
    c.drop_type += peer->count.drop_type;
    c.drop_length += peer->count.drop_length;
    c.drop_not_ready += peer->count.drop_not_ready;
    c.drop_version += peer->count.drop_version;
  }
  Append(text, "link",
         {
             {"tx_messages", c.tx_messages},
             {"tx_bytes", c.tx_bytes},
             {"rx_messages", c.rx_messages},
             {"rx_bytes", c.rx_bytes},
             {"full", c.full},
             {"busy", c.busy},
             {"queued", c.queued},
             {"blocked", c.blocked},
             {"wakes", c.wakes},
             {"queue_refused", c.queue_refused},
             {"probes", c.probes},
             {"lost", c.lost},
             {"drop_corrupt", c.drop_corrupt},
             {"drop_source", c.drop_source},
             {"drop_type", c.drop_type},
             {"drop_length", c.drop_length},
             {"drop_not_ready", c.drop_not_ready},
             {"drop_version", c.drop_version},
             {"drop_header", link.drop_header()},
             {"drop_unsent", link.drop_unsent()},
         });
}

void AppendHypervisor(std::string* text, const Hypervisor::Counters& c) {
  Append(text, "hypercalls",
         {
             {"registers", c.registers},
             {"unregisters", c.unregisters},
             {"sends", c.sends},
             {"bytes", c.bytes},
             {"eagain", c.eagain},
             {"ebusy", c.ebusy},
             {"virqs", c.virqs},
             {"notifies", c.notifies},
         });
}

}  // namespace

std::string ListDomains(const Machine& machine) {
  std::string text =
      absl::StrFormat("%-6s %-6s %-16s %-8s %s\n", "DOMID", "CID", "NAME", "STATE", "CONNECTIONS");
  for (const auto& [domid, domain] : machine.domains()) {
    absl::StrAppendFormat(&text, "%-6d %-6d %-16s %-8s %d\n", domid, domain->cid(), domain->name(),
                          domain->paused() ? "paused" : "running",
                          domain->endpoint().connections());
  }
  return text;
}

std::string ListCounters(const Machine& machine) {
  std::string text = "xen\n";
  AppendHypervisor(&text, machine.hypervisor().counters());
  for (const auto& [domid, domain] : machine.domains()) {
    absl::StrAppend(&text, domain->name(), "\n");
    AppendEndpoint(&text, domain->endpoint().counters());
    AppendLink(&text, domain->link(), machine);
  }
  return text;
}

}  // namespace argosy::sim
