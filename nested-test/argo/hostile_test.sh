# SPDX-License-Identifier: Apache-2.0
. /data/lib.sh

guest_create alpha evil
meet dom0 alpha
guest evil 'rmmod vsock_argo_transport && rmmod argo_core && insmod /lib/modules/argo_raw.ko' || die "evil cannot change its modules"

# work NAME: what alpha and dom0 do meanwhile, for as long as /tmp/working is there: connects, and files both ways.
work() {
  connects=0
  bytes=0
  started=$(date +%s)
  while [ -e /tmp/working ]; do
    hatch -w 10 "$(cid_of alpha)" 5000 < /dev/null > /dev/null || { echo "connect failed" && return 1; }
    hatch send "$(cid_of alpha)" 5001 /tmp/megabytes 2> /tmp/send.log || { cat /tmp/send.log && return 1; }
    connects=$((connects + 1))
    bytes=$((bytes + 4))
  done
  echo "# $1: $connects connects and files of 4 MiB in $(($(date +%s) - started)) s"
}

head -c 4194304 /dev/urandom > /tmp/megabytes
guest alpha '(hatch -k -e true -l 5000 &
  while true; do rm -f /tmp/got; hatch recv 5001 /tmp/got || exit 1; done) > /dev/null 2> /tmp/alpha.log &'
at alpha "until [ \$(pidof hatch | wc -w) = 2 ]; do usleep 20000; done"

# both MODE ARGUMENTS: alpha and dom0 work while evil does that for 20 seconds.
both() {
  : > /tmp/working
  guest evil "argosy-hostile $*" > /tmp/evil.out 2>&1 &
  evil=$!
  work "evil $1" &
  worker=$!
  wait $evil
  same "evil ended by itself: $1" 0 $?
  cat /tmp/evil.out
  rm /tmp/working
  wait $worker
  same "alpha was served meanwhile: $1" 0 $?
}

both spin 20
both attack 20 "$(cid_of alpha)"

# The attack was one: dom0 has seen each kind of it.  Its own counters say so.
seen() {
  grep -A 6 "^peer .* cid $(cid_of evil) " $peers | grep -q " $1 [1-9]"
}
cat $peers
for counter in drop_type drop_length drop_header drop_reply queued full lost; do
  check "dom0 counts $counter of evil" seen $counter
done
check "a file still goes to alpha" transfer dom0 alpha 5002

guest evil 'rmmod argo_raw && insmod /lib/modules/argo_core.ko && insmod /lib/modules/vsock_argo_transport.ko'
meet dom0 evil
check "evil may come back as a good domain" transfer evil dom0 5003
