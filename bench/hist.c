#include "hist.h"

#include <stddef.h>

/*
 * Values below 2 * HIST_HALF have a bucket each. Above, the upper seven bits of a value say which,
 * and `shift` how many lower ones are left out.
 */
static size_t bucket_of(uint64_t v)
{
    if (v < 2 * HIST_HALF)
        return (size_t)v;
    unsigned shift = 57u - (unsigned)__builtin_clzll(v);
    size_t i = shift * (size_t)HIST_HALF + (size_t)(v >> shift);
    return i < HIST_BUCKETS ? i : HIST_BUCKETS - 1;
}

static double middle_of(size_t bucket)
{
    if (bucket < 2 * HIST_HALF)
        return (double)bucket;
    unsigned shift = (unsigned)(bucket / HIST_HALF) - 1;
    double first = (double)((uint64_t)(bucket - shift * (size_t)HIST_HALF) << shift);
    return first + (double)(1ull << shift) / 2;
}

void hist_add(struct hist *h, uint64_t ns)
{
    h->n++;
    h->count[bucket_of(ns / 100)]++;
}

void hist_merge(struct hist *into, const struct hist *from)
{
    into->n += from->n;
    for (size_t i = 0; i < HIST_BUCKETS; i++)
        into->count[i] += from->count[i];
}

double hist_quantile(const struct hist *h, double q)
{
    uint64_t rank = (uint64_t)((double)(h->n ? h->n - 1 : 0) * q), seen = 0;
    for (size_t i = 0; i < HIST_BUCKETS; i++) {
        seen += h->count[i];
        if (seen > rank)
            return middle_of(i) / 10;
    }
    return 0;
}
