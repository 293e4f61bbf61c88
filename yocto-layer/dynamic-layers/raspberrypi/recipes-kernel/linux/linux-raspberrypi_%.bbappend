# The options that the board needs: the Buildroot image's own fragments, under the names that
# oe-core expects.
FILESEXTRAPATHS:prepend:potluck-os := "${THISDIR}/files:"
SRC_URI:append:potluck-os = " file://potluck.cfg file://potluck-own.cfg"
