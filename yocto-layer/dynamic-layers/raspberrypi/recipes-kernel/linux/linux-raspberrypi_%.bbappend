# The options that the board needs: the Buildroot image's own fragments, under names that oe-core looks for.
FILESEXTRAPATHS:prepend:potluck-os := "${THISDIR}/files:"
SRC_URI:append:potluck-os = " file://potluck.cfg file://potluck-own.cfg"
