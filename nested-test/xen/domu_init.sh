#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Process 1 of a guest: loads the modules of /etc/modules, then takes commands from dom0.
export PATH=/bin:/sbin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
ip link set lo up
exec < /dev/null > /dev/console 2>&1
cd /tmp
while read -r module parameters; do
  # A guest that cannot load a module never gets ready: dom0 sees it end.
  insmod "/lib/modules/$module" $parameters || { echo "rig: cannot load $module"; poweroff -f; }
done < /etc/modules
exec rig serve
