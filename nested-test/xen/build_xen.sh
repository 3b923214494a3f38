#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# build_xen.sh XEN CONFIG [SOURCE...]: the hypervisor with Argo, from the files of a Debian source package.
# XEN is the image that a multiboot loader takes, CONFIG how it was configured; both are empty if there is no source.
set -euo pipefail
xen=$PWD/$1 config=$PWD/$2
shift 2
: > "$xen"
: > "$config"
(($#)) || exit 0

tree=$(mktemp -d "$PWD/xen.XXXXXX")
trap 'rm -rf "$tree"' EXIT
# dpkg-source wants the files side by side, and no links.
cp -L "$@" "$tree"
# A dsc that Debian has signed, but whose keyring is not here: apt has checked the files' digests.
dpkg-source --no-check -x "$tree"/*.dsc "$tree/xen" > "$tree/log" 2>&1 || { cat "$tree/log" >&2; exit 1; }
cd "$tree/xen/xen"

# QEMU 7.2 (helper_vmrun in svm_helper.c) leaves the vector of an interrupt that VMRUN injects in its exception_index; if
# another thread makes the emulated CPU stop before the guest's next exit, QEMU delivers it once more: a PVH guest dies now
# and then by a double fault in its entry code.  An interrupt that is pending at VMRUN ends the guest at once, and with that
# the danger; it does no harm, for a real machine may have one there, too.
pending='    if ( vmcb->event_inj.v \&\& vmcb->event_inj.type == X86_EVENTTYPE_EXT_INTR )\n        send_IPI_self(EVENT_CHECK_VECTOR);'
sed -i "/^void svm_vmenter_helper(/,/^}/s/^    vmcb->rflags = .*/&\n$pending/" arch/x86/hvm/svm/svm.c
sed -i 's/^#include <asm.apic.h>$/&\n#include <asm\/smp.h>\n#include <irq_vectors.h>/' arch/x86/hvm/svm/svm.c
grep -q 'send_IPI_self(EVENT_CHECK_VECTOR)' arch/x86/hvm/svm/svm.c || { echo "build_xen: svm_vmenter_helper() is not as expected" >&2; exit 1; }

# Argo is an "unsupported" feature in 4.17; it is off in Debian's own builds.  Debugging information would put the folder of
# the build into the build-id.
cat > .config << CONFIG
CONFIG_EXPERT=y
CONFIG_UNSUPPORTED=y
CONFIG_ARGO=y
CONFIG_DEBUG=n
CONFIG_DEBUG_INFO=n
CONFIG
# Without these the image would hold the time, the user and the host of the build.
export XEN_BUILD_DATE='not recorded' XEN_BUILD_TIME='' XEN_BUILD_HOST=argosy XEN_WHOAMI=argosy XEN_DOMAIN=''
export PYTHON=/usr/bin/python3
build() { make XEN_TARGET_ARCH=x86_64 debug=n "$@" >> "$tree/log" 2>&1 || { tail -n 40 "$tree/log" >&2; exit 1; }; }
build olddefconfig
for option in ARGO=y PV=y HVM=y; do
  grep -qx "CONFIG_$option" .config || { echo "build_xen: Xen cannot be configured with $option" >&2; exit 1; }
done
build -j"$(nproc)"
cp xen "$xen"
cp .config "$config"
