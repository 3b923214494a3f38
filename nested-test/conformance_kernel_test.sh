#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The suite over the kernel's AF_VSOCK, between two processes of a plain guest, by vsock_loopback.
set -u
echo "guest: Linux $(uname -r)"  # for tools/behaviour
mkfifo says || exit 1
argosy-conformance --server kernel: > says &
server=$!
# Open until the end, so that what it says finds a reader.
exec 3< says
read -r line <&3 || exit 1
echo "$line"
argosy-conformance --client kernel: local --scale --gtest_color=no --behaviour /data/behaviour.md
status=$?
kill "$server"
exit $status
