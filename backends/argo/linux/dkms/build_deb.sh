#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# build_deb.sh PACKAGING SOURCE...: makes argosy-dkms.deb, the same bytes each time; what BUILD runs.
#
# PACKAGING is this folder.  The sources keep their places below /usr/src/argosy-VERSION.
set -euo pipefail

out=$1 packaging=$2
shift 2

version=
for f in "$@"; do
  if [[ $f == */common.mk ]]; then version=$(sed -nE 's/^argosy-version := ([0-9.]+)$/\1/p' "$f"); fi
done
[[ $version ]] || { echo "build_deb: common.mk names no version" >&2; exit 1; }

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

# place FILE MODE TO: a copy with the version filled in.
place() {
  install -D -m "$2" "$1" "$stage/$3"
  sed -i "s/@VERSION@/$version/g" "$stage/$3"
}

for f in "$@"; do install -D -m 644 "$f" "$stage/usr/src/argosy-$version/$f"; done
place "$packaging/dkms.conf" 644 "usr/src/argosy-$version/dkms.conf"
place "$packaging/copyright" 644 usr/share/doc/argosy-dkms/copyright
place "$packaging/control" 644 DEBIAN/control
place "$packaging/postinst" 755 DEBIAN/postinst
place "$packaging/prerm" 755 DEBIAN/prerm
sed -i '/^#/d' "$stage/DEBIAN/control" # dpkg allows no comment there
find "$stage" -type d -exec chmod 755 {} +

# Any fixed time; 2026-01-01.
export SOURCE_DATE_EPOCH=1767225600
find "$stage" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --root-owner-group --threads-max=1 --build "$stage" "$out" > /dev/null
