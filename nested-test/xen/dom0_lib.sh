# SPDX-License-Identifier: Apache-2.0
# What a test in dom0 may use.  A guest is known by its name; nested-test/xen_nested.bzl has an example.

# On a real host everything is in a folder of its own (remote.sh); in our own dom0 at the root.
root=${RIG_ROOT:-}
state=${RIG_STATE:-/tmp/rig}
log_folder=/var/log/xen/console
[ "$root" ] && log_folder=$root/log
# For scripts: where the modules are.  The data are in /data.
modules=$root/lib/modules
checks=0
failures=0
mkdir -p $state

# --- results, as TAP

# pass NAME, fail NAME
pass() { checks=$((checks + 1)) && echo "ok $checks - $1"; }
fail() { checks=$((checks + 1)) && failures=$((failures + 1)) && echo "not ok $checks - $1"; }

# check NAME COMMAND...: passes if the command ends with 0; what it prints is shown either way.
check() {
  check_name=$1
  shift
  if "$@"; then pass "$check_name"; else
    echo "# '$*' ended with $?"
    fail "$check_name"
  fi
}

# same NAME EXPECTED ACTUAL
same() {
  if [ "$2" = "$3" ]; then pass "$1"; else
    echo "# expected '$2', but it is '$3'"
    fail "$1"
  fi
}

# die MESSAGE: ends the test at once, as failed.
die() {
  echo "Bail out! $1"
  exit 1
}

# --- programs in the background

# start LOG COMMAND...: runs it in the background, with what it prints in the file LOG; $pid is the process.
start() {
  log=$1
  shift
  : > "$log"
  "$@" >> "$log" 2>&1 &
  pid=$!
}

# await LOG TEXT [PID]: waits until the process (the one of the last start) has printed a line with the text; ends the test if it
# ends without.
await() {
  rig await "$1" "$2" "${3:-$pid}" && return
  cat "$1"
  die "$1 has no '$2'"
}

# --- guests

# guest_start NAME: creates the guest, does not wait for it.
guest_start() {
  xl create -q "$root/guests/$1.cfg" || die "xl cannot create $1"
  xl domid "$1" > "$state/domid-$1" || die "$1 has ended at once"
  : > "$state/up-$1"
  keep_console "$1"
}

# keep_console NAME: in our own dom0 xenconsoled keeps the guests' consoles; on a real host it need not.
keep_console() {
  [ "$root" ] || return 0
  guest_tty=$(xenstore-read "/local/domain/$(guest_domid "$1")/console/tty") || die "$1 has no console"
  cat "$guest_tty" >> "$log_folder/guest-$1.log" 2> /dev/null &
}

# came_up NAME [OLD]: notes the number of the guest that takes commands now; others may be reading the old one.
came_up() { rig ready "$@" > "$state/ready-$1" && mv "$state/ready-$1" "$state/domid-$1"; }

# guest_wait NAME: waits until the guest takes commands: its modules are loaded then.
guest_wait() { came_up "$1" || die "$1 did not come up"; }

# guest_create NAME...: all of them at once, and waits.
guest_create() {
  for guest_name in "$@"; do guest_start "$guest_name"; done
  for guest_name in "$@"; do guest_wait "$guest_name"; done
}

# guest_domid NAME: its number.
guest_domid() { cat "$state/domid-$1"; }

# guest NAME COMMAND...: runs a shell command in a guest.  It is a program, guest.sh, which says more.

# guest_destroy NAME: as if its power failed.  Returns when the domain is gone.
guest_destroy() {
  rm -f "$state/up-$1"
  xl destroy "$(guest_domid "$1")" || die "xl cannot destroy $1"
  rig gone "$(guest_domid "$1")"
}

# guest_gone NAME: waits for the end of a guest that ends by itself.
guest_gone() {
  rm -f "$state/up-$1"
  rig gone "$(guest_domid "$1")"
}

# guest_reboot NAME: and waits until it takes commands again, under another number.
guest_reboot() {
  guest_old=$(guest_domid "$1")
  xl reboot "$guest_old" > /dev/null || die "xl cannot reboot $1"
  came_up "$1" "$guest_old" || die "$1 did not come up again"
  keep_console "$1"
}

# guest_save NAME FILE, guest_restore NAME FILE
guest_save() {
  rm -f "$state/up-$1"
  xl save "$(guest_domid "$1")" "$2" > "$state/xl.log" 2>&1 || { cat "$state/xl.log" && die "xl cannot save $1"; }
  rig gone "$(guest_domid "$1")"
}
guest_restore() {
  xl restore "$2" > "$state/xl.log" 2>&1 || { cat "$state/xl.log" && die "xl cannot restore $1"; }
  : > "$state/up-$1"
  came_up "$1" || die "$1 did not come back"
  keep_console "$1"
}

# guest_console NAME: what the guest's kernel and its process 1 have written so far.
guest_console() { cat "$log_folder/guest-$1.log"; }

# guest_await NAME TEXT: waits until that has a line with the text.
guest_await() { rig await "$log_folder/guest-$1.log" "$2"; }

# --- the end, by test_main.sh

# What a debug kernel's kmemleak has found by now; Debian's kernels have none.
leaks='if [ -e /sys/kernel/debug/kmemleak ]; then echo scan > /sys/kernel/debug/kmemleak && cat /sys/kernel/debug/kmemleak; fi'

no_leaks() {
  [ -z "$2" ] && return
  echo "$2"
  fail "$1 leaks no memory"
}

# Guests that should be there must be; what they have written must have come out before dom0 ends the machine.
finish_guests() {
  for guest_file in "$state"/up-*; do
    [ -e "$guest_file" ] || continue
    guest_name=${guest_file#"$state"/up-}
    no_leaks "$guest_name" "$(guest "$guest_name" "$leaks")"
    if guest "$guest_name" "echo rig-last-line > /dev/console"; then
      guest_await "$guest_name" rig-last-line
    else
      fail "$guest_name is still there at the end"
    fi
  done
  no_leaks dom0 "$(eval "$leaks" 2>&1)"
}
