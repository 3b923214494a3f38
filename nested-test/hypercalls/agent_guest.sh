# SPDX-License-Identifier: Apache-2.0
# sh agent_guest.sh create|destroy NAME, in dom0: a guest whose argo-raw-agent a test program can connect to.
. /lib/rig.sh

# address NAME: of the guest; dom0 is .1 in the same network.
address() {
  case $1 in
    pv) echo 10.0.1.2 ;;
    pvh) echo 10.0.2.2 ;;
    *) die "no address for $1" ;;
  esac
}

case $1 in
  create)
    guest_create "$2"
    vif=vif$(guest_domid "$2").0
    ours=$(address "$2")
    ip address add "${ours%.2}.1/24" dev "$vif" && ip link set "$vif" up || die "cannot set up $vif"
    guest "$2" "until [ -e /sys/class/net/eth0 ]; do usleep 20000; done
      ip address add $ours/24 dev eth0 && ip link set eth0 up && argo-raw-agent" || die "no agent in $2"
    ;;
  destroy) guest_destroy "$2" ;;
esac
