#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# In a guest with a vhost-user-vsock device; vhost_user_host.py is on the other side.
set -u
cd /tmp || exit 1
fail() { echo "FAILED: $*"; exit 1; }

head -c 3000000 /dev/urandom > sent

# The host's echo: both directions at once, and end-of-file both ways.
hatch 2 5000 < sent > back || fail "hatch 2 5000"
cmp sent back || fail "other bytes came back"

hatch -w 1 2 5999 < /dev/null 2> refused
[ $? = 1 ] || fail "nobody listens there, yet no error"
grep "nobody listens" refused || fail "a refusal is not one: $(cat refused)"

hatch --seqpacket 2 5001 < sent > back || fail "hatch --seqpacket 2 5001"
cmp sent back || fail "other messages came back"

# Now the host comes to us; it says how it went.
mkfifo echo.says
hatch echo -v 5002 2> echo.says &
echo=$!
exec 3< echo.says
while read -r line <&3; do
  case $line in *listening*) break ;; esac
done
answer=$(hatch 2 5003 < /dev/null) || fail "hatch 2 5003"
[ "$answer" = good ] || fail "the host says: $answer"
kill "$echo"
echo "vhost-user-vsock: good"
