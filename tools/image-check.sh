#!/bin/sh
# Checks the Buildroot tree without building it, and the image if there is one: every line of
# config.txt and cmdline.txt has its reason, the configurations match their fragments, a lost kernel
# option is detected, the card's layout is that of docs/use/image.md, and the root is small enough.
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

# The check of kernel options must be able to detect a fault.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
grep -h '^CONFIG_' $board/linux.config >"$scratch/whole"
$board/linux-check.sh "$scratch/whole" $board/linux.config || fail "linux-check.sh refuses a whole configuration"
sed 's/^CONFIG_SQUASHFS=y/# CONFIG_SQUASHFS is not set/' "$scratch/whole" >"$scratch/lost"
if $board/linux-check.sh "$scratch/lost" $board/linux.config 2>/dev/null; then fail "linux-check.sh misses a lost option"; fi
sed 's/^CONFIG_SQUASHFS=y/CONFIG_SQUASHFS=m/' "$scratch/whole" >"$scratch/module"
$board/linux-check.sh --modules "$scratch/module" $board/linux.config || fail "linux-check.sh refuses a module"
if $board/linux-check.sh "$scratch/module" $board/linux.config 2>/dev/null; then fail "linux-check.sh takes a module for built in"; fi

# For a kernel of our own, the listed modules and their dependencies are kept.
mkdir -p "$scratch/lib/kernel/net" "$scratch/lib/kernel/sound/usb"
for path in net/wl-fmac.ko.xz net/util.ko.xz net/cfg80211.ko.xz net/other.ko.xz sound/usb/snd.ko.xz; do : >"$scratch/lib/kernel/$path"; done
cat >"$scratch/lib/modules.dep" <<'DEP'
kernel/net/wl-fmac.ko.xz: kernel/net/util.ko.xz kernel/net/cfg80211.ko.xz
kernel/net/util.ko.xz:
kernel/net/cfg80211.ko.xz:
kernel/net/other.ko.xz: kernel/net/cfg80211.ko.xz
kernel/sound/usb/snd.ko.xz:
DEP
printf '# the radio\nwl_fmac load\nbuilt_in\n' >"$scratch/list"
[ "$($board/prune-modules.sh "$scratch/lib" "$scratch/list")" -eq 3 ] || fail "prune-modules.sh keeps another number than 3 of 5"
[ "$(cd "$scratch/lib" && echo kernel/*/*)" = 'kernel/net/cfg80211.ko.xz kernel/net/util.ko.xz kernel/net/wl-fmac.ko.xz' ] ||
    fail "prune-modules.sh leaves: $(cd "$scratch/lib" && echo kernel/*/*)"

# A model that cannot go on the card is rejected at once, and a failed build leaves no image of an
# earlier build.
build_fails() { # build_fails WHAT MODEL SAYS: `ready` and `build` refuse it, with those words and without an image
    for goal in ready build; do
        mkdir -p "$scratch/target/image"
        : >"$scratch/target/image/sdcard.img"
        if said=$(CARGO_TARGET_DIR=$scratch/target POTLUCK_BIN=$scratch/whole POTLUCK_HOST='' BUILDROOT_DIR=$scratch/none MODEL=$2 \
            tools/image.sh $goal debian 2>&1); then
            if [ "$goal$3" != 'readyno Buildroot tree' ]; then fail "image.sh $goal takes $1"; fi
        else
            case $said in *"$3"*) ;; *) fail "image.sh $goal with $1 says: $said" ;; esac
        fi
        [ ! -e "$scratch/target/image/sdcard.img" ] || fail "image.sh $goal with $1 leaves the image of an earlier build"
    done
}
printf 'GGUF' >"$scratch/good.gguf"
printf 'PK..' >"$scratch/bad.gguf"
printf 'GGUF' >"$scratch/half-00001-of-00002.gguf"
build_fails 'no model' '' 'no Buildroot tree'
build_fails 'a mistyped model' "$scratch/godo.gguf" "no $scratch/godo.gguf"
build_fails 'a model of another name' "$scratch/whole" 'must be called something.gguf'
build_fails 'a model that is no GGUF file' "$scratch/bad.gguf" 'is not a GGUF file'
build_fails 'half a model' "$scratch/half-00001-of-00002.gguf" "no $scratch/half-00002-of-00002.gguf"

# The radio's options are those of Raspberry Pi OS; they are read when the driver is loaded as a
# module, from the root.
grep -qx 'options brcmfmac roamoff=1 feature_disable=0x282000' $board/overlay/etc/modprobe.d/brcmfmac.conf ||
    fail "brcmfmac.conf: the options that Raspberry Pi OS sets for these radios are not there"
grep -qx 'CONFIG_BRCMFMAC=m' $board/linux.config || fail "linux.config: brcmfmac built into the kernel would not read modprobe.d"
# Modules that init scripts load, or make the kernel load, must be on the list for a distribution's
# kernel.
for module in libcomposite usb_f_acm u_serial; do
    grep -qE "^$module( load)?$" $board/modules || fail "modules: $module is missing, without which there is no console over USB"
done

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
    [ -e "$target/image/sdcard.img" ] || { echo "image-check: the tree is in order; there is no image to check"; exit 0; }
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
