/*
 * Transactions of Allocate requests whose allocation has ended before the 40 seconds were over in
 * which a copy of the request may still arrive (RFC 8489 §6.3.1). Bounded: the newest displace the
 * oldest.
 */
#ifndef CT_CORE_TURN_ENDED_H
#define CT_CORE_TURN_ENDED_H

#include "core/hash.h"
#include "core/map.h"
#include "core/turn_io.h"

enum {
    TURN_ENDED_MS = 40 * 1000,
    TURN_ENDED_MAX = 16384, /* 410 allocations a second that are let go at once */
};

struct turn_ended_entry;

struct turn_ended {
    struct turn_ended_entry *ring;
    struct map by_hash;
    struct hash_seed seed;
    uint32_t capacity, used, next;
};

/* False when memory is short; the seed is the caller's to fill. */
bool turn_ended_init(struct turn_ended *e, uint32_t capacity);
void turn_ended_free(struct turn_ended *e);

/* Remembers a transaction id (12 bytes) of a 5-tuple until a time. */
void turn_ended_put(struct turn_ended *e, const struct turn_tuple *tuple, const uint8_t *tid,
                    uint64_t until_ms);

/* Whether a request is a copy of one that is remembered. Constant time. */
bool turn_ended_has(const struct turn_ended *e, const struct turn_tuple *tuple, const uint8_t *tid,
                    uint64_t now_ms);

#endif
