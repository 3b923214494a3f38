# SPDX-License-Identifier: Apache-2.0
# siblings_conformance.sh client|server: the conformance suite from one sibling guest to the other.
. /data/siblings.sh

if [ "$1" = server ]; then
  mkfifo says
  argosy-conformance --server kernel: > says 2>&1 &
  server=$!
  exec 3< says
  while read -r line <&3; do
    echo "$line"
    case $line in *serving*) break ;; esac
  done
  tell 1230
  told 1231
  kill $server
else
  told 1230
  argosy-conformance --client kernel: "$PEER" --scale --gtest_color=no > suite.log 2>&1
  status=$?
  grep -vE '^behaviour: |^\[ +OK|Skipped|SKIPPED|^this carrier has no|^\[ RUN' suite.log
  tell 1231
  exit $status
fi
