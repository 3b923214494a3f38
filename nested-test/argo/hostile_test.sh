# SPDX-License-Identifier: Apache-2.0
. /data/lib.sh

guest_create alpha evil
meet dom0 alpha
guest evil 'rmmod vsock_argo_transport && rmmod argo_core && insmod /lib/modules/argo_raw.ko' || die "evil cannot change its modules"

# What alpha gets: a stream without end, whose digest says at the end that all of it arrived, and connects beside it.
head -c 1048576 /dev/urandom > /tmp/megabyte
listening alpha 5000 -k
start recv.log guest alpha 'exec hatch recv -v 5001 > /dev/null'
await recv.log listening
receiving=$pid
: > /tmp/working
while [ -e /tmp/working ]; do cat /tmp/megabyte; done | hatch send "$(cid_of alpha)" 5001 > send.log 2>&1 &
sending=$!
busy dom0 $sending 1048576

# sent: how many KiB of the stream so far.
sent() { echo $(($(sed -n 's/^rchar: //p' /proc/$sending/io) / 1024)); }

# beside MODE ARGUMENTS: what alpha gets while evil does that for some seconds.  Adds to kib_MODE, connects_MODE and took_MODE.
beside() {
  rm -f /tmp/evil.exit
  { guest evil "argosy-hostile $*" > evil.out 2>&1; echo $? > /tmp/evil.exit; } &
  from=$(sent)
  begun=$(hundredths)
  connects=0 refused=0
  until [ -s /tmp/evil.exit ]; do
    hatch -w 60 "$(cid_of alpha)" 5000 < /dev/null > /dev/null || refused=$((refused + 1))
    connects=$((connects + 1))
  done
  took=$(($(hundredths) - begun))
  kib=$(($(sent) - from))
  same "evil ended by itself: $1" 0 "$(cat /tmp/evil.exit)"
  cat evil.out
  same "alpha took every connect meanwhile" 0 $refused
  echo "# $1: $kib KiB and $connects connects in $took hundredths of a second"
  eval "kib_$1=\$((kib_$1 + kib)) connects_$1=\$((connects_$1 + connects)) took_$1=\$((took_$1 + took))"
}

# Taking turns, so that what else this machine does meets both.
kib_spin=0 connects_spin=0 took_spin=0 kib_attack=0 connects_attack=0 took_attack=0
for turn in 1 2 3 4; do
  beside spin 6
  beside attack 6 "$(cid_of alpha)"
done
percent() { echo $((100 * $1 * took_spin / took_attack / $2)); }
bytes=$(percent $kib_attack $kib_spin)
connects=$(percent $connects_attack $connects_spin)
echo "# beside an attack alpha gets $bytes % of the bytes and $connects % of the connects that it gets beside a domain that is only busy"
# All share one CPU here, and dom0 takes each of evil's messages from its ring: about half of the bytes is where it lies (46 to 56 %
# from slice to slice), so half cannot be asked of it.  A third is what is left if evil gets twice as much of dom0 as alpha does.  Of
# connects there are a dozen or two, and their number says less.
check "alpha gets a third of the bytes or more" test "$bytes" -ge 33
check "... and a fifth of the connects" test "$connects" -ge 20
rm /tmp/working
check "the stream ends well" wait $sending
check "... and whole" wait $receiving
cat send.log recv.log

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
