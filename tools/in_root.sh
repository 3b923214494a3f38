#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# in_root.sh ROOT COMMAND...: runs the command in the Debian that was unpacked in the folder ROOT, as its root user.
#
# In namespaces of its own: needs no privilege, and cannot harm the machine.  ROOT must be empty of devices (unpack it with
# tar --no-same-owner --exclude='./dev/*').  The network stays reachable.
set -euo pipefail

if ! unshare --map-root-user --mount --pid --fork true; then
  echo "in_root: this system lets no user make namespaces" >&2
  exit 2
fi
# /proc is asked for by DKMS and by objtool.
# shellcheck disable=SC2016  # for the inner shell
exec unshare --map-root-user --mount --pid --fork --kill-child -- bash -euc '
  root=$1
  shift
  mount -t proc proc "$root/proc"
  for device in null zero random urandom; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
  done
  ln -sfn /proc/self/fd "$root/dev/fd"
  exec /usr/sbin/chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive "$@"
' bash "$@"
