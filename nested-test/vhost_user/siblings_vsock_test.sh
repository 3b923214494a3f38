# SPDX-License-Identifier: Apache-2.0
# siblings_vsock_test.sh MODE...: Linux's vsock_test with the other guest, in one mode after the other, the peer in the
# opposite one.  The two ends coordinate over TCP.
. /data/siblings.sh
[ -s /bin/vsock_test ] || fail "there is no vsock_test for this kernel; run: tools/setup --full"

cases=$(vsock_test --list --control-port=1 | sed -nE 's/^([0-9]+)\t(.*)$/\1 - \2/p')
[ "$(echo "$cases" | wc -l)" -ge 11 ] || fail "there are no cases"

port=1230
for mode in "$@"; do
  if [ "$mode" = server ]; then
    vsock_test --control-port=$port --mode=server --peer-cid="$PEER" > suite.log 2>&1 < /dev/null &
    suite=$!
    until grep -q listening suite.log || [ ! -d /proc/$suite ]; do usleep 20000; done
    tell $port
    wait $suite
  else
    told $port
    vsock_test --control-host="10.0.0.$PEER" --control-port=$port --mode=client --peer-cid="$PEER" > suite.log 2>&1 < /dev/null
  fi
  status=$?
  cat suite.log
  [ $status = 0 ] || fail "vsock_test ended with $status"
  # A case may also find out by itself that something is missing, and say so.
  [ "$(sed -nE 's/^([0-9]+ - .*)\.\.\.ok$/\1/p; s/.*[Ss]kipped.*/&/p' suite.log)" = "$cases" ] || fail "not every case has passed"
  port=$((port + 1))
done
