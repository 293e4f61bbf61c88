#!/bin/sh
# Checks the Buildroot tree without building it, and an image where one is there: every line of config.txt and cmdline.txt has
# its reason, the configurations are what their fragments make, a kernel that lost an option is noticed, the card is laid out as
# docs/image.md says, and the root is small enough.
#
#   tools/image-check.sh [SDCARD.IMG]
set -eu
cd "$(dirname "$0")/.."
board=buildroot/board/potluck
target=${CARGO_TARGET_DIR:-target}
fail() {
    echo "image-check: $1" >&2
    exit 1
}

tools/image.sh configs check

# A reason is a comment with only further lines of the same paragraph between.
for file in config.txt cmdline.txt; do
    awk -v file=$file '
        /^#/ { reason = 1; next }
        /^$/ { reason = 0; next }
        !reason { print "image-check: " file ": no reason above: " $0; bad = 1 }
        END { exit bad }' $board/$file >&2 || exit 1
done
if grep -v '^#' $board/cmdline.txt | grep -q ' '; then fail "cmdline.txt: one word a line"; fi
for word in root=PARTUUID=706f746c-02 rootfstype=squashfs ro rootwait; do
    grep -qx "$word" $board/cmdline.txt || fail "cmdline.txt: $word is missing: the kernel would not find its root"
done
grep -q 'disk-signature = 0x706f746c' $board/genimage.cfg.in || fail "genimage.cfg.in and cmdline.txt name different cards"

# The check of kernel options must be able to fail.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
grep -h '^CONFIG_' $board/linux.config >"$scratch/whole"
$board/linux-check.sh "$scratch/whole" $board/linux.config || fail "linux-check.sh refuses a whole configuration"
sed 's/^CONFIG_SQUASHFS=y/# CONFIG_SQUASHFS is not set/' "$scratch/whole" >"$scratch/lost"
if $board/linux-check.sh "$scratch/lost" $board/linux.config 2>/dev/null; then fail "linux-check.sh misses a lost option"; fi
sed 's/^CONFIG_SQUASHFS=y/CONFIG_SQUASHFS=m/' "$scratch/whole" >"$scratch/module"
$board/linux-check.sh --modules "$scratch/module" $board/linux.config || fail "linux-check.sh refuses a module"
if $board/linux-check.sh "$scratch/module" $board/linux.config 2>/dev/null; then fail "linux-check.sh takes a module for built in"; fi

if command -v shellcheck >/dev/null; then
    shellcheck -x .ci/run tools/*.sh tools/count/*.sh $board/*.sh $board/initramfs-init
else
    echo "image-check: shellcheck is not installed: the scripts were not read"
fi
if [ -z "${BUILDROOT_DIR:-}" ]; then
    echo "image-check: no BUILDROOT_DIR: Buildroot's own check-package was not run"
elif python3 -c 'import magic, flake8' 2>/dev/null; then
    python3 "$BUILDROOT_DIR/utils/check-package" -q -b buildroot/package/potluck/* buildroot/Config.in buildroot/external.mk
else
    echo "image-check: check-package needs flake8 and python-magic (pip install flake8 python-magic): it was not run"
fi

image=${1:-}
if [ -z "$image" ]; then
    [ -e "$target/image/sdcard.img" ] || { echo "image-check: the tree is in order; there is no image to look at"; exit 0; }
    image=$target/image/sdcard.img
fi
number() { # number OFFSET SIZE: little-endian
    od -An -tu"$2" -j"$1" -N"$2" "$image" | tr -d ' '
}
[ "$(number 510 2)" = 43605 ] || fail "$image has no partition table"
[ "$(number 440 4)" = $((0x706f746c)) ] || fail "$image has another signature than cmdline.txt says"
[ "$(number 446 1)" = 128 ] || fail "$image: the first partition is not marked as bootable"
[ "$(number 450 1)" = 12 ] || fail "$image: the first partition is not FAT32"
root=$(number 470 4)
[ "$(dd if="$image" bs=512 skip="$root" count=1 2>/dev/null | head -c 4)" = hsqs ] || fail "$image: no squashfs in partition 2"
bytes=$(number $((root * 512 + 40)) 8)
[ "$bytes" -le 41943040 ] || fail "the root is $bytes bytes: at most 40 MiB without a model"
data=$(number 486 4)
[ "$(number $((data * 512 + 1080)) 2)" = 61267 ] || fail "$image: no ext4 in partition 3"
if command -v mdir >/dev/null; then
    offset=$(($(number 454 4) * 512))
    for file in kernel8.img bcm2710-rpi-zero-2-w.dtb bootcode.bin start_cd.elf fixup_cd.dat config.txt cmdline.txt potluck.toml; do
        mdir -i "$image@@$offset" "::$file" >/dev/null 2>&1 || fail "$image: $file is missing from the boot partition"
    done
    [ "$(mtype -i "$image@@$offset" ::cmdline.txt | wc -l)" = 1 ] || fail "$image: cmdline.txt must be one line"
fi
echo "image-check: $image is in order: root $bytes bytes"
