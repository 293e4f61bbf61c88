SUMMARY = "Answers prompts with Gemma 3 and shares their KV state on the LAN"
DESCRIPTION = "potluck as one static binary, which 'make firmware' has built. What one node of a LAN has computed of a prompt, \
every other takes over. On a system with systemd or System V init it runs as a service; the potluck image starts it by the \
board's own scripts."
SECTION = "net"
LICENSE = "MIT | Apache-2.0"
LIC_FILES_CHKSUM = "\
    file://LICENSE-MIT;md5=efa972ffc62747853007e4ef1f8b76be \
    file://LICENSE-APACHE;md5=3b83ef96387f14655fc854ddc3c6bd57 \
"

# The licences and the binary come from the clone around this layer, or from POTLUCK_BINARY_DIR.
POTLUCK_BINARY_DIR ?= "${POTLUCK_TREE}/target/firmware"
FILESEXTRAPATHS:prepend := "${POTLUCK_BINARY_DIR}:${POTLUCK_TREE}:"
SRC_URI = "\
    file://potluck \
    file://LICENSE-MIT \
    file://LICENSE-APACHE \
    file://potluck.toml \
    file://potluck.init \
    file://potluck.service \
    file://has-model \
"

# A GGUF file that becomes the package potluck-demo-model, by its path on this machine; if it is
# empty, there is no such package.
POTLUCK_DEMO_MODEL ?= ""
SRC_URI += "${@'file://' + d.getVar('POTLUCK_DEMO_MODEL') if d.getVar('POTLUCK_DEMO_MODEL') else ''}"
S = "${UNPACKDIR}"

inherit systemd update-rc.d useradd

# Static, built for the Cortex-A53, so it runs on every later core, too.
COMPATIBLE_HOST = "aarch64.*-linux"

python () {
    binary = os.path.join(d.getVar("POTLUCK_BINARY_DIR"), "potluck")
    # Parse the recipe again once the binary exists.
    bb.parse.mark_dependency(d, binary)
    if not os.path.exists(binary):
        raise bb.parse.SkipRecipe("%s is missing: run 'make firmware' in %s, or set POTLUCK_BINARY_DIR" % (binary, d.getVar("POTLUCK_TREE")))
}

# Nothing is compiled, and the binary is already stripped.
INHIBIT_DEFAULT_DEPS = "1"
INHIBIT_PACKAGE_STRIP = "1"
INHIBIT_SYSROOT_STRIP = "1"
INHIBIT_PACKAGE_DEBUG_SPLIT = "1"
do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -D -m 0755 ${S}/potluck ${D}${bindir}/potluck
    # It may hold the swarm's key.
    install -D -m 0640 ${S}/potluck.toml ${D}${sysconfdir}/potluck/potluck.toml
    chgrp potluck ${D}${sysconfdir}/potluck/potluck.toml
    install -D -m 0755 ${S}/has-model ${D}${libexecdir}/potluck/has-model
    install -D -m 0755 ${S}/potluck.init ${D}${sysconfdir}/init.d/potluck
    install -D -m 0644 ${S}/potluck.service ${D}${systemd_system_unitdir}/potluck.service
    if [ -n "${POTLUCK_DEMO_MODEL}" ]; then
        install -D -m 0644 ${UNPACKDIR}/${POTLUCK_DEMO_MODEL} ${D}${datadir}/potluck/demo.gguf
    fi
}

PACKAGES =+ "${PN}-demo-model"
SUMMARY:${PN}-demo-model = "A small model that answers on the potluck image where the card has no other"
FILES:${PN}-demo-model = "${datadir}/potluck/demo.gguf"
FILES:${PN} += "${systemd_system_unitdir}/potluck.service"
CONFFILES:${PN} = "${sysconfdir}/potluck/potluck.toml"

USERADD_PACKAGES = "${PN}"
USERADD_PARAM:${PN} = "--system --home-dir ${localstatedir}/lib/potluck --no-create-home --shell /sbin/nologin --user-group potluck"

SYSTEMD_SERVICE:${PN} = "potluck.service"
INITSCRIPT_NAME = "potluck"
INITSCRIPT_PARAMS = "defaults 90 10"
