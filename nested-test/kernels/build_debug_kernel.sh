#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# build_debug_kernel.sh CONFIG [SOURCE] -- OUT...: a Linux with the options of CONFIG and no others, from Debian's packed source.
# An OUT is vmlinux.elf, headers.tar (what modules are built against), or MODULE.ko, which is empty if there is no such module.
# All are empty without SOURCE.
set -euo pipefail
config=$PWD/$1 source=
shift
if [[ $1 != -- ]]; then
  source=$1
  shift
fi
shift
if [[ ! $source ]]; then
  echo "no linux-source, so no debug kernel: run tools/setup --full" >&2
  for out in "$@"; do : > "$out"; done
  exit
fi

here=$PWD
tree=$(mktemp -d "$PWD/linux.XXXXXX")
trap 'rm -rf "$tree"' EXIT
tar -C "$tree" --strip-components=1 -xJf "$source"
cd "$tree"
# Locks of Linux's own that it takes in either order: lockdep is right, but after one report it looks at nothing any more.
# novalidate FILE LOCK: keeps the lock (a C expression) out of lockdep.
novalidate() {
  sed -i "s/^\tmutex_init(&$2);\$/&\n\tlockdep_set_novalidate_class(\&$2);/" "$1"
  grep -qF "novalidate_class(&$2)" "$1" || { echo "build_debug_kernel: $1 has changed" >&2; exit 1; }
}
# Against the address space's: xenstored meets it first.
novalidate drivers/xen/gntdev.c "priv->lock"
# Between a program's watch and what saves the domain.
novalidate drivers/xen/xenbus/xenbus_dev_frontend.c "u->msgbuffer_mutex"

# Without these the kernel would hold the time, the user and the host of the build.
export KBUILD_BUILD_TIMESTAMP='not recorded' KBUILD_BUILD_USER=argosy KBUILD_BUILD_HOST=argosy
build() { make ARCH=x86_64 CC=gcc-12 "$@" >> build.log 2>&1 || { tail -n 40 build.log >&2; exit 1; }; }

build KCONFIG_ALLCONFIG="$config" allnoconfig
# An option whose dependencies are not there vanishes without a word.
while IFS='=' read -r option value; do
  case $value in
    n) ! grep -q "^$option=" .config ;;
    *) grep -qxF "$option=$value" .config ;;
  esac || { echo "build_debug_kernel: Linux cannot be configured with $option=$value" >&2; exit 1; }
done < <(grep '^CONFIG_' "$config")
build -j"$(nproc)" vmlinux modules

headers() {
  find . arch/x86 -maxdepth 1 -name 'Makefile*'
  find include scripts arch/x86/include arch/x86/tools tools/objtool/objtool .config Module.symvers -type f ! -name '*.o' ! -name '.*.cmd'
}
for out in "$@"; do
  case $out in
    */vmlinux.elf) strip --strip-debug -o "$here/$out" vmlinux ;;
    */headers.tar) headers | sort | tar -cf "$here/$out" --mtime=@0 --owner=0 --group=0 --numeric-owner --no-recursion -T - ;;
    *)
      : > "$here/$out"
      find . -name "$(basename "$out")" -exec strip --strip-debug -o "$here/$out" {} \;
      ;;
  esac
done
