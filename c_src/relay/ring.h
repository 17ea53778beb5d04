/*
 * The way of many small things from one thread to one other: records of any length in a ring of
 * memory, without a lock. What one thread puts, the other sees from ring_publish() on, all at once;
 * what the other takes stays where it lies until ring_release().
 */
#ifndef CT_RELAY_RING_H
#define CT_RELAY_RING_H

#include "core/buf.h"

#include <stdbool.h>

enum {
    RING_ALIGN = 16, /* where records begin, and what is before each to tell its length */
};

struct ring;

/*
 * size: bytes, a power of two and at least 64; a record takes its length rounded up and RING_ALIGN
 * more. Memory is touched as it comes into use. NULL when it is short.
 */
struct ring *ring_new(size_t size);
/* When neither thread uses it any more. NULL is fine. */
void ring_free(struct ring *r);

/* ---- the one thread ---- */

/*
 * Room for a record of len bytes, to be filled before it is published. NULL when the ring is full,
 * or too small.
 */
uint8_t *ring_put(struct ring *r, size_t len);
/* Shows the other thread all that has been put; false when there was nothing new. */
bool ring_publish(struct ring *r);

/* ---- the other thread ---- */

/* The next record, in the order of putting; data is NULL when there is none. */
struct span ring_take(struct ring *r);
/* What has been taken may be overwritten from here on. */
void ring_release(struct ring *r);

#endif
