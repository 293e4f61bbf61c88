#!/bin/sh
# Prints the address of the Debian archive that this machine's apt is configured with; DEBIAN_MIRROR overrides it. Prints
# nothing, and says what to do, where there is none.
set -eu

mirror=${DEBIAN_MIRROR:-}
if [ -z "$mirror" ] && command -v apt-get >/dev/null; then
    # The archive itself, and not its security twin, which holds no whole suite.
    # shellcheck disable=SC2016
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Component: main' |
        grep -v 'security' | head -n 1)
fi
[ -n "$mirror" ] || {
    echo "no Debian archive in this machine's apt configuration: run apt-get update, or set DEBIAN_MIRROR to one's address" >&2
    exit 1
}
printf '%s\n' "$mirror"
