/*
 * What a user may relay in a second (RFC 8656 §5, §21.1.7): a token bucket for each direction,
 * shared by all of the user's allocations on this worker. What is above it is dropped, never kept.
 */
#ifndef CT_CORE_TURN_METER_H
#define CT_CORE_TURN_METER_H

#include "core/likely.h"
#include "core/turn_state.h"

enum turn_direction {
    TURN_UP,  /* client to peer */
    TURN_DOWN /* peer to client */
};

/* Bytes in thousandths, so that a millisecond of the lowest rate is not lost. */
struct turn_bucket {
    uint64_t milli_bytes;
    uint64_t at_ms;
};

struct turn_meter {
    uint64_t user; /* turn_commons_user() of the user id */
    uint32_t allocations;
    struct turn_bucket buckets[2]; /* by enum turn_direction */
};

/*
 * Counts the allocation, whose user is known, to its user's meter; without the option when the
 * engine was made there is none (SLAB_NONE).
 */
void turn_meter_join(struct turn_server *s, struct turn_alloc *a);
void turn_meter_leave(struct turn_server *s, struct turn_alloc *a);

/* Takes so many bytes of payload; false, counted as dropped, when the user has none left. */
bool turn_meter_take(struct turn_server *s, const struct turn_alloc *a, enum turn_direction which,
                     size_t bytes, struct turn_now now);

static inline bool turn_meter_allows(struct turn_server *s, const struct turn_alloc *a,
                                     enum turn_direction which, size_t bytes, struct turn_now now)
{
    return likely(a->meter == SLAB_NONE) || turn_meter_take(s, a, which, bytes, now);
}

#endif
