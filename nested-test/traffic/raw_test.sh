# SPDX-License-Identifier: Apache-2.0
# Two implementations of one protocol: the packet engine of //transport/packet in a program of the one domain, the kernel module
# in the other.
. /data/domains.sh
meet

# becomes_raw GUEST: the modules make room for argo_raw, for a program's own link to dom0.
becomes_raw() {
  guest "$1" 'rmmod vsock_argo_transport argo_core && insmod /lib/modules/argo_raw.ko' || die "$1 cannot load argo_raw"
}

# interplay GUEST: everything between it and the kernel in dom0.
interplay() {
  raw=$(cid "$1")
  becomes_raw "$1"
  begin raw.log "$1" 'argosy-raw-endpoint 0'
  raw_pid=$pid
  await raw.log serving
  ready dom0 "$1"
  check "kernel to program in $1: one byte" argosy-many "$raw" 5000 1 1
  check "kernel to program in $1: 8 MiB there and back" argosy-many "$raw" 5000 1 8388608
  check "kernel to program in $1: 200 connections" argosy-many "$raw" 5000 200 16384
  check "kernel to program in $1: messages keep their bounds" argosy-many --messages "$raw" 5001 100
  head -c 1000000 /dev/zero | hatch "$raw" 5002 > /dev/null 2> reset.log
  same "kernel to program in $1: a reset is an error" 1 $?
  check "... and says so" grep -qi 'reset\|closed' reset.log
  cat reset.log
  hatch -z "$raw" 5999
  same "kernel to program in $1: nobody listens" 1 $?
  kill "$raw_pid"
  wait "$raw_pid"

  # The program's end is its domain's end for the kernel; it comes again as somebody new.
  begin many.log dom0 'argosy-many --serve 5003'
  many_pid=$pid
  await many.log serving
  check "program in $1 to kernel: 8 MiB there and back" guest "$1" 'argosy-raw-endpoint 0 5003 1 8388608'
  check "program in $1 to kernel: 200 connections" guest "$1" 'argosy-raw-endpoint 0 5003 200 16384'
  guest "$1" 'argosy-raw-endpoint 0 5999 1 1'
  same "program in $1 to kernel: nobody listens" 1 $?
  kill "$many_pid"
  wait "$many_pid"
  cat many.log
}
interplay pv
interplay pvh
cat /sys/kernel/debug/argo/vsock
