# SPDX-License-Identifier: Apache-2.0
# Runs each line of docs/argo-linux.md that has a domain's prompt, there.  Those of dom0 run in this shell: they have jobs.
. /data/lib.sh

guest_create alpha
meet dom0 alpha
at dom0 "$debugfs"
sed -n -E 's/^(dom0|alpha)# /\1 /p' /data/argo-linux.md > /tmp/commands
check "the page has commands" test "$(wc -l < /tmp/commands)" -gt 5
exec 9< /tmp/commands
while read -r where command <&9; do
  echo "# $where# $command"
  if [ "$where" = dom0 ]; then
    eval "$command" 9<&- 2> /tmp/said
  else
    guest "$where" "$command" 2> /tmp/said
  fi
  ended=$?
  # What a command leaves in the background must be ready for the next.
  case $command in *"&") until grep -q listening /tmp/said; do usleep 50000; done ;; esac
  cat /tmp/said
  same "$where# $command" 0 $ended
done
