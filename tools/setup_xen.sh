# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154,SC2164 # variables of tools/setup, which also ends where cd fails
# Part of tools/setup --full: what the nested Xen rig is made of, under .deps/xen.  Sourced there.

# The hypervisor is built from this source package; what dom0 runs comes from the same version.
xen_version=4.17.5+72-g01140da4e8-1
xen_tools=(
  xen-utils-4.17 xenstore-utils
  libxencall1 libxendevicemodel1 libxenevtchn1 libxenforeignmemory1 libxengnttab1 libxenhypfs1 libxenmisc4.17
  libxenstore4 libxentoolcore1 libxentoollog1
)

# fetch_xen: Xen's source package, still packed, as .deps/xen/source; Debian's Xen tools, unpacked and not installed, as
# .deps/xen/tools.  Where a mirror has only another 4.17 left, that one is taken: 4.17's tools fit every 4.17.
fetch_xen() {
  local tmp deb
  [[ -d $deps/xen ]] && return
  say "fetching Xen $xen_version"
  private_apt
  tmp=$(mktemp -d "$deps/fetch.XXXXXX")
  mkdir -p "$tmp/xen/source" "$tmp/xen/tools" "$tmp/debs"
  (
    cd "$tmp/xen/source"
    apt-get source -q --download-only --only-source "xen=$xen_version" ||
      { say "no such source; taking another" && apt-get source -q --download-only --only-source xen/bookworm; }
    cd "$tmp/debs"
    apt-get download -q libyajl2 "${xen_tools[@]/%/=$xen_version}" ||
      { say "no such packages; taking others" && apt-get download -q libyajl2 "${xen_tools[@]}"; }
  )
  for deb in "$tmp"/debs/*.deb; do dpkg-deb -x "$deb" "$tmp/xen/tools"; done
  mv "$tmp/xen" "$deps/xen"
  rm -rf "$tmp"
}

# fetch_ssh_server: a small sshd for dom0 of the rig, unpacked as .deps/dropbear, to test nested-test/run with.
fetch_ssh_server() {
  local tmp deb
  [[ -d $deps/dropbear ]] && return
  say "fetching dropbear"
  private_apt
  tmp=$(mktemp -d "$deps/fetch.XXXXXX")
  mkdir "$tmp/debs"
  (cd "$tmp/debs" && apt-get download -q dropbear-bin libtomcrypt1 libtommath1)
  for deb in "$tmp"/debs/*.deb; do dpkg-deb -x "$deb" "$tmp/dropbear"; done
  mv "$tmp/dropbear" "$deps/dropbear"
  rm -rf "$tmp"
}
