# SPDX-License-Identifier: Apache-2.0
# hatch and many connections over Argo, from each domain to each.
. /data/domains.sh
meet

# file FROM TO: 8 MiB, checked by hatch's own digest and by one taken behind its back.
file() {
  begin recv.log "$2" 'hatch -v recv -f 3000 /tmp/arrived'
  await recv.log listening
  at "$1" "hatch send $(cid "$2") 3000 /tmp/cargo" && wait "$pid" && at "$2" "rm -f /tmp/arrived.sum; sha256sum < /tmp/arrived > /tmp/arrived.sum" &&
    same "$1 to $2: a file of 8 MiB" "$(at "$1" 'sha256sum < /tmp/cargo')" "$(at "$2" 'cat /tmp/arrived.sum')" && return
  cat recv.log
  fail "$1 to $2: a file of 8 MiB"
}
# hundredths: of a second, since the boot.
hundredths() { cut -d' ' -f1 /proc/uptime | tr -d .; }

for from in dom0 pv pvh; do at "$from" 'head -c 8388608 /dev/urandom > /tmp/cargo'; done
begun=$(hundredths)
each_pair file
# Six files and 30 commands in guests; on a machine that is not busy otherwise, some 15 seconds.
mib=256
[ $(($(hundredths) - begun)) -lt 4000 ] || mib=32

# datagrams FROM TO: each of a hundred is answered: nobody else sends, so none is dropped.
datagrams() {
  begin echo.log "$2" 'hatch -v echo -u 3001'
  await echo.log listening
  check "$1 to $2: datagrams" at "$1" "hatch ping -u -c 100 -s 60000 -w 60 $(cid "$2") 3001"
  kill "$pid"
  wait "$pid"
}
each_pair datagrams

# Into a small ring goes a small datagram only.
guest pv "echo 0:16384,$(guest_domid pvh) > /sys/module/argo_core/parameters/partners"
ready pv dom0
start echo.log guest pv 'exec hatch -v echo -u 3001'
await echo.log listening
check "a datagram into a small ring" hatch ping -u -c 10 -s 1000 -w 60 "$(cid pv)" 3001
hatch ping -u -c 10 -s 60000 -w 60 "$(cid pv)" 3001 2> large.log
same "one that is larger than the ring" 1 $?
check "... is refused" grep 'too long' large.log
kill "$pid"
wait "$pid"
guest pv "echo 0,$(guest_domid pvh) > /sys/module/argo_core/parameters/partners"
ready pv dom0

# 200 connections to each domain at once, 600 in all, each with 32 KiB there and back.
clients=
for server in dom0 pv pvh; do
  begin "many-$server.log" "$server" 'argosy-many --serve 3002'
  await "many-$server.log" serving
  eval "many_$server=$pid"
done
for pair in "dom0 pv" "pv pvh" "pvh dom0"; do
  set -- $pair
  begin "many-$1-$2.log" "$1" "argosy-many $(cid "$2") 3002 200 32768"
  clients="$clients $1-$2:$pid"
done
for client in $clients; do
  check "${client%:*}: 200 connections at once" wait "${client#*:}"
  cat "many-${client%:*}.log"
done
kill "$many_dom0" "$many_pv" "$many_pvh"
wait "$many_dom0" "$many_pv" "$many_pvh"

# flow NAME FROM TO PORT MIB: so much, eight MiB again and again, checked by hatch's digest, in the background.
flow() {
  begin "flow-$1.recv.log" "$3" "hatch -v recv $4 > /dev/null"
  await "flow-$1.recv.log" listening
  receivers="$receivers $1:$pid"
  start "flow-$1.log" at "$2" "i=0; while [ \$i -lt $(($5 / 8)) ]; do cat /tmp/cargo; i=\$((i + 1)); done | hatch send $(cid "$3") $4"
  senders="$senders $1:$pid"
}
[ $mib = 256 ] || echo "# this machine is busy or slow: $mib MiB instead of 256 in each direction"
senders=
receivers=
flow dom0-pv dom0 pv 3003 $mib
flow pv-dom0 pv dom0 3004 $mib
flow dom0-pvh dom0 pvh 3005 $((mib / 4))
flow pvh-dom0 pvh dom0 3006 $((mib / 4))
for sender in $senders; do check "${sender%:*}: a stream is sent beside three others" wait "${sender#*:}"; done
for receiver in $receivers; do
  check "${receiver%:*}: it arrives whole" wait "${receiver#*:}"
  cat "flow-${receiver%:*}.recv.log"
done
for where in dom0 pv pvh; do echo "# $where" && at "$where" 'cat /sys/kernel/debug/argo/core /sys/kernel/debug/argo/vsock'; done
