# SPDX-License-Identifier: Apache-2.0
# Runs the test's script, /test/script, in the shell that has the library, and says by its exit code how it went.
. "${RIG_ROOT:-}/lib/rig.sh"
. "${RIG_ROOT:-}/test/script"
finish_guests
echo "1..$checks"
[ "$checks" -gt 0 ] || die "the test has checked nothing"
[ "$failures" = 0 ] || exit 1
# Process 1 looks for this: a script that ends early, by exit 0, has not passed.
: > "$state/complete"
