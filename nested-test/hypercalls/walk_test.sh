#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The walks that Xen must repeat visit what there is to visit: a walk that is refused everywhere would show nothing.
set -euo pipefail
cd nested-test/hypercalls

# visits FILE WHAT...: each stands in the summary, with a count that is not 0.
visits() {
  local file=$1 what
  shift
  for what in "$@"; do
    grep -qE "^$what: [1-9]" "$file" || { echo "$file never comes to: $what"; exit 1; }
  done
}

# Results: 0 or more, and refusals by errno; the flags of notify's answers.
always=("register 0" "register -17" "register -22" "unregister 0" "unregister -2" "notify 0" "send 0" "send 1" "send -3" "send -11"
  "send -22" "send -90" "send -111" "answer 0" "answer 1" "answer 9" "answer 13" "answer 17")
long=("register -3" "unregister -14" "unregister -22" "notify -14" "send -1" "send -14" "answer 21")
visits walk-1-0.txt "${always[@]}" "${long[@]}" "register -1"
visits walk-1-1.txt "${always[@]}" "${long[@]}" "answer 3" "answer 11" "answer 15" "answer 19"
visits walk-2-0.txt "${always[@]}"
visits walk-2-1.txt "${always[@]}" "answer 15"
# Somebody who waited is woken by a notify; and without wildcard rings, by the other's.
for file in walk-*.txt; do
  grep -qE '^d.*notifies = 0 .*!' "$file" || { echo "$file: nobody is woken by a notify"; exit 1; }
done
grep -qE '^d0 .*notifies = 0 \.!$|^d1 .*notifies = 0 !\.$' walk-2-0.txt || { echo "nobody is woken by the other"; exit 1; }
