# SPDX-License-Identifier: Apache-2.0
# For the debug kernel: what smoke_test.sh does, and then whether the modules have given back all memory.
. /data/smoke_test.sh

# unload_and_ask: unloads the modules and prints what nobody refers to any more.  kmemleak looks only at what is older than 5 seconds,
# and believes what two scans in a row have found.
unload_and_ask='rmmod vsock_argo_transport argo_core && sleep 6 && cd /sys/kernel/debug && echo scan > kmemleak && echo scan > kmemleak && cat kmemleak || echo "cannot ask"'
same "the guest has lost no memory" "" "$(guest alpha "$unload_and_ask")"
same "dom0 has lost no memory" "" "$(sh -c "$unload_and_ask" 2>&1)"
