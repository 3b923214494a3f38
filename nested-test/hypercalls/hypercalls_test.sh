# SPDX-License-Identifier: Apache-2.0
# C01 to C30 on a real Xen, in dom0, in a PV and a PVH guest, and between them.  Each run says which tests it skips (C14*2: both
# tests of C14), so that none is skipped unnoticed.
commandline=$(xl info xen_commandline)
export ARGOSY_XEN_COMMANDLINE="$commandline"
export ARGOSY_XEN_CREATE="sh /data/agent_guest.sh create" ARGOSY_XEN_DESTROY="sh /data/agent_guest.sh destroy"
tests="argo-hypercall-tests --gtest_color=no"

# judge RUN STATUS SKIPPED: makes checks of ours from what the program wrote to ./out.
judge() {
  sed -nE 's/^\[ +OK \] \w+\.(\w+) .*/\1/p' out > good
  sed -nE 's/^\[  FAILED  \] \w+\.(\w+) \(.*/\1/p' out > bad
  sed -nE 's/^\[  SKIPPED \] \w+\.(C[0-9]+)_\w+ \(.*/\1/p' out | sort | uniq -c | sed -E 's/^ *1 //; s/^ *([0-9]+) (.*)/\2*\1/' > skipped
  while read -r name; do pass "$1: $name"; done < good
  while read -r name; do fail "$1: $name"; done < bad
  [ "$2" = 0 ] || grep -vE '^\[ +(RUN|OK) ' out
  same "$1: the program ends well" 0 "$2"
  same "$1: skipped" "$3" "$(echo $(cat skipped))"
}

# with_addresses DOMAINS: as ARGOSY_XEN_DOMAINS wants them.
with_addresses() { echo "$1" | sed -E 's/\bpv\b/pv=10.0.1.2/; s/\bpvh\b/pvh=10.0.2.2/'; }

# here DOMAINS SKIPPED TESTS: the program runs in dom0.
here() {
  echo "# in dom0, with $1"
  ARGOSY_XEN_DOMAINS=$(with_addresses "$1") $tests "--gtest_filter=$3" > out 2>&1
  judge "$1" $? "$2"
}

# there GUEST SKIPPED TESTS: the program runs in a guest, with no other domain.
there() {
  echo "# in $1"
  guest "$1" "ARGOSY_XEN_COMMANDLINE='$commandline' ARGOSY_XEN_DOMAINS=local $tests '--gtest_filter=$3'" > out
  judge "in $1" $? "$2"
}

# The walks of seed 8: as the simulator, line by line.  One domain takes 3000 steps, two take 200.
told() {
  if cmp -s out "$2"; then pass "$1"; else
    echo "# the simulator (-) and Xen (+) first differ here:"
    diff -U 3 "$2" out | head -40
    fail "$1"
  fi
}
walk_here() {
  case $1 in *" "*) walk_size="200 2" ;; *) walk_size="3000 1" ;; esac
  ARGOSY_XEN_DOMAINS=$(with_addresses "$1") argo-hypercall-walk 8 $walk_size "$wildcard" > out
  told "a random walk with $1" "/data/walk-${walk_size#* }-$wildcard.txt"
}
walk_there() {
  guest "$1" "ARGOSY_XEN_COMMANDLINE='$commandline' ARGOSY_XEN_DOMAINS=local argo-hypercall-walk 8 3000 1 $wildcard" > out
  told "a random walk in $1" "/data/walk-1-$wildcard.txt"
}

$ARGOSY_XEN_CREATE pv &
pv=$!
$ARGOSY_XEN_CREATE pvh || die "no guest in PVH"
wait $pv || die "no guest in PV"

# Skipped where a program is alone in its domain: what wants a second one; C01 and one of C07, which want other boots; one of C12, which
# wants a device in the domain's memory; C19, which wants 35 domains.
alone="C01 C07 C09 C12 C13 C14*2 C17*4 C18 C19 C20 C21 C24 C25*2 C26 C27 C28*2 C30"
# What of that can run with more domains.
together="*.C09_ARep*:*.C13_*:*.C14_*:*.C17_*:*.C18_*:*.C20_*:*.C21_MessageW*:*.C24_*:*.C25_*:*.C26_AB*:*.C27_*:*.C28_*:*.C30_*"
case $commandline in
  *argo=0*)
    here local "" "*.C01_*"
    there pv "" "*.C01_*"
    there pvh "" "*.C01_*"
    ;;
  *mac-permissive=1*)
    wildcard=1
    # What the boot without it skips.
    shared="*.C07_WildcardRingsNeedMacPermissive:*.C20_*"
    here "local pv pvh" "" "$shared"
    here "pv pvh local" "" "$shared"
    here "pvh local pv" "" "$shared"
    walk_here local
    walk_here "pv pvh"
    walk_here "pvh local"
    ;;
  *)
    wildcard=0
    # C10 goes first: a domain that registers a ring again (C09) has a place less for ever.
    here local "" "*.C10_*"
    there pv "" "*.C10_*"
    there pvh "" "*.C10_*"
    here local "$alone" "-*.C10_*"
    there pv "$alone" "-*.C10_*"
    there pvh "$alone" "-*.C10_*"
    walk_here local
    walk_there pv
    walk_there pvh
    walk_here "local pv"
    # A guest that was killed takes its time to come back: each way to die once for PV and for PVH.
    here "pvh local pv" "C20" "$together:-*.C27_*:*.C28_*"
    here "local pv pvh" "C20" "$together:-*.C28_P*"
    here "pv pvh local" "C20" "$together:-*.C28_A*"
    ;;
esac

# Of two owners of VIRQ_ARGO the second would break the first.  Whichever comes second is refused.
refused() { ! insmod "/lib/modules/$1.ko" 2> /dev/null && dmesg | grep -q "$1: exports duplicate symbol argo_own_domid (owned by $2)"; }
check "argo_core is refused next to argo_raw" refused argo_core argo_raw
case $commandline in
  *argo=1*)
    rmmod argo_raw
    insmod /lib/modules/argo_core.ko
    check "argo_raw is refused next to argo_core" refused argo_raw argo_core
    rmmod argo_core
    insmod /lib/modules/argo_raw.ko
    here local "" "*.C05_*"
    ;;
esac
