#!/bin/sh
# Builds the card's image: target/image/sdcard.img.
#
#   tools/image.sh build [CONFIG]   CONFIG is zero2w (the default), qemu or debian
#   tools/image.sh ready [CONFIG]   only checks, in a moment, what would make the build fail: a
#                                   missing binary or model
#   tools/image.sh configs [check]  joins buildroot/fragments into buildroot/configs, or checks that
#                                   this was done
#
# BUILDROOT_DIR names an existing Buildroot tree; without it the pinned release is fetched, or
# unpacked from BUILDROOT_DL, the download cache, if its archive is there. MODEL is a GGUF for the
# boot partition (any part of a split one: all are taken), POTLUCK_BIN a firmware binary other than
# target/firmware/potluck, POTLUCK_HOST a potluck for this machine.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
target=$(readlink -m "${CARGO_TARGET_DIR:-target}")
# Variables of the calling make (CONFIG above all) have other meanings in Buildroot.
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL

# Buildroot's long-term release: its commit, and its archive's checksum from the release's signed
# manifest.
version=2026.02.3
commit=679b9ead7620bbf193620d1ebf56f53c1764d37a
sha256=5a59e7501b0b4ec52c41f4bfa79412320e0b37eae5f719605a258e8d0c6fc7fb

joined() { # joined CONFIG: the fragments that make it
    case $1 in
    zero2w) cat buildroot/fragments/common.config buildroot/fragments/zero2w.config ;;
    qemu)
        # Settings in virt.config replace earlier ones.
        sed 's/=.*//; /^BR2_/!d' buildroot/fragments/virt.config | sed 's/.*/^&=/' |
            grep -v -f - buildroot/fragments/common.config buildroot/fragments/zero2w.config -h
        cat buildroot/fragments/virt.config
        ;;
    debian) cat buildroot/fragments/common.config buildroot/fragments/debian.config ;;
    *) echo "no image configuration $1: zero2w, qemu and debian are there" >&2; exit 2 ;;
    esac
}

configs() {
    for name in zero2w qemu debian; do
        file=buildroot/configs/potluck_${name}_defconfig
        if [ "${1:-}" = check ]; then
            joined $name | cmp -s - $file || { echo "$file is not what its fragments make: tools/image.sh configs" >&2; exit 1; }
        else
            joined $name >$file
        fi
    done
}

tree() { # the Buildroot tree, fetched if none was given
    if [ -n "${BUILDROOT_DIR:-}" ]; then
        [ -f "$BUILDROOT_DIR/Makefile" ] || { echo "BUILDROOT_DIR=$BUILDROOT_DIR is no Buildroot tree" >&2; exit 1; }
        found=$(sed -n 's/^export BR2_VERSION := //p' "$BUILDROOT_DIR/Makefile")
        [ "$found" = $version ] || echo "image: this tree is Buildroot $found; the image is made for $version" >&2
        (cd "$BUILDROOT_DIR" && pwd)
        return
    fi
    dir=$target/buildroot-$version
    archive=${BUILDROOT_DL:-$target/buildroot-dl}/buildroot-$version.tar.xz
    if [ ! -f "$dir/Makefile" ] && [ -s "$archive" ]; then
        echo "$sha256  $archive" | sha256sum -c --quiet || { echo "$archive is not the release: remove it and try again" >&2; exit 1; }
        tar xf "$archive" -C "$target"
    elif [ ! -f "$dir/Makefile" ]; then
        # git verifies what it fetches against the commit's hash.
        git init -q "$dir.part"
        git -C "$dir.part" fetch -q --depth 1 https://github.com/buildroot/buildroot $commit || {
            echo "cannot fetch Buildroot $version: name a tree with BUILDROOT_DIR=, or put $archive there" >&2
            exit 1
        }
        git -C "$dir.part" checkout -q $commit
        mv "$dir.part" "$dir"
    fi
    (cd "$dir" && pwd)
}

# fresh FILE SOURCE...: whether FILE exists and is newer than its sources. Firmware for the radio
# may have changed at any time.
fresh() {
    [ -f "$1" ] && [ -z "${POTLUCK_RADIO_FIRMWARE:-}" ] || return 1
    made=$1
    shift
    [ -z "$(find "$@" -newer "$made")" ]
}

fail() {
    echo "image: $*" >&2
    exit 1
}

# Checks everything that the build needs before anything that takes long. Removes the old image, so
# that it cannot be mistaken for the new one if the build fails.
ready() {
    config=${1:-zero2w}
    joined "$config" >/dev/null
    rm -f "$target/image/sdcard.img" "$target/image/$config/images/sdcard.img"
    if [ -n "${MODEL:-}" ]; then
        # The board finds the model by this name, so a link's own name counts, not its target's.
        case $MODEL in *.gguf | *.GGUF) ;; *) fail "MODEL=$MODEL must be called something.gguf on the card" ;; esac
        [ -f "$MODEL" ] || fail "no $MODEL (make model downloads a real one)"
        [ "$(head -c 4 "$MODEL")" = GGUF ] || fail "$MODEL is not a GGUF file: potluck convert makes one"
        case $MODEL in
        *-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9].*)
            all=${MODEL##*-of-}
            for number in $(seq -f %05.0f "${all%%.*}"); do
                part=${MODEL%-?????-of-?????.*}-$number-of-$all
                [ -f "$part" ] || fail "no $part, which belongs to $MODEL"
            done
            ;;
        esac
    fi
    export POTLUCK_BIN="${POTLUCK_BIN:-$target/firmware/potluck}"
    [ -f "$POTLUCK_BIN" ] || fail "no $POTLUCK_BIN: make firmware"
}

build() {
    ready "$@"
    # The model that answers if the card has none.
    export POTLUCK_DEMO_MODEL="${POTLUCK_DEMO_MODEL:-$root/tools/demo-model/model/potluck-demo.gguf}"
    if [ -n "${MODEL:-}" ]; then
        # If this build cannot run it, the board's cannot either. The command says why.
        [ -z "${POTLUCK_HOST:-}" ] || "$POTLUCK_HOST" inspect "$MODEL" >/dev/null || exit 1
        POTLUCK_CARD_MODEL=$(cd "$(dirname "$MODEL")" && pwd)/$(basename "$MODEL")
        export POTLUCK_CARD_MODEL
    fi
    buildroot=$(tree)
    out=$target/image/$config
    dl=${BUILDROOT_DL:-$target/buildroot-dl}
    # Buildroot never removes from the root what it once installed, and does not rebuild packages
    # whose options changed.
    made_from=$(cat "buildroot/configs/potluck_${config}_defconfig" buildroot/board/potluck/*.config | sha256sum)
    if [ -d "$out" ] && [ "$(cat "$out/made-from" 2>/dev/null)" != "$made_from" ]; then
        echo "image: the configuration has changed: rebuilding everything"
        rm -rf "$out"
    fi
    mkdir -p "$out" "$dl"
    echo "$made_from" >"$out/made-from"
    if [ "$config" = debian ]; then
        export POTLUCK_DEBIAN="$target/debian-parts"
        [ -d "$POTLUCK_DEBIAN/toolchain/sysroot" ] || tools/image-toolchain.sh "$POTLUCK_DEBIAN/toolchain"
        [ -f "$POTLUCK_DEBIAN/sources.mk" ] || tools/image-sources.sh "$POTLUCK_DEBIAN"
        fresh "$POTLUCK_DEBIAN/kernel/boot/initrd.img" tools/image-kernel.sh buildroot/board/potluck/modules \
            buildroot/board/potluck/initramfs-init || tools/image-kernel.sh "$POTLUCK_DEBIAN"
        dl=$POTLUCK_DEBIAN/dl
        # Buildroot needs GNU tar 1.35, and cannot build it without a tar here.
        if [ -d "$POTLUCK_DEBIAN/host/bin" ]; then PATH=$POTLUCK_DEBIAN/host/bin:$PATH; fi
    fi
    set -- -C "$buildroot" O="$out" BR2_EXTERNAL="$root/buildroot" BR2_DL_DIR="$dl"
    make "$@" "potluck_${config}_defconfig" >/dev/null
    # Only these packages may have changed since: the rest is kept.
    [ ! -d "$out/build/potluck" ] || make "$@" potluck-dirclean >/dev/null
    make "$@" ${JOBS:+BR2_JLEVEL=$JOBS}
    ln -sf "$config/images/sdcard.img" "$target/image/sdcard.img"
    echo "$target/image/sdcard.img: $(du -Lh "$target/image/sdcard.img" | cut -f1) on disk; root $(du -k "$out/images/rootfs.squashfs" | cut -f1) KiB"
}

case ${1:-} in
build) build "${2:-}" ;;
ready) ready "${2:-}" ;;
configs) configs "${2:-}" ;;
*) echo "usage: image.sh build [CONFIG] | ready [CONFIG] | configs [check]" >&2; exit 2 ;;
esac
