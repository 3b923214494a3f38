# SPDX-License-Identifier: Apache-2.0
# The flows of argosy-flow (flow.cc) between dom0 and a guest in both directions: a PV guest with rings of the default size, a PVH guest
# with small ones.
. /data/lib.sh

guest_create pv pvh
meet dom0 pv
meet dom0 pvh

# flows FROM TO PORT NAME: all of them, opened by who sends.
flows() {
  if [ "$2" = dom0 ]; then start "flow-$3.log" argosy-flow listen "$3" receive 1; else
    start "flow-$3.log" guest "$2" "exec argosy-flow listen $3 receive 1"
  fi
  await "flow-$3.log" listening
  at "$1" "argosy-flow connect $(cid_of "$2") $3 send 1"
  sent=$?
  wait $pid
  received=$?
  cat "flow-$3.log"
  same "$1 to $2, $4: all flows arrive whole" "0 0" "$sent $received"
}

flows dom0 pv 6000 "default rings"
flows pv dom0 7000 "default rings"

# ring GUEST BYTES: the rings of dom0 and this guest for each other.  Larger packets go in pieces.
ring() {
  echo "$(guest_domid "$1"):$2" > /sys/module/argo_core/parameters/partners
  guest "$1" "echo 0:$2 > /sys/module/argo_core/parameters/partners"
  meet "$1" dom0
  meet dom0 "$1"
  # So many bytes behind a header, in whole pages.
  bytes="bytes=$((($2 + 64 + 4095) / 4096 * 4096 - 64))"
  check "$1's ring has a size of its own" guest "$1" "grep '^ring partner=0 .* $bytes ' /sys/kernel/debug/argo/core"
  check "and dom0's" grep "^ring partner=$(guest_domid "$1") .* $bytes " /sys/kernel/debug/argo/core
  check "a file goes into a ring of $2 bytes" transfer dom0 "$1" 5000
  check "and into another" transfer "$1" dom0 5001
}

ring pv 4096
ring pvh 16384
flows dom0 pvh 6000 "rings of 16384 bytes"
flows pvh dom0 7000 "rings of 16384 bytes"
cat $peers
