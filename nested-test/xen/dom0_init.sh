#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Process 1 of dom0: starts Xen's tools, loads the modules of /etc/modules, runs /test.sh, and tells QEMU how it ended.
#
# com1 has Xen's and the kernel's lines; com2 (ttyS1) what the test prints, and the guests' consoles.
export PATH=/usr/lib/xen/bin:/bin:/sbin:/usr/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm /var/log/xen/console /var/lib/xen /var/lib/xenstored
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t tmpfs run /run
mkdir -p /run/xen /run/xenstored /run/lock
ln -s /run /var/run
ln -s /run/lock /var/lock
stty -F /dev/ttyS1 raw -echo
exec < /dev/null > /dev/ttyS1 2>&1

# A byte to QEMU's isa-debug-exit, which ends the machine.
end() {
  sync
  printf "\\x$1" | dd of=/dev/port bs=1 seek=$((EXIT_PORT)) count=1 2> /dev/null
  poweroff -f
}
fail() {
  echo "rig: $1"
  end "$EXIT_FAILED"
}

. /etc/rig.env
cd /tmp
ip link set lo up
for module in xen-privcmd xen-evtchn xen-gntdev xen-gntalloc xenfs; do
  insmod "/lib/modules/$module.ko" || fail "dom0 cannot load $module"
done
mount -t xenfs xenfs /proc/xen
xenstored --pid-file /run/xenstored.pid || fail "xenstored did not start"
xen-init-dom0 > /dev/null || fail "xen-init-dom0 failed"
xenconsoled --log=guest --log-dir=/var/log/xen/console || fail "xenconsoled did not start"
while read -r module parameters; do
  insmod "/lib/modules/$module" $parameters || fail "dom0 cannot load $module"
done < /etc/modules

if [ ! -e /test/script ]; then
  # A person instead of a test (nested-test/shell).
  stty -F /dev/ttyS1 sane
  ENV=/lib/shell.sh setsid -c sh -i < /dev/ttyS1 > /dev/ttyS1 2>&1
  end "$EXIT_PASSED"
fi

rig follow /var/log/xen/console &
follower=$!
sh /lib/test_main.sh
status=$?
kill $follower
wait $follower
echo "rig: the test ended with $status"
if [ $status = 0 ] && [ -e /tmp/rig/complete ]; then end "$EXIT_PASSED"; fi
end "$EXIT_FAILED"
