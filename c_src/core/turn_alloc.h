/* Allocations: Allocate and Refresh (RFC 8656 §7.2, §8.2), their making and their end. */
#ifndef CT_CORE_TURN_ALLOC_H
#define CT_CORE_TURN_ALLOC_H

#include "core/turn_mobility.h"
#include "core/turn_state.h"

static inline bool turn_alloc_live(const struct turn_alloc *a, struct turn_now now)
{
    return a->deadline.at > now.ms;
}

static inline uint64_t turn_alloc_hash(const struct turn_server *s, const struct turn_tuple *tuple)
{
    _Static_assert(sizeof *tuple == HASH_SEVEN, "a 5-tuple is seven words");
    return hash_seven(&s->tuple_seed, tuple);
}

/* The allocation of a 5-tuple, live or not; NULL when there is none. */
static inline struct turn_alloc *turn_alloc_on(const struct turn_server *s,
                                               const struct turn_tuple *tuple)
{
    struct map_iter it;
    uint32_t n = map_first(&s->by_tuple, turn_alloc_hash(s, tuple), &it);
    while (n != MAP_NONE && !turn_mobility_on(s, turn_alloc_at(s, n), tuple))
        n = map_next(&s->by_tuple, &it);
    return n == MAP_NONE ? NULL : turn_alloc_at(s, n);
}

/* The live allocation of a 5-tuple; NULL when there is none or it has expired. */
static inline struct turn_alloc *turn_alloc_find(const struct turn_server *s,
                                                 const struct turn_tuple *tuple,
                                                 struct turn_now now)
{
    struct turn_alloc *a = turn_alloc_on(s, tuple);
    return a && turn_alloc_live(a, now) ? a : NULL;
}

/* Made with an ACCESS-TOKEN (RFC 7635); its username is the key's id. */
static inline bool turn_alloc_by_token(const struct turn_alloc *a)
{
    return a->token_s != 0;
}

static inline uint32_t turn_alloc_number(const struct turn_server *s, const struct turn_alloc *a)
{
    return (uint32_t)((size_t)((const uint8_t *)a - s->allocs.memory) / s->allocs.stride);
}

/*
 * Copies of the request that put the allocation on its 5-tuple may still arrive there; they must
 * not make another one (RFC 8489 §6.3.1). For when it leaves the 5-tuple, or ends.
 */
void turn_alloc_remember(struct turn_server *s, const struct turn_alloc *a, struct turn_now now);

struct span turn_alloc_username(const struct turn_server *s, const struct turn_alloc *a);

struct turn_alloc_info turn_alloc_describe(const struct turn_server *s, const struct turn_alloc *a,
                                           struct turn_now now);

/* Lets the allocation be found by a 5-tuple, or no longer. */
void turn_alloc_map(struct turn_server *s, const struct turn_alloc *a,
                    const struct turn_tuple *tuple);
void turn_alloc_unmap(struct turn_server *s, const struct turn_alloc *a,
                      const struct turn_tuple *tuple);

/* Closes the relay, forgets permissions and channels, tells why. */
void turn_alloc_end(struct turn_server *s, struct turn_alloc *a, enum turn_end end,
                    struct turn_now now);

/* Handlers of authenticated requests: each answers. */
void turn_allocate(struct turn_server *s, struct turn_request *r);
void turn_refresh(struct turn_server *s, struct turn_request *r);

#endif
