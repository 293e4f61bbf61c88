SUMMARY = "The files on the boot partition beside kernel and firmware"
DESCRIPTION = "config.txt and cmdline.txt of the board, as the Buildroot image has them, potluck.toml with every setting as a \
comment, and the model that POTLUCK_MODEL names."
SECTION = "bootloaders"
LICENSE = "MIT | Apache-2.0"
LIC_FILES_CHKSUM = "\
    file://LICENSE-MIT;md5=efa972ffc62747853007e4ef1f8b76be \
    file://LICENSE-APACHE;md5=3b83ef96387f14655fc854ddc3c6bd57 \
"

FILESEXTRAPATHS:prepend := "${POTLUCK_TREE}/buildroot/board/potluck:${POTLUCK_TREE}:"
SRC_URI = "\
    file://config.txt \
    file://cmdline.txt \
    file://potluck.toml \
    file://LICENSE-MIT \
    file://LICENSE-APACHE \
"
S = "${UNPACKDIR}"

# A GGUF file for the card, by its path on this machine. If it is empty, the card has no model; one
# can be copied onto it later.
POTLUCK_MODEL ?= ""
SRC_URI += "${@'file://' + d.getVar('POTLUCK_MODEL') if d.getVar('POTLUCK_MODEL') else ''}"

inherit deploy nopackages

INHIBIT_DEFAULT_DEPS = "1"
PACKAGE_ARCH = "${MACHINE_ARCH}"
do_configure[noexec] = "1"
do_compile[noexec] = "1"
do_install[noexec] = "1"

do_deploy() {
    install -d ${DEPLOYDIR}/potluck
    install -m 0644 ${S}/config.txt ${DEPLOYDIR}/potluck/config.txt
    # The file on the card can have neither comments nor line breaks.
    sed '/^#/d; /^$/d' ${S}/cmdline.txt | tr '\n' ' ' | sed 's/ $/\n/' > ${DEPLOYDIR}/potluck/cmdline.txt
    # The node's state goes to the data partition.
    sed 's|^#state = .*|state = "/data"|' ${S}/potluck.toml > ${DEPLOYDIR}/potluck/potluck.toml
    if [ -n "${POTLUCK_MODEL}" ]; then
        install -m 0644 ${UNPACKDIR}/${POTLUCK_MODEL} ${DEPLOYDIR}/potluck/
    fi
}
addtask deploy before do_build after do_unpack
