#!/bin/sh
# Assembles the card: sdcard.img in Buildroot's image folder. Buildroot calls it with that folder's
# path.
#
# POTLUCK_CARD_MODEL=FILE.gguf puts a model on the boot partition; POTLUCK_DEBIAN names the folder
# of Debian's kernel and boot firmware if Buildroot has built none.
set -eu
images=$1
here=$(cd "$(dirname "$0")" && pwd)
model=${POTLUCK_CARD_MODEL:-}

rm -rf "${images:?}/boot"
mkdir -p "$images/boot"
if grep -q '^BR2_LINUX_KERNEL=y' "$BR2_CONFIG"; then
    cp "$images/Image" "$images/boot/kernel8.img"
    cp "$images/bcm2710-rpi-zero-2-w.dtb" "$images/boot/"
    cp "$images"/rpi-firmware/bootcode.bin "$images/boot/"
    cp "$images"/rpi-firmware/start_cd.elf "$images"/rpi-firmware/fixup_cd.dat "$images/boot/"
    mkdir -p "$images/boot/overlays"
    for overlay in disable-bt dwc2 ramoops; do
        cp "$images/rpi-firmware/overlays/$overlay.dtbo" "$images/boot/overlays/"
    done
    cp "$here/config.txt" "$images/boot/config.txt"
else
    cp -r "${POTLUCK_DEBIAN:?}"/kernel/boot/. "$images/boot/"
    # Debian's kernel needs an initramfs; tools/image-kernel.sh has already applied the overlays'
    # changes to its device tree.
    {
        grep -v '^dtoverlay=\|^dtparam=' "$here/config.txt"
        echo
        echo "# Debian's kernel has the card's driver as a module: it is loaded from here."
        echo "initramfs initrd.img followkernel"
    } >"$images/boot/config.txt"
fi
sed '/^#/d; /^$/d' "$here/cmdline.txt" | tr '\n' ' ' | sed 's/ $/\n/' >"$images/boot/cmdline.txt"
cp "$TARGET_DIR/usr/share/potluck/potluck.toml" "$images/boot/potluck.toml"

# Room for a model of 300 MB, which may be copied onto the card later; a larger model gets a larger
# partition.
boot_mib=384
if [ -n "$model" ]; then
    [ "$(head -c 4 "$model")" = GGUF ] || { echo "$model is not a GGUF file: potluck convert makes one" >&2; exit 1; }
    # All parts of a split model.
    case $model in
        *-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9].*)
            whole=${model%-?????-of-?????.*}
            set -- "$whole"-?????-of-"${model##*-of-}"
            ;;
        *) set -- "$model" ;;
    esac
    cp "$@" "$images/boot/"
    need_mib=$(($(du -cmL "$@" | tail -n 1 | cut -f1) + 84))
    [ "$need_mib" -le "$boot_mib" ] || boot_mib=$need_mib
fi

# The data partition: as small as possible at first, and able to grow, while mounted, to any card's
# size. Its UUIDs are fixed, so that the same build gives the same image.
rm -f "$images/data.ext4"
E2FSPROGS_FAKE_TIME=${SOURCE_DATE_EPOCH:-0} mke2fs -q -t ext4 -b 4096 -i 65536 -L data -m 1 \
    -U 706f746c-7563-6b00-8000-646174610000 \
    -E resize=67108864,hash_seed=706f746c-7563-6b00-8000-686173680000,lazy_itable_init=0,root_owner=0:0 \
    "$images/data.ext4" 16m

(cd "$images/boot" && find . -type f | sed 's#^\./##' | LC_ALL=C sort) | while read -r file; do
    if [ -n "${SOURCE_DATE_EPOCH:-}" ]; then touch -d "@$SOURCE_DATE_EPOCH" "$images/boot/$file"; fi
    printf '\t\tfile "%s" { image = "boot/%s" }\n' "$file" "$file"
done >"$images/boot.files"
sed -e "s/@BOOT_SIZE@/${boot_mib}M/" -e "/@BOOT_FILES@/{
r $images/boot.files
d
}" "$here/genimage.cfg.in" >"$images/genimage.cfg"

# The image gets the name sdcard.img only when it is complete.
rm -rf "$images/genimage.tmp" "$images/genimage.out" "$images/empty" "$images/sdcard.img"
mkdir -p "$images/genimage.out" "$images/empty"
genimage --rootpath "$images/empty" --tmppath "$images/genimage.tmp" --inputpath "$images" --outputpath "$images/genimage.out" \
    --config "$images/genimage.cfg"
mv "$images/genimage.out/sdcard.img" "$images/sdcard.img"
rm -rf "$images/genimage.tmp" "$images/genimage.out" "$images/empty" "$images/boot.files"
