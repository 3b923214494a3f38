# SPDX-License-Identifier: Apache-2.0
# What a person's shell in dom0 begins with (nested-test/shell): the library of the tests, and all guests.
. /lib/rig.sh
# In a shell that somebody types into, an error is no reason to leave.
die() { echo "$1" >&2; }
PS1='dom0# '
for guest_file in /guests/*.cfg; do
  guest_name=$(basename "$guest_file" .cfg)
  echo "starting $guest_name"
  guest_create "$guest_name"
done
cat << END

This is dom0.  'xl list' shows the guests; also: guest NAME COMMAND, guest_create NAME, guest_destroy NAME, guest_reboot NAME,
guest_console NAME.  The programs are in /bin, the modules in /lib/modules, in guests too.
To leave: exit (or Ctrl-A x, if nothing answers any more).

END
