#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The far end of the suite, in a guest with a vhost-user-vsock device; conformance_host.py runs the cases.
set -u
mkfifo says || exit 1
argosy-conformance --server kernel: > says &
server=$!
# Open until the end, so that what it says finds a reader.
exec 3< says
read -r line <&3 || exit 1
echo "$line"
# The host begins when this comes, and ends it when it is done.
hatch 2 6101 < /dev/null
status=$?
kill "$server"
exit $status
