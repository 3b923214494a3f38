# SPDX-License-Identifier: Apache-2.0
. /data/lib.sh

guest_create alpha beta
meet dom0 alpha
meet dom0 beta
check "a file goes to alpha" transfer dom0 alpha 5000
check "a file comes from beta" transfer beta dom0 5000

# beta's own connection with dom0, held through all that follows.
mkfifo /tmp/go_on
listening beta 5001 -r
{ echo one; cat /tmp/go_on; } | hatch "$(cid_of beta)" 5001 &
held=$!

# --- alpha's power fails while it sends, while it receives, and while it reads nothing

guest_wait_partner() {
  for one in alpha beta; do
    at $one "echo 0,$(guest_domid alpha),$(guest_domid beta) > /sys/module/argo_core/parameters/partners"
  done
  meet beta alpha
}
guest_wait_partner
check "a file goes from guest to guest" transfer alpha beta 5002

listening dom0 5003 -r /dev/null /dev/null
guest alpha 'hatch 2 5003 < /dev/zero' > /dev/null 2>&1 &
listening alpha 5004 -r /dev/null /dev/null
hatch "$(cid_of alpha)" 5004 < /dev/zero 2> /tmp/sending.log &
sending=$!
busy dom0 $sending 1000000
listening alpha 5005 -r /dev/null /dev/null
guest alpha 'kill -STOP $(cat /tmp/5005.pid)'
hatch "$(cid_of alpha)" 5005 < /dev/zero 2> /tmp/waiting.log &
waiting=$!
busy dom0 $waiting 262144
listening alpha 5015 -r /dev/null /dev/null
guest alpha 'kill -STOP $(cat /tmp/5015.pid)'
at beta "(hatch $(cid_of alpha) 5015 < /dev/zero 2> /tmp/waiting.log & echo \$! > /tmp/waiting.pid; wait \$!
  echo \$? > /tmp/waiting.exit; cut -d' ' -f1 /proc/uptime > /tmp/waiting.end) > /dev/null 2>&1 &
  until [ -s /tmp/waiting.pid ]; do usleep 20000; done"
busy beta "$(guest beta 'cat /tmp/waiting.pid')" 262144
listening alpha 5016 -r
mkfifo /tmp/hold
argosy-stuck "$(cid_of alpha)" 5016 < /tmp/hold > /tmp/stuck.log &
stuck=$!
{ until [ -e /tmp/release ]; do usleep 50000; done; } > /tmp/hold &
until grep -q shut /tmp/stuck.log; do usleep 20000; done

beta_before=$(guest beta "cut -d' ' -f1 /proc/uptime")
before=$(seconds)
guest_destroy alpha
wait $sending
same "who sends to a destroyed domain gets an error" 1 $?
wait $waiting
same "who waits for credit from it does, too" 1 $?
echo "# dom0: $before destroyed, $(seconds) both ended"
same "who receives from it does, too" 1 "$(ended dom0 5003)"
cat /tmp/sending.log /tmp/waiting.log
check "the error is a reset" grep -qi reset /tmp/waiting.log
check "for the other one, too" grep -qi reset /tmp/sending.log
same "a guest that waits for credit gets an error" 1 \
  "$(guest beta 'until [ -s /tmp/waiting.end ]; do usleep 20000; done; cat /tmp/waiting.exit')"
check "which is a reset" guest beta 'cat /tmp/waiting.log; grep -qi reset /tmp/waiting.log'
echo "# beta: $beta_before before the end of alpha, $(guest beta 'cat /tmp/waiting.end') ended"

# --- a domain of the same name, but another number

guest_create alpha
meet dom0 alpha
check "a new domain of the old name can be reached" transfer dom0 alpha 5006
: > /tmp/release
wait $stuck
same "a connection that was shut and kept open kept nobody from that" 0 $?
guest_reboot alpha
meet dom0 alpha
check "and after a reboot" transfer alpha dom0 5007

# --- saved and restored

listening alpha 5008 "" /dev/zero
hatch "$(cid_of alpha)" 5008 < /dev/null > /tmp/from_alpha 2> /tmp/from_alpha.log &
receiving=$!
grown dom0 /tmp/from_alpha $receiving 1000000
guest_save alpha /tmp/alpha.saved
wait $receiving
same "a connection to a domain that is saved is reset" 1 $?
cat /tmp/from_alpha.log
guest_restore alpha /tmp/alpha.saved
rm /tmp/alpha.saved /tmp/from_alpha
meet dom0 alpha
same "its own side is, too" 1 "$(ended alpha 5008)"
check "the restored domain can be reached" transfer dom0 alpha 5009
check "and reaches dom0" transfer alpha dom0 5009
echo "# alpha is $(guest alpha "grep ^cid $peers")"
same "under its new number" "cid $(cid_of alpha)" "$(guest alpha "grep ^cid $peers")"

# --- beta saw nothing of all that

echo two > /tmp/go_on
wait $held
same "beta's connection lives" 0 $?
same "and ends cleanly" 0 "$(ended beta 5001)"
same "with all its data" "one two" "$(guest beta 'cat /tmp/5001.out' | xargs)"

# --- modules come and go under traffic

listening beta 5010 -r /dev/null /dev/null
hatch "$(cid_of beta)" 5010 < /dev/zero 2> /tmp/sending.log &
sending=$!
busy dom0 $sending 1000000
check "a module in use stays" guest beta '! rmmod vsock_argo_transport 2> /dev/null'
unload='until rmmod vsock_argo_transport 2> /dev/null; do usleep 50000; done; rmmod argo_core'
load='insmod /lib/modules/argo_core.ko && insmod /lib/modules/vsock_argo_transport.ko'
check "beta's are unloaded under traffic" guest beta "kill -9 \$(pidof hatch); $unload"
wait $sending
same "the other side gets an error" 1 $?
hatch -w 1 "$(cid_of beta)" 5010 < /dev/null
same "nobody is there then" 1 $?
check "and loaded again" guest beta "$load"
meet dom0 beta
check "beta is back" transfer dom0 beta 5011

listening beta 5012 "" /dev/zero
hatch "$(cid_of beta)" 5012 < /dev/null > /tmp/from_beta 2>&1 &
receiving=$!
grown dom0 /tmp/from_beta $receiving 1000000
kill -9 $receiving
wait $receiving
check "dom0's are unloaded under traffic" sh -c "$unload"
same "the guest gets an error" 1 "$(ended beta 5012)"
check "and loaded again" sh -c "$load"
meet dom0 alpha
meet dom0 beta
check "dom0 found its guests again" transfer beta dom0 5013
check "all of them" transfer alpha dom0 5014
