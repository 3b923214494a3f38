#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# guest NAME COMMAND...: runs a shell command in a guest, as root in /tmp, with what it prints on our output; ends as it ends, with
# 255 if the guest has gone.  Several may run at once; killing this kills the command.
name=$1
shift
exec rig run "$(cat "${RIG_STATE:-/tmp/rig}/domid-$name")" "$*"
