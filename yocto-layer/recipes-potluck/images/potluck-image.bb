SUMMARY = "The potluck appliance: an SD card that boots to a prompt on the serial line"
DESCRIPTION = "The same card as 'make image' makes with Buildroot: firmware, kernel, potluck.toml and the model on a FAT \
partition, a read-only root that starts nothing but potluck, a data partition that grows to the card's end."
SECTION = "images"
LICENSE = "MIT"

inherit core-image

# Kernel, firmware, device tree and the card's layout are specific to this board.
COMPATIBLE_MACHINE = "raspberrypi0-2w-64"
python () {
    if d.getVar("DISTRO") != "potluck-os":
        raise bb.parse.SkipRecipe("the board's scripts are written for busybox's init: set DISTRO = \"potluck-os\"")
}

IMAGE_FEATURES = "read-only-rootfs"
IMAGE_FSTYPES = "wic.bz2 wic.bmap"
WKS_FILE = "potluck.wks"

# Raspberry Pi's firmware for the radios is one recipe, whose licence must be accepted as a whole.
# Otherwise linux-firmware's is used, which supports only the first of the board's three radios.
POTLUCK_RADIOS = "${@bb.utils.contains_any('LICENSE_FLAGS_ACCEPTED', \
    'synaptics-killswitch synaptics-killswitch_linux-firmware-rpidistro', \
    'linux-firmware-rpidistro-bcm43430 linux-firmware-rpidistro-bcm43436 linux-firmware-rpidistro-bcm43436s', \
    'linux-firmware-bcm43430', d)}"

IMAGE_INSTALL = "\
    packagegroup-core-boot \
    potluck \
    ${@'potluck-demo-model' if d.getVar('POTLUCK_DEMO_MODEL') else ''} \
    avahi-daemon \
    kernel-modules \
    ${POTLUCK_RADIOS} \
    wireless-regdb-static \
    wpa-supplicant \
    iw \
    e2fsprogs-e2fsck \
    e2fsprogs-mke2fs \
    e2fsprogs-resize2fs \
    util-linux-sfdisk \
    util-linux-partx \
"

# The boot partition. Entries after meta-raspberrypi's bootfiles/* replace its config.txt and
# cmdline.txt.
POTLUCK_MODEL ?= ""
IMAGE_BOOT_FILES = "\
    ${BOOTFILES_DIR_NAME}/* \
    ${KERNEL_IMAGETYPE};kernel8.img \
    bcm2710-rpi-zero-2.dtb;bcm2710-rpi-zero-2-w.dtb \
    overlay_map.dtb;overlays/overlay_map.dtb \
    disable-bt.dtbo;overlays/disable-bt.dtbo \
    dwc2.dtbo;overlays/dwc2.dtbo \
    ramoops.dtbo;overlays/ramoops.dtbo \
    potluck/config.txt;config.txt \
    potluck/cmdline.txt;cmdline.txt \
    potluck/potluck.toml;potluck.toml \
    ${@'potluck/{0};{0}'.format(os.path.basename(d.getVar('POTLUCK_MODEL'))) if d.getVar('POTLUCK_MODEL') else ''} \
"
do_image_wic[depends] += "potluck-boot:do_deploy"

# The board's own scripts replace those of packages: the same files as in the Buildroot image.
POTLUCK_BOARD = "${POTLUCK_TREE}/buildroot/board/potluck"
# (overlay/etc/resolv.conf is omitted: it is a link into /run, and bitbake cannot checksum a
# dangling link.)
do_rootfs[file-checksums] += "\
    ${POTLUCK_BOARD}/overlay/etc/init.d:True ${POTLUCK_BOARD}/overlay/etc/inittab:True ${POTLUCK_BOARD}/overlay/etc/mdev.conf:True ${POTLUCK_BOARD}/overlay/etc/modprobe.d:True \
    ${POTLUCK_BOARD}/overlay/usr:True ${POTLUCK_BOARD}/modules:True \
"
install_board() {
    # Only the board's init scripts.
    rm -rf ${IMAGE_ROOTFS}${sysconfdir}/init.d ${IMAGE_ROOTFS}${sysconfdir}/rc*.d
    rm -f ${IMAGE_ROOTFS}${sysconfdir}/resolv.conf ${IMAGE_ROOTFS}${sysconfdir}/inittab ${IMAGE_ROOTFS}${sysconfdir}/fstab
    cp -R --no-dereference --preserve=mode,links ${POTLUCK_BOARD}/overlay/. ${IMAGE_ROOTFS}/
    # Modules that are not loaded automatically.
    sed -n 's/^\([^# ]*\) load$/\1/p' ${POTLUCK_BOARD}/modules > ${IMAGE_ROOTFS}${sysconfdir}/modules
    # Mount points of other file systems.
    for dir in boot data dev proc run sys tmp var; do
        install -d ${IMAGE_ROOTFS}/$dir
    done
}
# After read_only_rootfs_hook, so that the hook does not overwrite it.
IMAGE_PREPROCESS_COMMAND += "install_board"
