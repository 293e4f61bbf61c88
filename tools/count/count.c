/* Counts the instructions that a program executes in qemu-user: a plugin of its code translator. What is counted is the same
 * from run to run, on any machine, however busy.
 *
 *   qemu-aarch64 -cpu cortex-a53 -plugin ./count.so,out=FILE PROGRAM ARGUMENTS...
 *
 * FILE gets a line for every function, "INSTRUCTIONS FUNCTION", in no order; their sum is what the program executed. A block of
 * code is counted where it begins, and as a whole: the few that a signal leaves half-way are counted full.
 *
 * The functions of QEMU that this calls are declared here, for Debian ships no qemu-plugin.h. They are those that every
 * version of the interface has had: a callback for each block, where newer ones could also add in line. */

#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef PLUGIN_API
#define PLUGIN_API 1 /* QEMU 4.2 to 8.2; 9.0 and later want 2 or more */
#endif

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef struct {
    const char *target_name;
    struct { int min, cur; } version;
    /* What follows, this does not read. */
} qemu_info_t;
enum { NO_REGISTERS = 0 };

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*call)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *block, void (*call)(unsigned cpu, void *data), int flags,
                                          void *data);
void qemu_plugin_register_atexit_cb(plugin_id id, void (*call)(plugin_id, void *), void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *block, size_t index);
const char *qemu_plugin_insn_symbol(const struct qemu_plugin_insn *instruction);

__attribute__((visibility("default"))) int qemu_plugin_version = PLUGIN_API;

/* One translation of a block. The same code may be translated again: then it is counted in both places. */
struct block {
    _Atomic uint64_t times;
    uint64_t instructions;
    const char *function;
    struct block *next;
};

static _Atomic(struct block *) blocks;
static const char *out_path;

static void executed(unsigned cpu, void *data)
{
    (void)cpu;
    atomic_fetch_add_explicit(&((struct block *)data)->times, 1, memory_order_relaxed);
}

static void translated(plugin_id id, struct qemu_plugin_tb *tb)
{
    (void)id;
    struct block *block = calloc(1, sizeof *block);
    if (!block) {
        fputs("count: out of memory\n", stderr);
        exit(1);
    }
    block->instructions = qemu_plugin_tb_n_insns(tb);
    const char *name = qemu_plugin_insn_symbol(qemu_plugin_tb_get_insn(tb, 0));
    /* QEMU may free the name with the block. */
    block->function = name && *name ? strdup(name) : "?";
    block->next = atomic_load(&blocks);
    while (!atomic_compare_exchange_weak(&blocks, &block->next, block)) {
    }
    qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, NO_REGISTERS, block);
}

static int by_function(const void *left, const void *right)
{
    return strcmp((*(struct block *const *)left)->function, (*(struct block *const *)right)->function);
}

static void finished(plugin_id id, void *data)
{
    (void)id, (void)data;
    size_t count = 0;
    for (struct block *block = blocks; block; block = block->next)
        count++;
    struct block **sorted = malloc((count + 1) * sizeof *sorted);
    FILE *out = fopen(out_path, "w");
    if (!sorted || !out) {
        fprintf(stderr, "count: cannot write %s\n", out_path);
        exit(1);
    }
    count = 0;
    for (struct block *block = blocks; block; block = block->next)
        sorted[count++] = block;
    qsort(sorted, count, sizeof *sorted, by_function);
    for (size_t from = 0, to; from < count; from = to) {
        uint64_t sum = 0;
        for (to = from; to < count && !strcmp(sorted[to]->function, sorted[from]->function); to++)
            sum += sorted[to]->instructions * sorted[to]->times;
        fprintf(out, "%" PRIu64 " %s\n", sum, sorted[from]->function);
    }
    fclose(out);
}

__attribute__((visibility("default"))) int qemu_plugin_install(plugin_id id, const qemu_info_t *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++)
        if (!strncmp(argv[i], "out=", 4))
            out_path = strdup(argv[i] + 4);
    if (!out_path) {
        fputs("count: say where to: -plugin count.so,out=FILE\n", stderr);
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, finished, NULL);
    return 0;
}
