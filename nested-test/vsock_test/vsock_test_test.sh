# SPDX-License-Identifier: Apache-2.0
# Linux's vsock_test between dom0 and a guest of each kind, each as server and as client.  Its two ends coordinate over TCP.
[ -s /bin/vsock_test ] || die "there is no vsock_test for this kernel; run: tools/setup --full"

# at WHERE COMMAND: in dom0 or a guest.
at() { if [ "$1" = dom0 ]; then sh -c "$2"; else guest "$1" "$2"; fi; }

# cid WHERE
cid() { if [ "$1" = dom0 ]; then echo 2; else echo $(($(guest_domid "$1") + 2)); fi; }

# network GUEST: 10.0.DOMID.1 is dom0's end, .2 the guest's.
network() {
  network_id=$(guest_domid "$1")
  ip address add "10.0.$network_id.1/24" dev "vif$network_id.0" && ip link set "vif$network_id.0" up || die "no network for $1"
  guest "$1" "until [ -e /sys/class/net/eth0 ]; do usleep 20000; done
    ip address add 10.0.$network_id.2/24 dev eth0 && ip link set eth0 up" || die "no network in $1"
}

# address WHERE PEER
address() { if [ "$1" = dom0 ]; then echo "10.0.$(guest_domid "$2").1"; else echo "10.0.$(guest_domid "$1").2"; fi; }

# suite SERVER CLIENT: the server's output goes to /tmp/server.log there, with its exit code behind it.
suite() {
  suite_name="server $1, client $2"
  suite_port=$((suite_port + 1))
  at "$1" "rm -f /tmp/server.log
    (vsock_test --control-port=$suite_port --mode=server --peer-cid=$(cid "$2"); echo exit \$?) > /tmp/server.log 2>&1 < /dev/null &
    until grep -q 'listening\|^exit' /tmp/server.log; do usleep 20000; done"
  at "$2" "vsock_test --control-host=$(address "$1" "$2") --control-port=$suite_port --mode=client --peer-cid=$(cid "$1") 2>&1
    echo exit \$?" > ended.client
  # A client that failed closes the control channel, which ends the server.
  at "$1" "until grep '^exit' /tmp/server.log; do usleep 50000; done > /dev/null; cat /tmp/server.log" > ended.server
  for suite_side in client server; do
    # A case may also find out by itself that something is missing, and say so.
    same "$suite_name: every case passes for the $suite_side" "$cases and exit 0" \
      "$(sed -nE 's/^([0-9]+ - .*)\.\.\.ok$/\1/p; s/.*[Ss]kipped.*/&/p' ended.$suite_side) and $(tail -n 1 ended.$suite_side)"
    grep -qx 'exit 0' ended.$suite_side || sed "s/^/# $suite_side: /" ended.$suite_side
  done
}

suite_port=1230
# "ID<tab>name" below a headline.
cases=$(vsock_test --list --control-port=1 | sed -nE 's/^([0-9]+)\t(.*)$/\1 - \2/p')
echo "# $(echo "$cases" | wc -l) cases"
check "there are cases" [ "$(echo "$cases" | wc -l)" -ge 11 ]

guest_create pv pvh
for type in pv pvh; do
  network $type
  suite $type dom0
  suite dom0 $type
done
