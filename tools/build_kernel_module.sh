#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# build_kernel_module.sh --headers FILE... --sources FILE... --folder FOLDER --outs KO...: what kernel_module.bzl runs.
#
# Copies the sources, so that kbuild writes beside the copies, and builds FOLDER with sparse.  The headers are a tar archive, or files
# of the tree that they stand for.  Without headers (no file, or an empty one) the outputs are empty.
set -euo pipefail

while (($#)); do
  case $1 in
    --headers | --sources | --folder | --outs) list=${1#--} ;;
    *)
      case $list in
        headers) headers+=("$1") ;;
        sources) sources+=("$1") ;;
        folder) folder=$1 ;;
        outs) outs+=("$1") ;;
      esac
      ;;
  esac
  shift
done

if [[ ! -s ${headers[0]:-} ]]; then
  echo "no kernel headers, so no modules of //$folder: run tools/setup --full" >&2
  for out in "${outs[@]}"; do : > "$out"; done
  exit
fi

command -v sparse > /dev/null || {
  echo "sparse is not installed; run: tools/setup --full" >&2
  exit 1
}

# Of the same length in every sandbox, and not seen in what is built.
work=$(mktemp -d "$PWD/kbuild.XXXXXX")
trap 'rm -rf "$work"' EXIT
for f in "${headers[@]}"; do
  case $f in
    *.tar)
      kdir=$work/linux
      mkdir "$kdir"
      tar -C "$kdir" -xf "$f"
      ;;
    */Module.symvers) kdir=$(dirname "$(readlink -f "$f")") ;;
  esac
done
for f in "${sources[@]}"; do
  # Made files lie below bazel-out.
  to=$work/${f#bazel-out/*/bin/}
  mkdir -p "$(dirname "$to")"
  cp -L "$f" "$to"
done

# Our sources build without a warning, in any case under the compiler that the kernels' own packages name.
flags="-Werror -ffile-prefix-map=$work=. -ffile-prefix-map=$(dirname "$kdir")=linux"
if ! make -C "$kdir" M="$work/$folder" CC=gcc-12 KCFLAGS="$flags" C=2 CONFIG_DEBUG_INFO_BTF_MODULES= modules > "$work/log" 2>&1; then
  sed "s|$work/||g" "$work/log" >&2
  exit 1
fi
# sparse, modpost and objtool only warn.
if grep -iE 'warning' "$work/log" | sed "s|$work/||g" >&2; then
  echo "warnings in //$folder" >&2
  exit 1
fi
for out in "${outs[@]}"; do
  strip --strip-debug -o "$out" "$work/$folder/$(basename "$out")"
done
