# SPDX-License-Identifier: Apache-2.0
# What the scripts for the Argo modules share.  "Where" is dom0 or a guest's name.

# at WHERE COMMAND...: runs a shell command there.
at() {
  at_where=$1
  shift
  if [ "$at_where" = dom0 ]; then sh -c "$*"; else guest "$at_where" "$*"; fi
}

# cid_of WHERE
cid_offset=2
cid_of() { if [ "$1" = dom0 ]; then echo $cid_offset; else echo $(($(guest_domid "$1") + cid_offset)); fi; }

peers=/sys/kernel/debug/argo/vsock
debugfs="grep -q ' /sys/kernel/debug ' /proc/mounts || mount -t debugfs debugfs /sys/kernel/debug"

# meet WHERE OTHER: waits until the two have greeted each other.
meet() {
  at "$1" "$debugfs; until grep -q '^peer .* cid $(cid_of "$2") \(ready\|blocked\)' $peers; do usleep 50000; done"
}

# Takes the modules out, as a command.  A socket that was closed holds them until the peer has answered.
unload='until rmmod vsock_argo_transport 2> /dev/null; do usleep 50000; done; rmmod argo_core'

# listening WHERE PORT OPTIONS [FILE [OUT]]: hatch listens there until it is ended, and sends the file (else nothing); returns
# when it does.  What it receives goes to OUT there, else to /tmp/PORT.out, what it says to /tmp/PORT.log, its id to
# /tmp/PORT.pid, its exit code to /tmp/PORT.exit.
listening() {
  at "$1" "(hatch -v -l $3 $2 < ${4:-/dev/null} > ${5:-/tmp/$2.out} 2> /tmp/$2.log & echo \$! > /tmp/$2.pid; wait \$!; echo \$? > /tmp/$2.exit) > /dev/null 2>&1 &
    until grep -q listening /tmp/$2.log || [ -s /tmp/$2.exit ]; do usleep 20000; done"
}

# ended WHERE PORT: waits for the end of that listener, and prints its exit code.
ended() { at "$1" "until [ -s /tmp/$2.exit ]; do usleep 20000; done; cat /tmp/$2.exit"; }

# busy WHERE PID BYTES [COUNTER]: waits until a process has read so much from files and pipes; with wchar: written to them.
busy() {
  at "$1" "until [ \$(sed -n 's/^${4:-rchar}: //p' /proc/$2/io) -ge $3 ]; do usleep 20000; [ -d /proc/$2 ] || exit 1; done" ||
    die "$1: process $2 ended too early"
}

# transfer FROM TO PORT: a file of 2 MiB arrives whole.
transfer() {
  at "$2" "rm -f /tmp/got-$3; (hatch recv -v $3 /tmp/got-$3 > /dev/null 2> /tmp/$3.log; echo \$? > /tmp/$3.exit) > /dev/null 2>&1 &
    until grep -q listening /tmp/$3.log || [ -s /tmp/$3.exit ]; do usleep 20000; done"
  at "$1" "head -c 2097152 /dev/urandom > /tmp/sent-$3 && hatch send $(cid_of "$2") $3 /tmp/sent-$3" || return 1
  at "$2" "until [ -s /tmp/$3.exit ]; do usleep 20000; done; cat /tmp/$3.log; r=\$(cat /tmp/$3.exit); rm /tmp/$3.exit /tmp/$3.log; exit \$r" || return 1
  [ "$(at "$1" "sha256sum < /tmp/sent-$3")" = "$(at "$2" "sha256sum < /tmp/got-$3")" ]
}

# hundredths: of a second, since the boot.  As a command it can be asked in a guest, whose clock is another one.
hundredths="cut -d' ' -f1 /proc/uptime | tr -d ."
hundredths() { eval "$hundredths"; }
