#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs a test in dom0 of a real Xen host, as root, from the folder that nested-test/run has copied there; leaves nothing behind.
#
# Our modules are loaded from the folder if they fit the host's kernel, else from the host (argosy-dkms); what was loaded is
# unloaded again.  What the kernels and Xen say during the test goes to the output, for whoever looks for alarms.
here=$(cd "$(dirname "$0")/.." && pwd)
export RIG_ROOT="$here" RIG_STATE="$here/state" PATH="$here/bin:$PATH:/usr/sbin:/sbin"
loaded=
follower=

fail() {
  echo "rig: $1"
  exit 1
}

cleanup() {
  trap '' HUP INT PIPE TERM
  for up in "$RIG_STATE"/up-*; do
    [ -e "$up" ] && xl destroy "$(cat "$RIG_STATE/domid-${up##*/up-}")"
  done
  [ "$follower" ] && kill "$follower" && wait "$follower"
  for module in $loaded; do rmmod "$module"; done
  [ "$(readlink /data)" = "$here/data" ] && rm /data
  rm -rf "$here"
}
trap cleanup EXIT
trap 'exit 1' HUP INT PIPE TERM

mkdir -p "$RIG_STATE" "$here/log" "$here/work" "$here/data"
[ "$(id -u)" = 0 ] || fail "root is needed on the Xen host"
xl info > "$RIG_STATE/info" || fail "this is no dom0 of a running Xen, or its tools do not work"
# Where scripts look for their data.
[ -e /data ] && fail "there is something at /data already"
ln -s "$here/data" /data
xl dmesg > "$RIG_STATE/xen-before"
mark="argosy-test-$$ begins"
echo "$mark" > /dev/kmsg

while read -r module parameters; do
  name=$(echo "${module%.ko}" | tr - _)
  if [ -d "/sys/module/$name" ]; then
    echo "rig: $name is loaded already, and stays as it is"
    continue
  fi
  # shellcheck disable=SC2086 # parameters are words
  insmod "$here/lib/modules/$module" $parameters 2> "$RIG_STATE/insmod" || modprobe "$name" $parameters ||
    { cat "$RIG_STATE/insmod" && fail "cannot load $name for Linux $(uname -r): install argosy-dkms there"; }
  loaded="$name $loaded"
done < "$here/etc/modules"

for config in "$here"/guests/*.cfg; do sed -i "s|@HERE@|$here|" "$config"; done
rig follow "$here/log" &
follower=$!
cd "$here/work" || exit 1
sh "$here/lib/test_main.sh"
status=$?
[ -e "$RIG_STATE/complete" ] || status=1
dmesg | sed "1,/$mark/d; s/^/dom0| /"
xl dmesg | grep -vxFf "$RIG_STATE/xen-before" | sed 's/^/xen| /'
exit $status
