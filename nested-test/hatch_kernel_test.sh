#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# hatch over the kernel's AF_VSOCK, inside a plain guest: both ends in one machine, by vsock_loopback.
set -u
cd /tmp || exit 1
fail() { echo "FAILED: $*"; exit 1; }

# listener NAME ARGUMENTS...: starts hatch and waits until it says that it listens; its id is in $pid.  It reads $input.
input=/dev/null
listener() {
  name=$1
  shift
  mkfifo "$name.says"
  hatch -v "$@" < "$input" 2> "$name.says" > "$name.out" &
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

# The kernel may send a part of a message before it says EAGAIN: each message must arrive once, whatever waits for what.

# has_read ID BYTES: waits until the process has read so much from files and pipes.
has_read() {
  until [ "$(sed -n 's/^rchar: //p' "/proc/$1/io")" -ge "$2" ]; do
    kill -0 "$1" || fail "hatch ended before it had read $2 bytes"
  done
}

# stuck NAME PORT: a client, its id in $client, fed by $feeder, and a stopped listener whose 262144 bytes of buffer are full to the last one,
# but not with whole messages: the first has 50000 bytes.
stuck() {
  listener "$1" -l --seqpacket "$2"
  kill -STOP "$pid"
  mkfifo "$1.in"
  hatch --seqpacket 1 "$2" < "$1.in" 2> "$1.errors" &
  client=$!
  { head -c 50000 sent; has_read "$client" 50000; tail -c +50001 sent; } > "$1.in" &
  feeder=$!
  has_read "$client" 262145
}

# fails NAME TEXT: the client ended with 1 and said why; what arrived is the beginning of what was sent.
fails() {
  wait "$client"
  [ $? = 1 ] || fail "$1: the client did not end with 1"
  grep "$2" "$1.errors" || fail "$1: the client said: $(cat "$1.errors")"
  kill -CONT "$pid"
  wait "$pid" || fail "$1: the listener ended with $?"
  head -c "$(stat -c %s "$1.out")" sent | cmp - "$1.out" || fail "$1: other bytes arrived"
}

stuck slow 5003
kill -CONT "$pid"
wait "$client" || fail "hatch --seqpacket to a slow reader: $(cat slow.errors)"
wait "$feeder"
wait "$pid" || fail "the slow listener ended with $?"
cmp sent slow.out || fail "a slow reader got other bytes"

# Seven messages fill what is on the way: outgoing, four in the kernel, incoming, and the pipe that nobody reads yet.
head -c 2000000 /dev/urandom > back
mkfifo both.out client.out both.go client.go
{ read -r _ < both.go; cat; } < both.out > both.got &
both_reader=$!
{ read -r _ < client.go; cat; } < client.out > client.got &
client_reader=$!
input=back
listener both -l --seqpacket 5004
input=/dev/null
hatch --seqpacket 1 5004 < sent > client.out &
client=$!
has_read "$client" 458752
has_read "$pid" 458752
echo > both.go
echo > client.go
wait "$client" || fail "both directions at once: the client ended with $?"
wait "$pid" || fail "both directions at once: the listener ended with $?"
wait "$both_reader" "$client_reader"
cmp sent both.got || fail "both directions at once: other bytes arrived"
cmp back client.got || fail "both directions at once: other bytes came back"

listener idle -l --seqpacket 5005
kill -STOP "$pid"
hatch -w 1 --seqpacket 1 5005 < sent 2> idle.errors &
client=$!
fails idle "within the time of -w"

stuck signal 5006
kill "$client"
fails signal "stopped by a signal"
wait "$feeder"

# Ctrl-Z and fg end the kernel's send() in the middle of a message.
stuck paused 5007
until cat "/proc/$client/task/"*/syscall | grep -q '^44 '; do :; done  # in sendto()
kill -STOP "$client"
until grep -q '^State:.T' "/proc/$client/status"; do :; done
kill -CONT "$client" "$pid"
fails paused "was stopped while"

hatch 1 5999 < /dev/null
[ $? = 1 ] || fail "nobody listens, yet no error"
hatch -z 1 5999 && fail "-z found a listener that is not there"
echo "hatch over the kernel: good"
