# SPDX-License-Identifier: Apache-2.0
# The rig itself: dom0 is up, a guest comes up, commands run in it and say how they ended.
check "this is dom0 of a Xen with Argo" grep -q control_d /proc/xen/capabilities
guest_create alpha
same "a command's output comes back" "hello from alpha" "$(guest alpha 'echo hello from alpha')"
guest alpha 'exit 7'
same "a command's exit code comes back" 7 $?
guest alpha 'kill -9 $$'
same "a killed command's, too" 137 $?
same "output is not cut" "$(seq 5000 | md5sum)" "$(guest alpha 'seq 5000' | md5sum)"

# Three at once, the first to start being the last to end.
guest alpha 'until [ -e /tmp/two ]; do usleep 20000; done; echo one' > one &
one=$!
guest alpha 'until [ -e /tmp/three ]; do usleep 20000; done; echo two > /tmp/two' &
two=$!
check "the third of three commands ends first" guest alpha 'echo three > /tmp/three'
wait $one $two
same "the first ends last" one "$(cat one)"

guest_destroy alpha
guest alpha true 2> /dev/null
same "a destroyed guest runs nothing" 255 $?
