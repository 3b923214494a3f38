# SPDX-License-Identifier: Apache-2.0
# dom0 and a guest over Argo: a file each way, compared by its digest.
guest_create alpha
size=8388608

check "the guest has a file" guest alpha "head -c $size /dev/urandom > /tmp/cargo"
start recv.log hatch -v recv 2000 arrived
await recv.log listening
check "the guest sends it to dom0" guest alpha 'hatch send dom0 2000 /tmp/cargo'
check "dom0 has received all of it" wait $pid
same "none of it is missing" $size "$(wc -c < arrived)"
same "it is the guest's" "$(guest alpha 'sha256sum < /tmp/cargo')" "$(sha256sum < arrived)"

start guest_recv.log guest alpha 'hatch -v recv 2001 /tmp/returned'
await guest_recv.log listening
check "dom0 sends it back" hatch send "dom$(guest_domid alpha)" 2001 arrived
check "the guest has received all of it" wait $pid
check "the guest has its own again" guest alpha 'cmp /tmp/cargo /tmp/returned'
