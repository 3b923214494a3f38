# SPDX-License-Identifier: Apache-2.0
# What the scripts here share: dom0, a guest in PV and one in PVH, each the others' partner.  "Where" is dom0, pv or pvh.

# at WHERE COMMAND...: runs a shell command there.
at() {
  where=$1
  shift
  if [ "$where" = dom0 ]; then sh -c "$*"; else guest "$where" "$*"; fi
}

# begin LOG WHERE COMMAND...: starts it there, in the background, as `start` does; killing $pid ends it.
begin() {
  begun_log=$1
  where=$2
  shift 2
  if [ "$where" = dom0 ]; then start "$begun_log" sh -c "exec $*"; else start "$begun_log" guest "$where" "exec $*"; fi
}

# cid WHERE
cid() { if [ "$1" = dom0 ]; then echo 2; else echo $(($(guest_domid "$1") + 2)); fi; }

# ready WHERE OTHER: waits until the two have greeted each other.
ready() {
  at "$1" "until grep -q '^peer .* cid $(cid "$2") ready' /sys/kernel/debug/argo/vsock; do usleep 50000; done"
}

# meet: creates the guests, and returns when everybody can connect to everybody.
meet() {
  guest_create pv pvh
  # dom0 is a guest's partner from the start, and dom0 finds its partners by itself.
  guest pv "echo 0,$(guest_domid pvh) > /sys/module/argo_core/parameters/partners"
  guest pvh "echo 0,$(guest_domid pv) > /sys/module/argo_core/parameters/partners"
  for pair in "dom0 pv" "dom0 pvh" "pv dom0" "pv pvh" "pvh dom0" "pvh pv"; do ready $pair; done
}

# each_pair COMMAND...: runs COMMAND... FROM TO for each pair of domains, in both directions.
each_pair() {
  for pair in "dom0 pv" "pv dom0" "dom0 pvh" "pvh dom0" "pv pvh" "pvh pv"; do "$@" $pair; done
}
