# SPDX-License-Identifier: Apache-2.0
# The conformance suite over AF_VSOCK over Argo, between each two domains, held to the column of docs/behaviour.md.
. /data/domains.sh
meet

for server in dom0 pv pvh; do
  begin "$server.log" "$server" 'argosy-conformance --server kernel:'
  await "$server.log" serving
  eval "server_$server=$pid"
done

# suite FROM TO FILTER: starts it.
suite() {
  begin "$1-$2.log" "$1" "argosy-conformance --client kernel: $(cid "$2") --scale --gtest_color=no '--gtest_filter=$3' \
    --behaviour /data/behaviour.md --column 'kernel: over Argo'"
  suites="$suites $1-$2:$pid"
}

# judged: waits for those that run.
judged() {
  for suite in $suites; do
    log=${suite%:*}.log
    wait "${suite#*:}"
    status=$?
    same "${suite%:*} passes the suite" 0 $status
    [ $status = 0 ] || grep -vE '^behaviour: |^\[ +OK|Skipped|SKIPPED|^this carrier has no' "$log"
    grep '^argosy-conformance: kernel:' "$log"
  done
  suites=
}

# Each pair once: the suite itself opens connections, sends and ends them from either side.  Three at once: most of the time each
# waits for a round trip.
suites=
suite dom0 pv '-*AThousand*'
suite pv pvh '-*AThousand*'
suite pvh dom0 '-*AThousand*'
judged
grep '^behaviour: ' dom0-pv.log # for tools/behaviour
# Thousands of round trips, one after another: once is enough, and nobody else takes time from it.
suite dom0 pv '*AThousand*'
judged
grep '^behaviour: ' dom0-pv.log

kill "$server_dom0" "$server_pv" "$server_pvh"
wait "$server_dom0" "$server_pv" "$server_pvh"
cat /sys/kernel/debug/argo/core
