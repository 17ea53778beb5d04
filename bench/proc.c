#define _GNU_SOURCE
#include "proc.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

_Noreturn void die(const char *fmt, ...)
{
    va_list args;
    fputs("turnbench: ", stderr);
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void procs_parse(struct procs *procs, const char *text)
{
    procs->n = 0;
    for (const char *p = text; *p;) {
        char *end;
        long pid = strtol(p, &end, 10);
        if (end == p || (*end && *end != ',') || pid <= 0 || pid > INT32_MAX)
            die("-P wants process ids with commas between them, not %s", text);
        if (procs->n == PROC_MAX)
            die("-P takes at most %d processes", PROC_MAX);
        procs->pid[procs->n++] = (int)pid;
        p = *end ? end + 1 : end;
    }
}

/* The first field of schedstat: nanoseconds spent on a CPU. */
static uint64_t thread_cpu_ns(int pid, const char *thread)
{
    char path[320];
    uint64_t ns = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", pid, thread);
    FILE *f = fopen(path, "r");
    if (!f)
        return 0;
    if (fscanf(f, "%" SCNu64, &ns) != 1)
        ns = 0;
    fclose(f);
    return ns;
}

static int by_tid(const void *a, const void *b)
{
    return ((const struct proc_thread *)a)->tid - ((const struct proc_thread *)b)->tid;
}

size_t proc_threads(int pid, struct proc_thread *out)
{
    char path[64];
    size_t n = 0;
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *dir = opendir(path);
    if (!dir)
        return 0;
    for (struct dirent *entry; n < PROC_THREADS_MAX && (entry = readdir(dir));)
        if (entry->d_name[0] != '.')
            out[n++] = (struct proc_thread){(int)strtol(entry->d_name, NULL, 10),
                                            thread_cpu_ns(pid, entry->d_name)};
    closedir(dir);
    qsort(out, n, sizeof *out, by_tid);
    return n;
}

uint64_t proc_cpu_ns(int pid)
{
    struct proc_thread threads[PROC_THREADS_MAX];
    uint64_t sum = 0;
    size_t n = proc_threads(pid, threads);
    for (size_t i = 0; i < n; i++)
        sum += threads[i].ns;
    return sum;
}

uint64_t proc_own_cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t proc_rss_kb(int pid)
{
    char path[64], line[256];
    uint64_t kb = 0;
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pid);
    FILE *f = fopen(path, "r");
    if (!f)
        die("%s: %s", path, strerror(errno));
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "Rss: %" SCNu64, &kb) == 1)
            break;
    fclose(f);
    return kb;
}

uint64_t procs_cpu_ns(const struct procs *procs)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < procs->n; i++)
        sum += proc_cpu_ns(procs->pid[i]);
    return sum;
}

uint64_t procs_rss_kb(const struct procs *procs)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < procs->n; i++)
        sum += proc_rss_kb(procs->pid[i]);
    return sum;
}

uint64_t procs_settled_rss_kb(const struct procs *procs)
{
    uint64_t last = UINT64_MAX, kb = procs_rss_kb(procs);
    for (int tries = 0; tries < 15 && kb != last; tries++) {
        nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
        last = kb;
        kb = procs_rss_kb(procs);
    }
    return kb;
}

void proc_pin(int pid, int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    if (sched_setaffinity(pid, sizeof set, &set))
        die("CPU %d: %s", cpu, strerror(errno));
}
