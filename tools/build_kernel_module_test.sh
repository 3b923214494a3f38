#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# build_kernel_module_test.sh REPOSITORY (of a kernel): a good module is built, a bad one is not, and neither is one without headers.
set -euo pipefail

build=$PWD/tools/build_kernel_module
# Bazel 7 puts more before a repository's name.
headers=("$PWD"/../*"$1"/usr/src/linux-headers-*/{Module.symvers,include/generated/utsrelease.h})
cd "$TEST_TMPDIR"
mkdir -p good bad
printf 'obj-m := good.o\n' > good/Kbuild
printf '#include <linux/module.h>\nMODULE_LICENSE("GPL");\nMODULE_DESCRIPTION("good");\n' > good/good.c
printf 'obj-m := bad.o\n' > bad/Kbuild

fail() {
  echo "$*"
  exit 1
}

"$build" --headers --sources good/Kbuild good/good.c --folder good --outs none.ko 2> none.log
[[ -e none.ko && ! -s none.ko ]] || fail "without headers there is something else than an empty file"
grep -q "tools/setup --full" none.log || fail "without headers it does not say what to do"

[[ -e ${headers[0]} ]] || fail "no kernel headers; run: tools/setup --full"

"$build" --headers "${headers[@]}" --sources good/Kbuild good/good.c --folder good --outs good.ko
release=$(sed -nE 's/.*UTS_RELEASE "(.*)"/\1/p' "${headers[1]}")
grep -aqF "vermagic=${release:?} " good.ko || fail "the module is not for Linux $release"
[[ $(ls -A good) == $'good.c\nKbuild' || $(ls -A good) == $'Kbuild\ngood.c' ]] || fail "something was left beside the sources"

# The same bytes from another place.
mkdir -p elsewhere/deeper
cp -r good elsewhere/deeper
(cd elsewhere/deeper && "$build" --headers "${headers[@]}" --sources good/Kbuild good/good.c --folder good --outs good.ko)
cmp good.ko elsewhere/deeper/good.ko || fail "what is built depends on where"

# refused WHAT: a bad module with the code of standard input is not built, and the message names WHAT.
refused() {
  { printf '#include <linux/module.h>\nMODULE_LICENSE("GPL");\n' && cat; } > bad/bad.c
  if "$build" --headers "${headers[@]}" --sources bad/Kbuild bad/bad.c --folder bad --outs bad.ko 2> bad.log; then
    fail "built in spite of $1"
  fi
  grep -q "$1" bad.log || fail "the message does not name $1: $(cat bad.log)"
}

# The compiler, and sparse.
refused never_used << 'END'
MODULE_DESCRIPTION("bad");
static int never_used(void)
{
	return 0;
}
END
refused restricted << 'END'
MODULE_DESCRIPTION("bad");
u32 mixed_up(__le32 number);
u32 mixed_up(__le32 number)
{
	return number + 1;
}
END
# modpost.
refused nowhere << 'END'
MODULE_DESCRIPTION("bad");
extern int nowhere(void);
int call_it(void);
int call_it(void)
{
	return nowhere();
}
END
