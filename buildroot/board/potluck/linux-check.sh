#!/bin/sh
# Checks that every option of the fragments is in the kernel's final configuration: Kconfig silently
# drops options that depend on one that is off.
#
#   linux-check.sh CONFIG FRAGMENT...
#   linux-check.sh --modules CONFIG FRAGMENT...   for a distribution's kernel: accepts a module
#                                                 where the fragment says built in
set -eu
modules=
if [ "${1:-}" = --modules ]; then
    modules=1
    shift
fi
[ $# -ge 2 ] || { echo "usage: linux-check.sh [--modules] CONFIG FRAGMENT..." >&2; exit 2; }
config=$1
shift
lost=0
# No line of a fragment has a blank.
# shellcheck disable=SC2013
for line in $(sed -n '/^CONFIG_/p' "$@"); do
    grep -qxF "$line" "$config" && continue
    if [ -n "$modules" ] && grep -qx "${line%=*}=[ym]" "$config"; then continue; fi
    found=$(grep -E "^(# )?${line%=*}[= ]" "$config" || echo "no such option")
    echo "kernel: $line is required, but $config has: $found" >&2
    lost=$((lost + 1))
done
[ "$lost" = 0 ]
