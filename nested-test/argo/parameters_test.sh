# SPDX-License-Identifier: Apache-2.0
# What the modules' parameters do, and what is refused.  dom0 loads them again for each.
. /data/lib.sh

partners=/sys/module/argo_core/parameters/partners
core=/sys/kernel/debug/argo/core

# load WHERE [CORE [VSOCK]]: the modules again, with these parameters.
load() {
  at "$1" "($unload) && insmod /lib/modules/argo_core.ko $2 && insmod /lib/modules/vsock_argo_transport.ko $3" ||
    die "$1 cannot load its modules again"
}

# refused MODULE PARAMETERS ERRNO REASON: insmod fails, and the kernel says why.
refused() {
  dmesg -c > /dev/null
  insmod "/lib/modules/$1.ko" $2 2> /tmp/insmod.log
  same "$1 $2 is refused" "$3" $? # busybox's exit code is the errno
  check "... and why" sh -c "dmesg | grep \"$4\""
}
EINVAL=22 ENOSPC=28

# no_device WHERE CID: nobody there can be connected to: ENODEV.
no_device() {
  at "$1" "hatch -z $2 5000 2> /tmp/no_device.log"
  same "$1 cannot connect to CID $2" 1 $?
  check "... there is no such device" at "$1" "grep 'no transport of the kernel' /tmp/no_device.log || { cat /tmp/no_device.log; exit 1; }"
}

# --- what insmod refuses

at dom0 "$debugfs"
rmmod vsock_argo_transport argo_core
for size in 0 4095 2097089 4294967295; do refused argo_core ring_size=$size $EINVAL "argo: ring_size must be 4096 to 2097088 bytes, not $size"; done
for many in 0 127; do refused argo_core max_peers=$many $EINVAL "argo: max_peers must be 1 to 126, not $many"; done
refused argo_core partners=1:100 $EINVAL "argo: partners is a list of .*; not '1:100'"
refused argo_core "max_peers=1 partners=1,2" $ENOSPC "argo: dom2 cannot be a partner .*; max_peers is 1"
insmod /lib/modules/argo_core.ko auto_partners=0 ring_size=4096
for offset in 0 4294967295; do refused vsock_argo_transport cid_offset=$offset $EINVAL "vsock_argo: cid_offset must be 1 or more.*, not $offset"; done
insmod /lib/modules/vsock_argo_transport.ko

# --- auto_partners=0: a list is all

guest_create alpha beta
alpha=$(guest_domid alpha)
beta=$(guest_domid beta)
same "domains that appear are no partners" "" "$(grep ^partner $core)"
same "nobody is on the list" "" "$(cat $partners)"
no_device dom0 "$(cid_of alpha)"
echo "$alpha" > $partners
meet dom0 alpha
same "who is written to the list is a partner" "partner $alpha configured" "$(grep ^partner $core)"
check "... and the ring is that of ring_size" grep "^ring partner=$alpha .* bytes=8128 " $core
check "a file goes there" transfer dom0 alpha 5000
no_device dom0 "$(cid_of beta)"

# --- lists that are refused change nothing

echo "$alpha:16384,$beta" > $partners
meet dom0 alpha
meet dom0 beta
mkfifo /tmp/go_on
listening alpha 5001 -r
{ echo one; cat /tmp/go_on; } | hatch "$(cid_of alpha)" 5001 &
held=$!
for list in x 1x 1,x -1 "1 2" 1: 1:x 1:4095 1:2097089 1:4294967296 "1:16384 x" 1:16384:1 32752 65535 65536 4294967296 "$beta,$alpha:1"; do
  echo "$list" 2> /tmp/echo.log > $partners
  same "'$list' is refused" 1 $?
  check "... as invalid" grep 'Invalid argument' /tmp/echo.log
done
same "the old list is in force" "$alpha:16384,$beta" "$(cat $partners)"
echo two > /tmp/go_on
wait $held
same "a connection has lived through that" 0 $?
same "... and ends cleanly" 0 "$(ended alpha 5001)"
same "... with all its data" "one two" "$(guest alpha 'cat /tmp/5001.out' | xargs)"

# --- who is taken out of the list loses its connections, and nobody else does

for where in alpha beta; do listening $where 5002 -r /dev/null /dev/null; done
hatch "$(cid_of alpha)" 5002 < /dev/zero 2> /tmp/sending.log &
sending=$!
busy dom0 $sending 1000000
{ echo one; cat /tmp/go_on; } | hatch "$(cid_of beta)" 5002 &
held=$!
echo "$beta" > $partners
wait $sending
same "who sends to a partner that is removed gets an error" 1 $?
check "... a reset" grep -i reset /tmp/sending.log
same "the removed domain, too" 1 "$(ended alpha 5002)"
check "... a reset" guest alpha "grep -i reset /tmp/5002.log"
no_device dom0 "$(cid_of alpha)"
: > /tmp/go_on
wait $held
same "the connection with the other lives" 0 $?

# --- tracepoints

tracing=/sys/kernel/tracing
[ -d $tracing/events ] || mount -t tracefs tracefs $tracing
same "the tracepoints" "argo_notify argo_register_ring argo_sendv argo_unregister_ring argo_virq" \
  "$(find $tracing/events/argo -mindepth 1 -type d | sed 's#.*/##' | sort | xargs)"
echo 1 > $tracing/events/argo/enable
check "a file is sent" transfer dom0 beta 5003
# A packet is what the kernel makes of one write, and more than a file of 2 MiB is on its way.
sent=$(sed -n "s/.* argo_sendv: dst=$beta port=0x41524759 type=0x41524702 ret=\([0-9]*\)\$/\1/p" $tracing/trace | awk '{ sum += $1 } END { print sum }')
check "the trace has all of it, as bytes sent to its domain" test "$sent" -ge 2097152
check "... and interrupts" grep -q ' argo_virq: ready=[1-9]' $tracing/trace
echo "$beta,$alpha" > $partners
meet dom0 alpha
check "... and the ring of a new partner" grep " argo_register_ring: port=0x41524759 partner=$alpha len=8128 ret=0" $tracing/trace
echo 0 > $tracing/events/argo/enable

# --- max_peers: one domain too many

dmesg -c > /dev/null
load dom0 max_peers=1
until dmesg | grep -q 'cannot be a partner'; do usleep 50000; done
served=alpha other=beta
if grep -q "^partner $beta " $core; then served=beta other=alpha; fi
same "the first domain is the only partner" "partner $(guest_domid $served) seen" "$(grep ^partner $core)"
check "the other one is in the log" sh -c "dmesg | grep 'argo: dom$(guest_domid $other) cannot be a partner .*max_peers is 1'"
no_device dom0 "$(cid_of $other)"
meet dom0 $served
check "the partner is served" transfer $served dom0 5004
dmesg -c > /dev/null
echo "$alpha,$beta" 2> /tmp/echo.log > $partners
same "a list that is too long is an error" 1 $?
check "... and in the log" sh -c "cat /tmp/echo.log; dmesg | grep 'argo: dom$(guest_domid $other) cannot be a partner .*max_peers is 1'"
check "... and does no harm to the partner" transfer dom0 $served 5005

# --- cid_offset: another one, everywhere

cid_offset=10
for where in dom0 alpha beta; do load $where "" cid_offset=$cid_offset; done
for guest in alpha beta; do
  meet dom0 $guest
  meet $guest dom0
  same "$guest knows its number" "cid $(($(guest_domid $guest) + 10))" "$(guest $guest "grep ^cid $peers")"
  check "dom0 reaches $guest there" transfer dom0 $guest 5006
  check "... and $guest dom0, which is 10" transfer $guest dom0 5007
done
same "dom0 is" "cid 10" "$(grep ^cid $peers)"
no_device alpha 2
