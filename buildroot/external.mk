include $(sort $(wildcard $(BR2_EXTERNAL_POTLUCK_PATH)/package/*/*.mk))
