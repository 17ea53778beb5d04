/* A load that several threads share: each has a part of the clients and of the rate. */
#ifndef BENCH_TEAM_H
#define BENCH_TEAM_H

#include "load.h"

enum {
    TEAM_MAX = 16
};

struct team_setup {
    int threads;                   /* 1 to TEAM_MAX, and not more than pairs of clients */
    int cpus[TEAM_MAX], cpu_count; /* thread i runs on cpus[i % cpu_count]; none: anywhere */
};

struct team;

/* Neighbours 2k and 2k + 1 stay together. Dies when memory is short. */
struct team *team_new(const struct load *load, const struct team_setup *setup);
void team_free(struct team *team);

/* As load_send(), from all of them at once; the result is of all together. */
void team_send(struct team *team, double seconds, struct load_result *result);

#endif
