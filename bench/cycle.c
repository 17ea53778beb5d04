/* Allocations that come and go one after another: the time of each is the server's and ours. */
#include "bench.h"

#include <stdio.h>

/* Returns how often. */
static uint64_t cycle(struct bench *b, uint64_t end)
{
    uint64_t cycles = 0;
    for (int i = 0; now_ns() < end; i = (i + 1) % b->load.n) {
        struct client *c = &b->load.clients[i];
        client_release(c, &b->source);
        client_close(c);
        bench_open(b, i);
        cycles++;
    }
    return cycles;
}

void cycle_run(struct bench *b)
{
    bench_open_all(b);
    cycle(b, now_ns() + 500000000u);
    uint64_t before[PROC_MAX], cpu = procs_cpu_ns(&b->server), start = now_ns();
    for (size_t i = 0; i < b->server.n; i++)
        before[i] = proc_cpu_ns(b->server.pid[i]);
    double cycles = (double)cycle(b, start + (uint64_t)b->seconds * 1000000000u);
    double seconds = (double)(now_ns() - start) * 1e-9;
    double used = (double)(procs_cpu_ns(&b->server) - cpu);
    printf("{\"mode\":\"%s\",\"clients\":%d,\"cycles_per_s\":%.0f"
           ",\"server_cpu_us_per_cycle\":%.1f,\"server_cpu_by_process\":[",
           b->mode->name, b->load.n, cycles / seconds, used / cycles / 1e3);
    for (size_t i = 0; i < b->server.n; i++)
        printf("%s%.0f", i ? "," : "",
               (double)(proc_cpu_ns(b->server.pid[i]) - before[i]) / cycles);
    printf("]}\n");
    bench_close_all(b);
}
