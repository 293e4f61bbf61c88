/* Counts the bytes that a program reads from memory in qemu-user: a plugin of its code translator.
 * Every access goes through a model of the board's last cache; a load that misses it reads a line.
 * Weights are far larger than the cache, so what a decoded token reads is the weights it needs,
 * with lines that are brought in for a few of their bytes counted whole.
 *
 *   qemu-aarch64 -cpu cortex-a53 -plugin ./memory.so,out=FILE PROGRAM ARGUMENTS...
 *
 * FILE gets the number of bytes. The cache is that of the Zero 2 W's processor (BCM2710A1): 512 kB,
 * 16 ways, lines of 64 bytes, the least recently used of a set replaced. It is one for all threads,
 * as there; hints to prefetch count for nothing, for what they bring in is loaded soon after. */

#include <pthread.h>

#include "plugin.h"

enum { LINE_SHIFT = 6, WAYS = 16, SETS = (512 << 10) / WAYS >> LINE_SHIFT };

/* The lines of each set, the most recently used first. Line 0 is never used: no page lies there. */
static uint64_t lines[SETS][WAYS];
static uint64_t lines_read;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *out_path;

/* Whether the line had to be brought in. */
static bool misses(uint64_t line)
{
    uint64_t *set = lines[line % SETS];
    int way = 0;
    while (way < WAYS - 1 && set[way] != line)
        way++;
    bool is_new = set[way] != line;
    memmove(set + 1, set, way * sizeof *set);
    set[0] = line;
    return is_new;
}

static void accessed(unsigned cpu, access_info info, uint64_t address, void *data)
{
    (void)cpu, (void)data;
    uint64_t last = (address + (UINT64_C(1) << qemu_plugin_mem_size_shift(info)) - 1) >> LINE_SHIFT;
    pthread_mutex_lock(&lock);
    for (uint64_t line = address >> LINE_SHIFT; line <= last; line++)
        lines_read += misses(line) && !qemu_plugin_mem_is_store(info);
    pthread_mutex_unlock(&lock);
}

static void translated(plugin_id id, struct qemu_plugin_tb *tb)
{
    (void)id;
    for (size_t at = 0; at < qemu_plugin_tb_n_insns(tb); at++)
        qemu_plugin_register_vcpu_mem_cb(qemu_plugin_tb_get_insn(tb, at), accessed, NO_REGISTERS,
                                         READS_AND_WRITES, NULL);
}

static void finished(plugin_id id, void *data)
{
    (void)id, (void)data;
    FILE *out = fopen(out_path, "w");
    if (!out) {
        fprintf(stderr, "memory: cannot write %s\n", out_path);
        exit(1);
    }
    fprintf(out, "%" PRIu64 "\n", lines_read << LINE_SHIFT);
    fclose(out);
}

EXPORTED int qemu_plugin_install(plugin_id id, const qemu_info_t *info, int argc, char **argv)
{
    (void)info;
    out_path = out_of(argc, argv);
    if (!out_path) {
        fputs("memory: say where to: -plugin memory.so,out=FILE\n", stderr);
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, finished, NULL);
    return 0;
}
