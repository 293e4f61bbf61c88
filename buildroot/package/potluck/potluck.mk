################################################################################
#
# potluck
#
################################################################################

# Installed as built by "make firmware": Buildroot's own cargo infrastructure
# would use another profile, and the binary needs no library.
POTLUCK_BINARY = $(or $(POTLUCK_BIN),$(call qstrip,$(BR2_PACKAGE_POTLUCK_BINARY)))
POTLUCK_MODEL = $(or $(POTLUCK_DEMO_MODEL),$(call qstrip,$(BR2_PACKAGE_POTLUCK_MODEL)))
POTLUCK_LICENSE = MIT or Apache-2.0

define POTLUCK_CHECK
	@test -f "$(POTLUCK_BINARY)" || { \
		echo "potluck: no binary at $(POTLUCK_BINARY): run make firmware, or set POTLUCK_BIN" >&2; exit 1; }
	@$(TARGET_READELF) -h "$(POTLUCK_BINARY)" | grep -q 'Machine: *AArch64' || { \
		echo "potluck: $(POTLUCK_BINARY) is not built for aarch64: run make firmware" >&2; exit 1; }
	@! $(TARGET_READELF) -l "$(POTLUCK_BINARY)" | grep -q INTERP || { \
		echo "potluck: $(POTLUCK_BINARY) is not static: run make firmware" >&2; exit 1; }
endef
POTLUCK_PRE_INSTALL_TARGET_HOOKS += POTLUCK_CHECK

ifneq ($(POTLUCK_MODEL),)
define POTLUCK_INSTALL_MODEL
	$(INSTALL) -D -m 0644 "$(POTLUCK_MODEL)" $(TARGET_DIR)/usr/share/potluck/demo.gguf
endef
endif

define POTLUCK_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 0755 "$(POTLUCK_BINARY)" $(TARGET_DIR)/usr/bin/potluck
	$(POTLUCK_INSTALL_MODEL)
endef

$(eval $(generic-package))
