# SPDX-License-Identifier: Apache-2.0
# Takes the figures: one line each, "figure ROUND PATH DIRECTION SIZE WHAT VALUES".  argo_bench.py makes tables of them.
#
# Paths take turns within a round, so that what else the host does meets all of them.  Everything is measured from dom0 ("in" has
# the guest send) and by the same code, that of `hatch perf`; iperf3 measures TCP once more, as others do.
. /data/bench.env # rounds seconds iperf3_seconds pings sizes

address=10.0.0
core=/sys/kernel/debug/argo/core
# Debian's, with its libraries beside it.
iperf3="/data/ld-linux-x86-64.so.2 --library-path /data /data/iperf3"

guest_create guest
cid=$(($(guest_domid guest) + 2))
vif=vif$(guest_domid guest).0
ip address add $address.1/24 dev "$vif" && ip link set "$vif" up || die "no network in dom0"
guest guest "until [ -e /sys/class/net/eth0 ]; do usleep 20000; done
  ip address add $address.2/24 dev eth0 && ip link set eth0 up" || die "no network in the guest"

# Each server says when it listens.
servers="(hatch perf -v --server 5001 > /tmp/hatch.log 2>&1 &); (tcp-perf -v --server 5002 > /tmp/tcp.log 2>&1 &)
  until grep -q listening /tmp/hatch.log && grep -q listening /tmp/tcp.log; do usleep 20000; done"
guest guest "$servers" || die "no servers in the guest"
guest guest "($iperf3 --server --forceflush > /tmp/iperf3.log 2>&1 &)
  until grep -q listening /tmp/iperf3.log; do usleep 20000; done" || die "no iperf3 in the guest"
sh -c "$servers" || die "no servers in dom0"

# perf PATH OPTIONS...: leaves JSON in the file "result".
perf() {
  perf_path=$1
  shift
  case $perf_path in
    argo) hatch perf $cid 5001 --json "$@" ;;
    tcp) tcp-perf $address.2 5002 --json "$@" ;;
    loopback) hatch perf local 5001 --json "$@" ;;
  esac > result || die "no figure of $perf_path"
}

# counts ROUND DIRECTION SIZE WHEN: of the two ends of Argo, which each measurement but Argo's own leaves alone.
counts() {
  echo "figure $1 argo $2 $3 $4-dom0" $(grep -v '^ring\|^partner' $core)
  echo "figure $1 argo $2 $3 $4-guest" $(guest guest "grep -v '^ring\|^partner' $core")
}

# throughput ROUND PATH DIRECTION SIZE
throughput() {
  reverse=""
  [ "$3" = in ] && reverse=--reverse
  [ "$2" = argo ] && counts "$1" "$3" "$4" before
  if [ "$2" = iperf3 ]; then
    $iperf3 --client $address.2 --time "$iperf3_seconds" --length "$4" --json $reverse > lines || die "no figure of iperf3"
    tr -d '\n\t' < lines > result
  else
    perf "$2" --pings 0 --seconds "$seconds" --size "$4" $reverse
  fi
  echo "figure $1 $2 $3 $4 throughput $(cat result)"
  [ "$2" = argo ] && counts "$1" "$3" "$4" after
  return 0
}

for round in $(seq "$rounds"); do
  for size in $sizes; do
    for direction in out in; do
      for path in argo tcp loopback iperf3; do throughput "$round" $path $direction "$size"; done
    done
  done
  for path in argo tcp loopback; do
    perf $path --pings "$pings" --bytes 1
    echo "figure $round $path both 64 latency $(cat result)"
  done
  pass "round $round"
done
