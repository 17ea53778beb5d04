/* 5-tuples whose packets are for another worker (RFC 8016); bounded, the newest displace the
 * oldest. */
#ifndef CT_CORE_TURN_AWAY_H
#define CT_CORE_TURN_AWAY_H

#include "core/hash.h"
#include "core/map.h"
#include "core/slab.h"
#include "core/turn_io.h"

struct turn_away {
    struct slab slab;
    struct map by_tuple;
    struct hash_seed seed;
    uint32_t oldest;
};

/* False when memory is short; the seed is the caller's to fill. */
bool turn_away_init(struct turn_away *a, uint32_t capacity);
void turn_away_free(struct turn_away *a);

void turn_away_put(struct turn_away *a, const struct turn_tuple *tuple, uint16_t worker,
                   uint64_t now_ms);

/* The worker of a 5-tuple, when it was named or asked for within the last hour; else false. */
bool turn_away_find(struct turn_away *a, const struct turn_tuple *tuple, uint64_t now_ms,
                    uint16_t *worker);

/* The same, and forgets it. */
bool turn_away_take(struct turn_away *a, const struct turn_tuple *tuple, uint64_t now_ms,
                    uint16_t *worker);

/* Whether turn_away_find() would find it; asking does not make the hour any longer. */
bool turn_away_has(const struct turn_away *a, const struct turn_tuple *tuple, uint64_t now_ms);

#endif
