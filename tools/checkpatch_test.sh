#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# checkpatch_test.sh REPOSITORY FILE...: Linux's own style check, scripts/checkpatch.pl --strict, finds nothing in the files.
# REPOSITORY is that of a kernel with source.
set -euo pipefail

# What is not asked of our files, and why:
#   ENOSYS         Xen's answer where it was built without Argo
#   EXPORT_SYMBOL  wants to stand behind the function, but the portable core knows no kernel
ignore=ENOSYS,EXPORT_SYMBOL
declare -A also=(
  # The arguments and members that later kernels add to ours cannot be in parentheses.
  [compat.h]=COMPLEX_MACRO,SPACING
  # Tracepoints have a layout of their own, in all of Linux.
  [_trace.h]=OPEN_ENDED_LINE,PARENTHESIS_ALIGNMENT
)

# check FILE: prints what checkpatch finds; fails if that is anything.
check() {
  local file=$1 types=$ignore key
  for key in "${!also[@]}"; do
    if [[ $file == *$key ]]; then types+=,${also[$key]}; fi
  done
  perl "$checkpatch" --no-tree --strict --terse --show-types --no-summary --ignore "$types" -f "$file"
}

# Bazel 7 puts more before a repository's name.
checkpatch=$(echo ../*"$1"/source/scripts/checkpatch.pl)
shift
[[ -e $checkpatch ]] || { echo "there is no linux-source; run: tools/setup --full"; exit 1; }

printf '// SPDX-License-Identifier: GPL-2.0-only\nint one( void) {\n    return 1;\n}\n' > "$TEST_TMPDIR/bad.c"
if check "$TEST_TMPDIR/bad.c" > "$TEST_TMPDIR/bad.log"; then
  echo "checkpatch finds nothing in a file of bad style"
  exit 1
fi

status=0
checked=0
for file in "$@"; do
  if [[ $file == *.[ch] ]]; then
    check "$file" || status=1
    checked=$((checked + 1))
  fi
done
((checked)) || { echo "no file to check"; exit 1; }
exit $status
