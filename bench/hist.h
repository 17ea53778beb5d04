/*
 * A histogram of times: buckets that are 1.6 % wide at most, from 0.1 us to minutes. Any number of
 * values fits, and those of several threads add up.
 */
#ifndef BENCH_HIST_H
#define BENCH_HIST_H

#include <stdint.h>

enum {
    HIST_HALF = 64, /* buckets per power of two */
    HIST_BUCKETS = 30 * HIST_HALF
};

struct hist {
    uint64_t n;
    uint64_t count[HIST_BUCKETS]; /* by units of 100 ns */
};

void hist_add(struct hist *h, uint64_t ns);
void hist_merge(struct hist *into, const struct hist *from);

/* The q-quantile (0 to 1) in microseconds: the middle of its bucket; 0 when there is no value. */
double hist_quantile(const struct hist *h, double q);

#endif
