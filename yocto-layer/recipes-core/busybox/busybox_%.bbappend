# The applets that the board's scripts call: the Buildroot image's own fragment, under the name that oe-core looks for,
# and what the two differ in.
FILESEXTRAPATHS:prepend:potluck-os := "${THISDIR}/files:"
SRC_URI:append:potluck-os = " file://potluck.cfg file://potluck-oe.cfg"
