#!/bin/sh
# Makes the image that `cross` builds in, for use if the published one cannot be fetched: a Debian
# root file system with rustc, cargo, the standard library for both architectures, a C compiler that
# links for aarch64 and an emulator to run the tests in, imported into Docker. Needs Docker,
# mmdebstrap (as root or with user namespaces) and the Debian archive. Takes 1 to 3 minutes and
# 1.5 GB.
#
#   tools/cross-image.sh [NAME]     prints the image, NAME:SUITE (potluck-cross:forky, say)
#
# tools/debian-rust.sh chooses the suite; the image's labels `suite` and `rustc` name its compiler.
# An existing image is kept if its compiler is new enough. Exits with 69 if the archive has no
# suitable toolchain.
set -eu
cd "$(dirname "$0")"

name=${1:-potluck-cross}
packages="gcc libc6-dev gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"
needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' ../Cargo.toml)

label() { docker image inspect --format "{{index .Config.Labels \"$2\"}}" "$1"; }
for image in $(docker image ls --filter "reference=$name:*" --filter label=rustc --format '{{.Repository}}:{{.Tag}}'); do
    rustc=$(label "$image" rustc)
    printf '%s\n' "$needed" "$rustc" | sort -CV || continue
    echo "$image exists, with rustc $rustc of $(label "$image" suite); to rebuild it: docker image rm $image" >&2
    echo "$image"
    exit
done
command -v mmdebstrap >/dev/null || { echo "no mmdebstrap to make $name with: apt-get install mmdebstrap" >&2; exit 69; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# shellcheck disable=SC2086
chosen=$(./debian-rust.sh "$scratch/apt" $packages) || exit
suite=${chosen% *} rustc=${chosen#* }
{ cat "$scratch/apt/reach.conf"; echo "APT::Default-Release \"$suite\";"; } >"$scratch/apt.conf"

mmdebstrap --variant=minbase --architectures=amd64,arm64 --aptopt="$scratch/apt.conf" \
    --include="rustc,cargo,libstd-rust-dev:arm64,$(echo "$packages" | tr ' ' ,)" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/bin/qemu-*' --dpkgopt='path-include=/usr/bin/qemu-aarch64' \
    "${suite%-backports}" "$scratch/root.tar" "$scratch/apt/etc/sources.list" >&2 ||
    { echo "cross-image: the packages of $suite cannot be installed" >&2; exit 69; }
docker import --message "potluck: rustc and aarch64 gcc from Debian" --change "LABEL suite=$suite" --change "LABEL rustc=$rustc" \
    "$scratch/root.tar" "$name:$suite" >&2
echo "$name:$suite"
