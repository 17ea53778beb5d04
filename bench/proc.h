/*
 * What a process uses of the machine, as Linux tells it in /proc, and the few things that every
 * part of turnbench needs.
 */
#ifndef BENCH_PROC_H
#define BENCH_PROC_H

#include <stddef.h>
#include <stdint.h>

enum {
    PROC_MAX = 8,
    PROC_THREADS_MAX = 256
};

/* The processes that make up a server: for a relay that a BEAM owns, both can be given. */
struct procs {
    int pid[PROC_MAX];
    size_t n;
};

/* Prints "turnbench: ..." on stderr and exits with status 1. */
_Noreturn void die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Monotonic clock. */
uint64_t now_ns(void);

/* "123,456" to pids; dies of anything else. */
void procs_parse(struct procs *procs, const char *text);

/* One thread of a process, and the CPU nanoseconds that it has used. */
struct proc_thread {
    int tid;
    uint64_t ns;
};

/* Its living threads, in the order of their numbers; returns how many, PROC_THREADS_MAX at most. */
size_t proc_threads(int pid, struct proc_thread *out);

/* CPU nanoseconds that all living threads of a process have used; 0 when it is gone. */
uint64_t proc_cpu_ns(int pid);

/*
 * Resident KiB, counted page by page (smaps_rollup): the counter in /proc/PID/status may be off by
 * hundreds of KiB, which is what a thousand allocations of a small relay need.
 */
uint64_t proc_rss_kb(int pid);

/* CPU nanoseconds of this process, threads that have ended included. */
uint64_t proc_own_cpu_ns(void);

/* Sums over all of them. */
uint64_t procs_cpu_ns(const struct procs *procs);
uint64_t procs_rss_kb(const struct procs *procs);

/* As procs_rss_kb(), once two readings 200 ms apart are equal, or after 3 s. */
uint64_t procs_settled_rss_kb(const struct procs *procs);

/* Keeps this thread (pid 0) or another on one CPU. */
void proc_pin(int pid, int cpu);

#endif
