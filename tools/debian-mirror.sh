#!/bin/sh
# Prints the address of the Debian archive in this machine's apt configuration; DEBIAN_MIRROR
# overrides it. If there is none, prints nothing and says what to do.
set -eu

mirror=${DEBIAN_MIRROR:-}
if [ -z "$mirror" ] && command -v apt-get >/dev/null; then
    # The main archive, not the security archive, which has no complete suite.
    # shellcheck disable=SC2016
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Component: main' |
        grep -v 'security' | head -n 1)
fi
[ -n "$mirror" ] || {
    echo "no Debian archive in this machine's apt configuration: run apt-get update, or set DEBIAN_MIRROR to one's address" >&2
    exit 1
}
printf '%s\n' "$mirror"
