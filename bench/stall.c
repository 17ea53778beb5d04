/*
 * What becomes of the clients of other workers while one worker stands still: the thread that did
 * most is stopped by ptrace(2), alone, as a fault or a debugger would.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

static const double WARM_UP_S = 1.0;

struct phase {
    struct load_result *result;
    uint64_t *got; /* by client */
};

static struct phase send_for(struct bench *b, double seconds)
{
    struct phase p = {malloc(sizeof *p.result), calloc((size_t)b->load.n, sizeof *p.got)};
    struct load load = b->load;
    if (!p.result || !p.got)
        die("no memory");
    load.echo = true;
    load.got = p.got;
    struct team *team = team_new(&load, &b->team);
    team_send(team, seconds, p.result);
    team_free(team);
    return p;
}

static void phase_free(struct phase *p)
{
    free(p->result);
    free(p->got);
}

static int busiest(int pid, const struct proc_thread *before, size_t n)
{
    struct proc_thread now[PROC_THREADS_MAX];
    size_t threads = proc_threads(pid, now);
    uint64_t most = 0;
    int tid = 0;
    for (size_t i = 0; i < threads; i++)
        for (size_t j = 0; j < n; j++)
            if (now[i].tid == before[j].tid && now[i].ns - before[j].ns > most) {
                most = now[i].ns - before[j].ns;
                tid = now[i].tid;
            }
    return tid;
}

static void halt(int tid)
{
    int status;
    if (ptrace(PTRACE_SEIZE, tid, NULL, NULL) || ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) ||
        waitpid(tid, &status, __WALL) != tid)
        die("ptrace: %s", strerror(errno));
}

static int with_some(const struct bench *b, const uint64_t *got)
{
    int n = 0;
    for (int i = 0; i < b->load.n; i++)
        n += got[i] > 0;
    return n;
}

/* Of what was sent by the clients that got anything at all, percent that did not come back. */
static double loss_of_served(const struct bench *b, const struct phase *p)
{
    double sent = (double)p->result->sent * with_some(b, p->got) / b->load.n;
    return sent > 0 ? 100 * (1 - (double)p->result->delivered / sent) : 0;
}

static void print_phase(const struct bench *b, const char *name, const struct phase *p)
{
    printf(",\"%s\":{\"clients_served\":%d,\"delivered\":%" PRIu64
           ",\"loss_pct_of_served\":%.3f,\"p50_us\":%.1f,\"p99_us\":%.1f}",
           name, with_some(b, p->got), p->result->delivered, loss_of_served(b, p),
           hist_quantile(&p->result->latency, 0.5), hist_quantile(&p->result->latency, 0.99));
}

void stall_run(struct bench *b)
{
    struct proc_thread threads[PROC_THREADS_MAX];
    if (b->server.n == 0)
        die("stall wants -P");
    bench_open_all(b);
    size_t n = proc_threads(b->server.pid[0], threads);
    struct phase before = send_for(b, WARM_UP_S);
    int tid = busiest(b->server.pid[0], threads, n);
    halt(tid);
    /* who looks on from outside reads this, and knows when */
    printf("{\"stalled\":%d}\n", tid);
    fflush(stdout);
    struct phase during = send_for(b, b->seconds);
    printf("{\"going_on\":%d}\n", tid);
    fflush(stdout);
    ptrace(PTRACE_DETACH, tid, NULL, NULL);
    struct phase after = send_for(b, WARM_UP_S);
    printf("{\"mode\":\"%s\",\"clients\":%d,\"asked_pps\":%.0f", b->mode->name, b->load.n,
           b->load.rate);
    print_phase(b, "before", &before);
    print_phase(b, "during", &during);
    print_phase(b, "after", &after);
    printf("}\n");
    phase_free(&before);
    phase_free(&during);
    phase_free(&after);
    bench_close_all(b);
}
