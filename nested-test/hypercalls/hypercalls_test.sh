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

# here DOMAINS SKIPPED TESTS: the program runs in dom0.
here() {
  echo "# in dom0, with $1"
  ARGOSY_XEN_DOMAINS=$(echo "$1" | sed -E 's/\bpv\b/pv=10.0.1.2/; s/\bpvh\b/pvh=10.0.2.2/') $tests "--gtest_filter=$3" > out 2>&1
  judge "$1" $? "$2"
}

# there GUEST SKIPPED TESTS: the program runs in a guest, with no other domain.
there() {
  echo "# in $1"
  guest "$1" "ARGOSY_XEN_COMMANDLINE='$commandline' ARGOSY_XEN_DOMAINS=local $tests '--gtest_filter=$3'" > out
  judge "in $1" $? "$2"
}

$ARGOSY_XEN_CREATE pv &
pv=$!
$ARGOSY_XEN_CREATE pvh || die "no guest in PVH"
wait $pv || die "no guest in PV"

# Of C01 one boot of its own, of C07 two; C12 has a test for domains with a device; C19 wants 33 domains.
alone="C01 C07 C12 C13 C14*2 C17 C18 C19 C20 C21 C24 C25*2 C26 C27 C28 C30"
case $commandline in
  *argo=0*)
    here local "" "*.C01_*"
    there pv "" "*.C01_*"
    there pvh "" "*.C01_*"
    ;;
  *)
    here local "$alone" "*"
    there pv "$alone" "*"
    there pvh "$alone" "*"
    together="C01 C07 C12 C19"
    case $commandline in *mac-permissive=0*) together="C01 C07 C12 C19 C20" ;; esac
    # C10 wants a domain in which no registration was ever repeated; C22 is 30000 calls, for which an agent is slow.
    here "local pv pvh" "$together" "-*.C10_*:*.C22_*"
    here "pv pvh local" "$together" "-*.C10_*:*.C22_*"
    # The other way round.  Nobody has to be killed again.
    here "pvh local pv" "$together" "-*.C10_*:*.C22_*:*.C27_*:*.C28_*"
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
