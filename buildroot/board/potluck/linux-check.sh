#!/bin/sh
# Insists that what a fragment asks of a kernel is in the kernel's final configuration: Kconfig drops silently whatever depends on
# something that is off.
#
#   linux-check.sh CONFIG FRAGMENT...
#   linux-check.sh --modules CONFIG FRAGMENT...   a distribution's kernel: a module does where the fragment says built in
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
# No line of a fragment holds a blank.
# shellcheck disable=SC2013
for line in $(sed -n '/^CONFIG_/p' "$@"); do
    grep -qxF "$line" "$config" && continue
    if [ -n "$modules" ] && grep -qx "${line%=*}=[ym]" "$config"; then continue; fi
    found=$(grep -E "^(# )?${line%=*}[= ]" "$config" || echo "nothing of it")
    echo "kernel: $line was asked for, and $config has: $found" >&2
    lost=$((lost + 1))
done
[ "$lost" = 0 ]
