#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hatch over the kernel's AF_VSOCK, inside a plain guest: both ends in one machine, by vsock_loopback.
set -u
cd /tmp || exit 1
fail() { echo "FAILED: $*"; exit 1; }

# listener NAME ARGUMENTS...: starts hatch and waits until it says that it listens; its id is in $pid.
listener() {
  name=$1
  shift
  mkfifo "$name.says"
  hatch -v "$@" 2> "$name.says" > "$name.out" &
  pid=$!
  # Open until the end, so that what it says later finds a reader.
  exec 3< "$name.says"
  while read -r line <&3; do
    echo "$name: $line"
    case $line in *listening*) return 0 ;; esac
  done
  fail "$name did not listen"
}

# Without -T or ARGOSY_TRANSPORT: this kernel answers, so hatch finds it by itself.
listener pipe -l 5000
echo "over the kernel" | hatch 1 5000 || fail "hatch 1 5000"
wait "$pid" || fail "the listener ended with $?"
[ "$(cat pipe.out)" = "over the kernel" ] || fail "other text arrived"

head -c 3000000 /dev/urandom > sent
listener transfer recv 5001 received
hatch send local 5001 sent || fail "hatch send"
wait "$pid" || fail "hatch recv ended with $?"
cmp sent received || fail "the file changed"

listener message -l --seqpacket 5002
printf 'one message' | hatch --seqpacket 1 5002 || fail "hatch --seqpacket"
wait "$pid" || fail "the message listener ended with $?"
[ "$(cat message.out)" = "one message" ] || fail "another message arrived"

hatch 1 5999 < /dev/null
[ $? = 1 ] || fail "nobody listens, yet no error"
hatch -z 1 5999 && fail "-z found a listener that is not there"
echo "hatch over the kernel: good"
