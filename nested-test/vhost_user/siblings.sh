# SPDX-License-Identifier: Apache-2.0
# What the scripts of two sibling guests share.
set -u
fail() { echo "FAILED: $*"; exit 1; }

# tell PORT: waits until the other guest asks there: it may go on.
tell() { hatch -l "$1" < /dev/null > /dev/null || fail "nobody asked at port $1"; }

# told PORT: waits until the other guest says so.
told() { until hatch "$PEER" "$1" < /dev/null > /dev/null 2>&1; do usleep 50000; done; }
