/*
 * Events toward the BEAM are sent against credit that it granted, so that a flood of them never
 * fills its mailbox. Without credit an event is counted and lost. Any thread may take credit.
 */
#ifndef CT_RELAY_CREDIT_H
#define CT_RELAY_CREDIT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    CREDIT_MAX = 1 << 30
};

struct credit {
    _Atomic int64_t left;
    _Atomic uint64_t dropped; /* events that found no credit, or no room in the pipe */
};

/* n is at most CREDIT_MAX, and so is what can pile up. */
static inline void credit_grant(struct credit *c, uint64_t n)
{
    int64_t left = atomic_load(&c->left), sum;

    do {
        sum = left + (int64_t)n;
    } while (!atomic_compare_exchange_weak(&c->left, &left, sum < CREDIT_MAX ? sum : CREDIT_MAX));
}

static inline void credit_drop(struct credit *c)
{
    atomic_fetch_add_explicit(&c->dropped, 1, memory_order_relaxed);
}

/* True when an event may be sent; when not, the caller drops it or keeps it for later. */
static inline bool credit_take(struct credit *c)
{
    int64_t left = atomic_load(&c->left);

    while (left > 0)
        if (atomic_compare_exchange_weak(&c->left, &left, left - 1))
            return true;
    return false;
}

#endif
