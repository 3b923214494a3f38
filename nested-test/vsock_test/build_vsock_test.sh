#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# build_vsock_test.sh PROGRAM [SOURCE...]: Linux's vsock_test as a static program, from tools/testing/vsock of a kernel's source.
# PROGRAM is empty if there is no source.
set -euo pipefail
program=$PWD/$1
shift
: > "$program"
(($#)) || exit 0

tree=$(mktemp -d "$PWD/vsock_test.XXXXXX")
trap 'rm -rf "$tree"' EXIT
cp -L "$@" "$tree"
cd "$tree"

# change FILE REGEX REPLACEMENT
change() {
  grep -Eq "$2" "$1" || { echo "build_vsock_test: $1 has no line '$2' any more" >&2; exit 1; }
  sed -Ei "s/$2/$3/" "$1"
}
# An emulated CPU of a busy machine is slower than the authors thought possible: seconds for any step, and how late a receive
# timeout may come.
change timeout.h 'TIMEOUT = 10\b' 'TIMEOUT = 60'
change vsock_test.c '(define READ_OVERHEAD_NSEC) 250000000' '\1 5000000000LL'
# The word over TCP that the peer has called shutdown() may be faster than the packet over Argo that says so to the kernel.
if grep -q test_stream_check_sigpipe vsock_test.c; then
  change vsock_test.c '^\s+res = send\(fd, "A", 1, 0\);' \
    '\ttimeout_begin(TIMEOUT); while ((res = send(fd, "A", 1, 0)) == 1) { timeout_check("send"); usleep(1000); } timeout_end();'
fi

# Newer ones have their zero-copy tests in files of their own; the rest of the folder are other programs.
sources=(vsock_test.c control.c timeout.c util.c)
for f in vsock_test_zerocopy.c msg_zerocopy_common.c; do
  if [[ -e $f ]]; then sources+=("$f"); fi
done
# The kernel's own tools/include would give ARRAY_SIZE and bool.  The C library warns that getaddrinfo wants its shared parts,
# which it does not for addresses in figures.
"${CC:-gcc}" -static -O2 -w -fno-strict-overflow -fno-strict-aliasing -D_GNU_SOURCE -include stdbool.h \
  '-DARRAY_SIZE(x)=(sizeof(x) / sizeof((x)[0]))' -o "$program" "${sources[@]}" 2> log || { cat log >&2; exit 1; }
