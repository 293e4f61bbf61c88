# Answers to NAME.local, as mdnsd does in the Buildroot image: without D-Bus, because nothing on the
# board queries it, and with neither a resolver for libc (the only binary is static) nor service
# files.
FILESEXTRAPATHS:prepend:potluck-os := "${THISDIR}/files:"
SRC_URI:append:potluck-os = " file://avahi-daemon.conf file://mdnsd"

PACKAGECONFIG:potluck-os = ""
RRECOMMENDS:avahi-daemon:remove:potluck-os = "avahi-libnss-mdns"
RRECOMMENDS:avahi:remove:potluck-os = "avahi-libnss-mdns"

do_install:append:potluck-os() {
    install -m 0644 ${UNPACKDIR}/avahi-daemon.conf ${D}${sysconfdir}/avahi/avahi-daemon.conf
    install -D -m 0755 ${UNPACKDIR}/mdnsd ${D}${sbindir}/mdnsd
}
FILES:avahi-daemon:append:potluck-os = " ${sbindir}/mdnsd"
