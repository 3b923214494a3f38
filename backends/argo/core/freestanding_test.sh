#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
# The core must compile without any libc header, with the options a kernel uses, and need nothing but memcpy.
set -euo pipefail

include=$(gcc -print-file-name=include)
for options in "" "-m64 -mno-sse" "-m64 -mgeneral-regs-only -fno-strict-aliasing -Wframe-larger-than=1024"; do
  for source in ring link; do
    # shellcheck disable=SC2086  # options are words
    gcc -std=gnu11 -ffreestanding -nostdinc -isystem "$include" -Wall -Wextra -Werror -O2 $options -I. \
      -c "backends/argo/core/$source.c" -o "$TEST_TMPDIR/$source.o"
  done
  ld -r "$TEST_TMPDIR/ring.o" "$TEST_TMPDIR/link.o" -o "$TEST_TMPDIR/core.o"
  undefined=$(nm --undefined-only --format=posix "$TEST_TMPDIR/core.o" | cut -d' ' -f1)
  if [[ "$undefined" != memcpy ]]; then
    echo "with '$options' the core needs more than memcpy: $undefined"
    exit 1
  fi
done
