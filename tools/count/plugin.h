/* The functions of QEMU that the plugins call, declared here, for Debian ships no qemu-plugin.h.
 * They are those that every version of the interface has had: a callback for each block, where
 * newer ones could also add in line. Each plugin includes this once, and is one file. */

#pragma once

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef PLUGIN_API
#define PLUGIN_API 1 /* QEMU 4.2 to 8.2; 9.0 and later want 2 or more */
#endif

#define EXPORTED __attribute__((visibility("default")))

typedef uint64_t plugin_id;
typedef uint32_t access_info;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef struct {
    const char *target_name;
    struct { int min, cur; } version;
    /* What follows, this does not read. */
} qemu_info_t;
enum { NO_REGISTERS = 0, READS_AND_WRITES = 3 };

typedef void (*translated_call)(plugin_id id, struct qemu_plugin_tb *block);
typedef void (*executed_call)(unsigned cpu, void *data);
typedef void (*accessed_call)(unsigned cpu, access_info info, uint64_t address, void *data);
typedef void (*finished_call)(plugin_id id, void *data);

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, translated_call call);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *block, executed_call call,
                                          int flags, void *data);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *instruction, accessed_call call,
                                      int flags, int which, void *data);
void qemu_plugin_register_atexit_cb(plugin_id id, finished_call call, void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *block, size_t index);
const char *qemu_plugin_insn_symbol(const struct qemu_plugin_insn *instruction);
unsigned qemu_plugin_mem_size_shift(access_info info);
bool qemu_plugin_mem_is_store(access_info info);

EXPORTED int qemu_plugin_version = PLUGIN_API;

/* The file that the argument out=FILE names; none if there is none. */
static const char *out_of(int argc, char **argv)
{
    const char *path = NULL;
    for (int i = 0; i < argc; i++)
        if (!strncmp(argv[i], "out=", 4))
            path = strdup(argv[i] + 4);
    return path;
}
