#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# dkms_test.sh DEB: installs the package in a Debian with DKMS and kernel headers, and removes it again.
#
# Without privilege and without network, in a root that tools/setup --full made.
set -euo pipefail

deb=$PWD/$1
# Bazel 7 puts more before a repository's name.
tarball=$(echo "$PWD"/../*debian_root/roots/dkms.tar)
fail() {
  echo "dkms_test: $*"
  exit 1
}

[[ -e $tarball ]] || fail "there is no Debian root with DKMS; run: tools/setup --full"

root=$TEST_TMPDIR/root
trap 'rm -rf "$root"' EXIT
mkdir "$root"
tar -C "$root" --no-same-owner --exclude='./dev/*' -xf "$tarball"
cp "$deb" "$root/argosy-dkms.deb"

cat > "$root/inside.sh" << 'END'
set -eu
fail() { echo "dkms_test: $*"; exit 1; }

dpkg -i /argosy-dkms.deb || { cat /var/lib/dkms/argosy/*/build/make.log; fail "the package does not install"; }
dkms status
release=$(ls /lib/modules)
version=$(dpkg-query -W -f '${Version}' argosy-dkms)
[ "$(dkms status)" = "argosy/$version, $release, x86_64: installed" ] || fail "DKMS did not install the modules"
for module in argo_core vsock_argo_transport; do
	path=$(modinfo -k "$release" -n $module) || fail "there is no $module"
	case $path in
	/lib/modules/$release/updates/dkms/*) ;;
	*) fail "$module is in $path" ;;
	esac
	case $(modinfo -F vermagic "$path") in
	"$release "*) ;;
	*) fail "$module is for another kernel" ;;
	esac
	[ "$(modinfo -F version "$path")" = "$version" ] || fail "$module and its package have different versions"
done
# What one needs of the other is known.
modinfo -F depends -k "$release" vsock_argo_transport | grep -q argo_core || fail "vsock_argo_transport does not need argo_core"

# The same without DKMS, for a kernel that is not the running one.
cp -r "/usr/src/argosy-$version" /make
make -C /make/backends/argo/linux KDIR="/lib/modules/$release/build" INSTALL_MOD_PATH=/made install > /make.log 2>&1 || {
	cat /make.log
	fail "make install does not work"
}
grep -q 'vsock_argo_transport.ko: .*argo_core.ko' "/made/lib/modules/$release/modules.dep" || fail "modprobe would not find the modules"
make -C /make/backends/argo/linux KDIR="/lib/modules/$release/build" clean > /make.log
diff -r "/usr/src/argosy-$version" /make || fail "make clean leaves something"
rm -r /make /made /make.log

dpkg --purge argosy-dkms
[ -z "$(dkms status)" ] || fail "DKMS still knows the modules"
left=$(find / -xdev \( -path /proc -o -path /sys \) -prune -o \( -name '*argosy*' -o -name '*argo_*' \) -print |
	grep -v -e '^/argosy-dkms.deb$' -e '^/var/lib/dpkg/' || true)
[ -z "$left" ] || fail "the package leaves: $left"
END

tools/in_root "$root" sh /inside.sh
