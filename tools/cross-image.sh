#!/bin/sh
# Makes the image that `cross` builds in where the published one cannot be fetched: a Debian root file system with rustc,
# cargo, the standard library for both architectures, a C compiler that links for aarch64 and an emulator to run the tests in,
# imported into Docker. Needs Docker, mmdebstrap (as root or where user namespaces are allowed) and the Debian archive; 1 to 3
# minutes, 1.5 GB.
#
#   tools/cross-image.sh [NAME]     NAME is the image's, potluck-cross:trixie if left out. An image that is there is kept.
set -eu
cd "$(dirname "$0")"

image=${1:-potluck-cross:trixie}
# Trixie's own Rust is older than what potluck needs; its backports carry one that is new enough, for both architectures.
suite=trixie
packages=rustc,cargo,libstd-rust-dev:arm64,gcc,libc6-dev,gcc-aarch64-linux-gnu,libc6-dev-arm64-cross,qemu-user

if docker image inspect "$image" >/dev/null 2>&1; then
    echo "$image is there; to make it anew: docker image rm $image" >&2
    exit
fi
command -v mmdebstrap >/dev/null || { echo "no mmdebstrap to make $image with: apt-get install mmdebstrap" >&2; exit 1; }

mirror=$(./debian-mirror.sh)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# How this machine reaches the archive (proxies, certificates) is how the root file system is to reach it too.
apt-config dump Acquire --format '%f "%v";%n' | grep -E '^Acquire::(http|https|Retries)' >"$scratch/apt.conf" || true
echo "APT::Default-Release \"$suite-backports\";" >>"$scratch/apt.conf"

# The architectures are named with the sources, for some archives list more of them than they hold.
mmdebstrap --variant=minbase --architectures=amd64,arm64 --aptopt="$scratch/apt.conf" --include="$packages" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/bin/qemu-*' --dpkgopt='path-include=/usr/bin/qemu-aarch64' \
    "$suite" "$scratch/root.tar" \
    "deb [arch=amd64,arm64] $mirror $suite main" \
    "deb [arch=amd64,arm64] $mirror $suite-backports main"
docker import --message 'potluck: rustc and aarch64 gcc from Debian' "$scratch/root.tar" "$image"
