# SPDX-License-Identifier: Apache-2.0
# Several guests at once, and what can happen to them.
guest_create alpha beta
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

guest beta 'sleep 1000' 2> gone &
sleeper=$!
guest_await beta 'runs sleep 1000'
guest_destroy beta
wait $sleeper
same "a command ends with its guest" 255 $?

guest alpha 'poweroff'
guest_gone alpha
check "a guest that has powered itself off is gone" [ "$(xl list | wc -l)" = 2 ]
