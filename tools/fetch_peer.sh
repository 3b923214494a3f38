#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# fetch_peer.sh FOLDER: Debian sid's vhost-device-vsock, which tools/bench vhost-user measures ours against, as
# FOLDER/vhost-device-vsock.  Needs the network.
#
# Nothing is installed: the package and the libraries of its suite are unpacked there, and the program is a script that starts it
# by its own loader.  Does nothing if it is there already.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { echo "fetch_peer: $*" >&2; exit 1; }

folder=${1:?fetch_peer.sh needs a folder}
[[ -x $folder/vhost-device-vsock ]] && exit
[[ -e .deps/apt/apt.conf ]] || die "there is no .deps/apt; run: tools/setup"

mkdir -p "$folder"
folder=$(realpath "$folder")
tmp=$(mktemp -d "$folder/.fetch.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$tmp/sources.d" "$tmp/lists/partial" "$tmp/cache/archives/partial" "$tmp/debs" "$tmp/root"

# The mirrors of the machine's own entries, which name another suite.
# shellcheck disable=SC2016 # apt's
APT_CONFIG=.deps/apt/apt.conf apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(REPO_URI)|' 'Created-By: Packages' | sort -u |
  sed -nE 's#^Debian\|Debian\|(.*)\|$#deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] \1 sid main#p' > "$tmp/sources.d/sid.list"
[[ -s $tmp/sources.d/sid.list ]] || die "no Debian entry in .deps/apt"
cat > "$tmp/apt.conf" << CONF
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "$tmp/sources.d";
Dir::State::Lists "$tmp/lists";
Dir::Cache "$tmp/cache";
APT::Sandbox::User "root";
Acquire::Check-Valid-Until "false"; // a mirror that stands still is good enough
CONF
export APT_CONFIG=$tmp/apt.conf
apt-get update -q
# Of its libraries those that are real packages; libc's own recommendations are of no use here.
packages=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances \
  vhost-device-vsock | grep -E '^(vhost-device-vsock|lib[a-z0-9-]+)$' | sort -u)
(
  cd "$tmp/debs"
  # shellcheck disable=SC2086 # words
  apt-get download -q $packages
)
for deb in "$tmp"/debs/*.deb; do dpkg-deb -x "$deb" "$tmp/root"; done
program=$(find "$tmp/root/usr/bin" -name vhost-device-vsock)
loader=$(find "$tmp/root/" -name 'ld-linux-x86-64.so.2' -not -type l | head -1)
[[ $program && $loader ]] || die "the packages have no program or no loader"

rm -rf "$folder/root"
mv "$tmp/root" "$folder/root"
cat > "$tmp/vhost-device-vsock" << END
#!/bin/sh
# Made by Argosy's tools/fetch_peer.sh.
root=$folder/root
exec "\$root${loader#"$tmp/root"}" --library-path "\$root/usr/lib/x86_64-linux-gnu:\$root/lib/x86_64-linux-gnu" "\$root/usr/bin/vhost-device-vsock" "\$@"
END
chmod +x "$tmp/vhost-device-vsock"
mv "$tmp/vhost-device-vsock" "$folder/"
echo "fetch_peer: $("$folder/vhost-device-vsock" --version) is in $folder"
