/* Counts the instructions that a program executes in qemu-user: a plugin of its code translator.
 * What is counted is the same from run to run, on any machine, however busy.
 *
 *   qemu-aarch64 -cpu cortex-a53 -plugin ./count.so,out=FILE PROGRAM ARGUMENTS...
 *
 * FILE gets a line for every function, "INSTRUCTIONS FUNCTION", in no order; their sum is what the
 * program executed. A block of code is counted where it begins, and as a whole: the few that a
 * signal leaves half-way are counted full. */

#include <stdatomic.h>

#include "plugin.h"

/* One translation of a block. The same code may be translated again: then it is counted in both
 * places. */
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
    struct block *const *a = left, *const *b = right;
    return strcmp((*a)->function, (*b)->function);
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

EXPORTED int qemu_plugin_install(plugin_id id, const qemu_info_t *info, int argc, char **argv)
{
    (void)info;
    out_path = out_of(argc, argv);
    if (!out_path) {
        fputs("count: say where to: -plugin count.so,out=FILE\n", stderr);
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, finished, NULL);
    return 0;
}
