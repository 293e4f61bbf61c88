#!/bin/sh
# Fetches from a Debian archive what Buildroot would otherwise build or fetch for the board: a
# kernel with its device tree and modules, the GPU's boot files, firmware for the radio. Leaves in
# DIR/kernel:
#
#   boot/      kernel8.img, bcm2710-rpi-zero-2-w.dtb, initrd.img, bootcode.bin, start_cd.elf,
#              fixup_cd.dat
#   modules/   lib/modules/VERSION with only the modules in buildroot/board/potluck/modules
#   firmware/  the files for /lib/firmware
#   config, version
#
#   tools/image-kernel.sh DIR
#
# POTLUCK_RADIO_FIRMWARE names a folder with more files for the radio (brcmfmac43436*-sdio.*), which
# Debian lacks.
set -eu
[ $# = 1 ] || { echo "usage: image-kernel.sh DIR" >&2; exit 2; }
for need in dpkg-deb apt-get depmod modprobe xz cpio gzip fdtput fdtget; do
    PATH=$PATH:/usr/sbin:/sbin command -v $need >/dev/null || {
        echo "no $need: apt-get install kmod xz-utils cpio device-tree-compiler" >&2
        exit 1
    }
done
export PATH="$PATH:/usr/sbin:/sbin"
tools=$(cd "$(dirname "$0")" && pwd)
board=$tools/../buildroot/board/potluck
mkdir -p "$1/kernel" "$1/debs"
dir=$(cd "$1" && pwd)
out=$dir/kernel
APT_CONFIG=$("$tools/debian-apt.sh" "$dir/apt-binaries" arm64 "deb @ trixie main non-free-firmware")
export APT_CONFIG

image=$(apt-cache depends linux-image-arm64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
(
    cd "$dir/debs"
    for package in "$image" raspi-firmware busybox-static firmware-brcm80211; do
        set -- "$package"_*.deb
        [ -e "$1" ] || apt-get -qq download "$package"
    done
)
tree=$dir/debian
rm -rf "$tree" "$out"
mkdir -p "$tree" "$out/boot" "$out/modules" "$out/firmware/brcm"
for deb in "$dir"/debs/*.deb; do dpkg-deb -x "$deb" "$tree"; done
version=${image#linux-image-}
printf '%s\n' "$version" >"$out/version"
cp "$tree/boot/config-$version" "$out/config"
cp "$tree/boot/vmlinuz-$version" "$out/boot/kernel8.img"
for file in bootcode.bin start_cd.elf fixup_cd.dat; do
    cp "$(find "$tree" -name "$file" | head -n 1)" "$out/boot/"
done

# Modules: the listed ones, their dependencies, and the kernel's own lists for depmod.
depmod -b "$tree/usr" "$version" 2>/dev/null || depmod -b "$tree" "$version"
base=$tree
[ -d "$tree/lib/modules/$version" ] || base=$tree/usr
needed() { # needed MODULE...: their files, dependencies first
    for module in "$@"; do
        modprobe -d "$base" -S "$version" --show-depends "$module" 2>/dev/null | sed -n 's/^insmod \([^ ]*\).*/\1/p' || true
    done | awk '!seen[$0]++'
}
lib=$out/modules/lib/modules/$version
# shellcheck disable=SC2046
needed $(sed -n 's/^\([^# ][^ ]*\).*/\1/p' "$board/modules") | while read -r file; do
    to=$lib/${file#*"/modules/$version/"}
    mkdir -p "$(dirname "$to")"
    case $file in
    *.xz) xz -dc "$file" >"${to%.xz}" ;;
    *) cp "$file" "$to" ;;
    esac
done
cp "$base/lib/modules/$version"/modules.builtin "$base/lib/modules/$version"/modules.builtin.modinfo \
    "$base/lib/modules/$version"/modules.order "$lib/"
depmod -b "$out/modules" "$version"

# Firmware for the radio of the first board revision, and for the others if it was given.
find "$tree" -path '*firmware/brcm/brcmfmac43430-sdio*' -o -path '*firmware/cypress/cyfmac43430-sdio*' | while read -r file; do
    to=$out/firmware/${file#*/firmware/}
    mkdir -p "$(dirname "$to")"
    cp -P "$file" "$to"
done
if [ -n "${POTLUCK_RADIO_FIRMWARE:-}" ]; then
    cp -P "$POTLUCK_RADIO_FIRMWARE"/brcmfmac4343* "$out/firmware/brcm/"
    # The names under which the kernel requests them on this board: it calls the 43436 a 43430b0,
    # and the 43436s a 43430.
    for pair in 43436=43430b0 43436s=43430; do
        for kind in bin txt clm_blob; do
            [ -e "$out/firmware/brcm/brcmfmac${pair%=*}-sdio.$kind" ] || continue
            ln -sf "brcmfmac${pair%=*}-sdio.$kind" "$out/firmware/brcm/brcmfmac${pair#*=}-sdio.raspberrypi,model-zero-2-w.$kind"
        done
    done
fi

# The device tree. Raspberry Pi's kernel has overlays for these changes; Debian's device tree is
# changed here instead: the full UART on the pins and Bluetooth off (disable-bt), the USB role set
# by the cable (dwc2), memory that survives a restart (ramoops).
dtb=$out/boot/bcm2710-rpi-zero-2-w.dtb
cp "$(find "$tree" -name bcm2837-rpi-zero-2-w.dtb | head -n 1)" "$dtb"
gpio=/soc/gpio@7e200000
uart=/soc/serial@7e201000
pins=$(fdtget -t i "$dtb" $gpio/uart0-gpio14 phandle 2>/dev/null || fdtget -t i "$dtb" $gpio/uart0_gpio14 phandle 2>/dev/null || true)
if [ -z "$pins" ]; then
    pins=4096
    node=$(fdtget -l "$dtb" $gpio | grep -E '^uart0[-_]gpio14$')
    fdtput -t i "$dtb" "$gpio/$node" phandle $pins
fi
fdtput -t i "$dtb" $uart pinctrl-0 "$pins"
fdtput -r "$dtb" $uart/bluetooth
fdtput -d "$dtb" $uart uart-has-rtscts 2>/dev/null || true
fdtput -t s "$dtb" $uart status okay
fdtput -t s "$dtb" /soc/serial@7e215040 status disabled
fdtput -t s "$dtb" /aliases serial0 $uart
fdtput -d "$dtb" /aliases serial1 2>/dev/null || true
fdtput -t s "$dtb" /chosen stdout-path serial0:115200n8
fdtput -t s "$dtb" /soc/usb@7e980000 dr_mode otg
# As the overlay has it: 256 KiB at 176 MiB, room for one console, and records of 64 KiB.
fdtput -c "$dtb" /reserved-memory/ramoops@b000000 2>/dev/null || fdtput -p -c "$dtb" /reserved-memory/ramoops@b000000
for cells in '#address-cells' '#size-cells'; do
    fdtput -t i "$dtb" /reserved-memory "$cells" "$(fdtget -t i "$dtb" / "$cells")"
done
fdtget "$dtb" /reserved-memory ranges >/dev/null 2>&1 || fdtput "$dtb" /reserved-memory ranges
fdtput -t s "$dtb" /reserved-memory/ramoops@b000000 compatible ramoops
fdtput -t x "$dtb" /reserved-memory/ramoops@b000000 reg b000000 40000
fdtput -t x "$dtb" /reserved-memory/ramoops@b000000 record-size 10000
fdtput -t x "$dtb" /reserved-memory/ramoops@b000000 console-size 20000

# The initramfs: loads the card's drivers, waits for the root that the command line names, and
# switches to it. On this board bcm2835.ko drives the card's controller. sdhci-iproc drives the
# radio's, and must be loaded later: both can be switched to the card's pins. If no boot code has
# chosen (as in QEMU), a card that sdhci-iproc has found disappears when the other controller takes
# the pins. The board can restart only through its watchdog's driver.
ram=$dir/initramfs
rm -rf "$ram"
mkdir -p "$ram/bin" "$ram/dev" "$ram/proc" "$ram/sys" "$ram/new" "$ram/modules"
cp "$(find "$tree" -path '*bin/busybox' -type f | head -n 1)" "$ram/bin/busybox"
ln -s busybox "$ram/bin/sh"
number=100
for file in $(needed bcm2835_wdt bcm2835 mmc_block virtio_pci virtio_mmio virtio_blk squashfs); do
    name=${file##*/}
    case $file in
    *.xz) xz -dc "$file" >"$ram/modules/$number-${name%.xz}" ;;
    *) cp "$file" "$ram/modules/$number-$name" ;;
    esac
    number=$((number + 1))
done
cp "$board/initramfs-init" "$ram/init"
chmod 755 "$ram/init"
find "$ram" -exec touch -h -d @0 {} +
(cd "$ram" && find . | LC_ALL=C sort | cpio --quiet -o -H newc --owner 0:0 --reproducible) | gzip -9n >"$out/boot/initrd.img"
