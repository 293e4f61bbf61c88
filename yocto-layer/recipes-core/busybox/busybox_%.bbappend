# The applets that the board's scripts call: the Buildroot image's own fragment, under the name that
# oe-core expects, and the options in which the two differ.
FILESEXTRAPATHS:prepend:potluck-os := "${THISDIR}/files:"
SRC_URI:append:potluck-os = " file://potluck.cfg file://potluck-oe.cfg"
