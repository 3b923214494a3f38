# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2016,SC2154 # $(...) of apt and make; variables of tools/setup
# For tools/setup --full, which sources it: Debian 12's kernels into .deps/kernels/NAME, unpacked and not installed, and a root
# in which the DKMS package is tried.
#
# Each folder is one kernel: image, modules, and the headers of the very same version, so that modules built here load
# there.  It is fetched whole or not at all, and kept when the archive moves on.  tools/kernels.bzl lists the same names.
# Wants: $deps, say, die, private_apt.

kernel_release=bookworm

# kernel_apt: an apt state of its own for the suites of $kernel_release, on the mirrors of the machine's own entries,
# which may lack backports or be those of a newer Debian.
kernel_apt() {
  (
    private_apt
    targets=$(apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(REPO_URI)|' 'Created-By: Packages' | sort -u)
    apt=$deps/apt-kernels
    rm -rf "$apt/sources.d"
    mkdir -p "$apt/sources.d" "$apt/lists/partial" "$apt/cache/archives/partial"
    while IFS='|' read -r origin label uri _; do
      [[ $origin == Debian ]] || continue
      suites="$kernel_release $kernel_release-backports"
      [[ $label == Debian-Security ]] && suites=$kernel_release-security
      for suite in $suites; do
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $suite main"
      done
    done <<< "$targets" | sort -u > "$apt/sources.d/kernels.list"
    [[ -s $apt/sources.d/kernels.list ]] || die "no Debian entry in /etc/apt: cannot fetch kernels"
    sed "s|$deps/apt/|$deps/apt-kernels/|; s|\"$deps/apt\"|\"$deps/apt-kernels\"|" "$deps/apt/apt.conf" > "$apt/apt.conf"
    APT_CONFIG=$apt/apt.conf apt-get update -q
  )
  export APT_CONFIG=$deps/apt-kernels/apt.conf
}

# fetch_kernel NAME [SUITE [source]]: the current kernel as .deps/kernels/NAME, with linux-source if wanted.  An empty
# SUITE is the release with its security updates.
fetch_kernel() (
  name=$1 want_source=${3:-}
  suite=(${2:+"--target-release=$2"})
  # linux-headers-amd64 names the current kernel; "linux-headers-6.1.0-56-amd64" has its image and its parts beside it.
  headers=$(apt-cache "${suite[@]}" depends linux-headers-amd64 | sed -nE 's/.*Depends: (linux-headers-[0-9].*-amd64)$/\1/p' | head -1)
  release=${headers#linux-headers-}
  [[ $release == "$name".* ]] || die "Debian has no kernel $name any more (but '$release'); see tools/kernels.bzl"
  version=$(apt-cache "${suite[@]}" policy "$headers" | sed -nE 's/^ *Candidate: //p')
  parts=$(apt-cache "${suite[@]}" depends "$headers" | sed -nE 's/.*Depends: (linux-headers-.*-common|linux-kbuild-.*)$/\1/p' | sort -u)
  packages=()
  for p in "linux-image-$release" "$headers" $parts ${want_source:+linux-source-$name}; do
    # The headers take any later kbuild, and for hours after an upload the archive has a later one only: images are signed
    # and published behind the rest.
    if [[ $p == linux-kbuild-* ]]; then packages+=("$p"); else packages+=("$p=$version"); fi
  done
  say "fetching Linux $release $version"
  mkdir -p "$deps/kernels"
  tmp=$(mktemp -d "$deps/kernels/.fetch.XXXXXX")
  trap 'rm -rf "$tmp"' EXIT
  cd "$tmp" || exit
  apt-get download -q ${2:+"--target-release=$2"} "${packages[@]}"
  for p in ./*.deb; do
    dpkg-deb -x "$p" tree
    rm "$p"
  done
  place_headers tree "$release"
  if [[ $want_source ]]; then unpack_source tree "$name"; fi
  echo "$release $version" > tree/VERSION
  mv tree "$deps/kernels/$name"
)

# place_headers TREE RELEASE: what names the headers by /usr/src names them relatively, so that they work where they lie.
place_headers() {
  local tree=$1 release=$2 makefile modules
  makefile=$tree/usr/src/linux-headers-$release/Makefile
  # Make's words end at blanks, so that a checkout's path may have none; kbuild itself has the same rule.
  sed -i 's|^include /usr/src/|include $(dir $(lastword $(MAKEFILE_LIST)))../|' "$makefile"
  if grep -rIlE '(^|[^.])/usr/(src|lib)/linux-' "$tree/usr/src/linux-headers-$release" | grep -q .; then
    die "the headers of $release name absolute paths that tools/setup_kernels.sh does not know"
  fi
  for modules in "$tree"/{,usr/}lib/modules/"$release"; do
    [[ -L $modules/build ]] || continue
    ln -sfrn "$tree/usr/src/linux-headers-$release" "$modules/build"
    rm -f "$modules/source"
  done
}

# unpack_source TREE NAME: of linux-source only what the tests use, as TREE/source; the archive stays for the debug kernel.
unpack_source() {
  local tree=$1 name=$2
  mkdir "$tree/source"
  tar -C "$tree/source" --strip-components=1 -xJf "$tree/usr/src/linux-source-$name.tar.xz" \
    "linux-source-$name/scripts/"{checkpatch.pl,const_structs.checkpatch,spelling.txt} \
    "linux-source-$name/tools/testing/vsock"
}

# make_root NAME PACKAGES: a small Debian with these packages as .deps/roots/NAME.tar.
make_root() (
  name=$1 included=$2
  say "making a Debian root with $included"
  mkdir -p "$deps/roots"
  tmp=$(mktemp -d "$deps/roots/.make.XXXXXX")
  trap 'rm -rf "$tmp"' EXIT
  # What the machine says about mirrors holds here, too.
  apt-config dump --format '%F "%v";%n' Acquire | grep -E "^Acquire::(https?::|Check-|Retries)" > "$tmp/apt.conf" || true
  options=(--variant=apt --include="$included" --aptopt="$tmp/apt.conf")
  for folder in doc man locale i18n; do options+=(--dpkgopt="path-exclude=/usr/share/$folder/*"); done
  mmdebstrap --quiet "${options[@]}" "$kernel_release" "$tmp/root.tar" "$deps/apt-kernels/sources.d/kernels.list"
  mv "$tmp/root.tar" "$deps/roots/$name.tar"
)

# fetch_vsock_test NAME: of the source of a kernel that is there without it, only Linux's own test of AF_VSOCK.
fetch_vsock_test() (
  name=$1
  read -r _ version < "$deps/kernels/$name/VERSION"
  say "fetching the test of AF_VSOCK of Linux $name"
  tmp=$(mktemp -d "$deps/kernels/.fetch.XXXXXX")
  trap 'rm -rf "$tmp"' EXIT
  cd "$tmp" || exit
  # It is a program like others: that of a later update of the same kernel is as good.
  apt-get download -q "linux-source-$name=$version" ||
    { say "no such source; taking another" && apt-get download -q "linux-source-$name"; }
  mkdir source
  dpkg-deb --fsys-tarfile ./*.deb | tar -xO "./usr/src/linux-source-$name.tar.xz" |
    tar -C source --strip-components=1 -xJ "linux-source-$name/tools/testing/vsock"
  mv source "$deps/kernels/$name/source"
)

fetch_kernels() {
  [[ -d $deps/kernels/6.1 && -d $deps/kernels/6.12/source && -e $deps/roots/dkms.tar ]] && return
  kernel_apt
  [[ -d $deps/kernels/6.1 ]] || fetch_kernel 6.1 "" source
  [[ -d $deps/kernels/6.12 ]] || fetch_kernel 6.12 "$kernel_release-backports"
  [[ -d $deps/kernels/6.12/source ]] || fetch_vsock_test 6.12
  [[ -e $deps/roots/dkms.tar ]] || make_root dkms dkms,linux-headers-amd64
}
