# SPDX-License-Identifier: Apache-2.0
# The rig itself, without Argo: commands run in guests and say how they ended; several guests at once, and what can happen to
# them.
check "this is dom0" grep -q control_d /proc/xen/capabilities
guest_create alpha beta
same "a command's output comes back" "hello from alpha" "$(guest alpha 'echo hello from alpha')"
guest alpha 'exit 7'
same "a command's exit code comes back" 7 $?
guest alpha 'kill -9 $$'
same "a killed command's, too" 137 $?
same "output is not cut" "$(seq 5000 | md5sum)" "$(guest alpha 'seq 5000' | md5sum)"

# Three at once, the first to start being the last to end.
start one.log guest alpha 'until [ -e /tmp/two ]; do usleep 20000; done; echo one'
one=$pid
start two.log guest alpha 'until [ -e /tmp/three ]; do usleep 20000; done; echo two > /tmp/two'
check "the third of three commands ends first" guest alpha 'echo three > /tmp/three'
wait $one $pid
same "the first ends last" one "$(cat one.log)"

start gone.log true
rig await gone.log "never written" $pid
same "waiting for a line ends with its writer" 1 $?

start sleeper.log guest beta 'echo begun; sleep 1000'
await sleeper.log begun
kill $pid
wait $pid
check "a command that dom0 gives up is killed" guest beta 'while pidof sleep; do usleep 20000; done'

same "two guests run" "alpha beta" "$(for g in alpha beta; do guest $g "echo $g"; done | xargs)"
same "alpha is PV, beta is PVH" "PV PVH" "$(for g in alpha beta; do guest $g 'cat /sys/hypervisor/guest_type'; done | xargs)"

first=$(guest_domid alpha)
guest alpha 'echo before > /tmp/mark'
guest_reboot alpha
check "a rebooted guest has another number" [ "$(guest_domid alpha)" != "$first" ]
check "and another life" guest alpha '! test -e /tmp/mark'

for name in alpha beta; do
  guest $name 'echo kept > /tmp/mark'
  before=$(guest_domid $name)
  guest_save $name /tmp/image
  guest_restore $name /tmp/image
  rm /tmp/image
  check "$name: restored under another number" [ "$(guest_domid $name)" != "$before" ]
  same "$name: restored with what it had" kept "$(guest $name cat /tmp/mark)"
done

start sleeper.log guest beta 'echo begun; sleep 1000'
await sleeper.log begun
guest_destroy beta
wait $pid
same "a command ends with its guest" 255 $?

guest alpha 'poweroff'
guest_gone alpha
check "a guest that has powered itself off is gone" [ "$(xl list | wc -l)" = 2 ]
