/*
 * Who has been admitted: grants, each a pair of a user and a room, both as keyed hashes (64 bits
 * under a secret seed: of a million users two share one once in 37 million starts).
 *
 * One table for all workers, sized at start; used between the lock and unlock effects.
 */
#ifndef CT_CORE_TURN_GRANTS_H
#define CT_CORE_TURN_GRANTS_H

#include "core/err.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    TURN_USER_ROOMS_MAX = 8, /* rooms that one user can be in */
    TURN_ROOM_MAX = 255,     /* bytes of a room's name; a user's are STUN_USERNAME_MAX */
    TURN_GRANTS_LIMIT = 1 << 24,
};

/* The rooms of a user, in no order; 0, which no room is, behind the last. */
struct turn_rooms {
    uint64_t hash[TURN_USER_ROOMS_MAX];
};

/* How many there are. */
static inline unsigned turn_rooms_count(const struct turn_rooms *r)
{
    unsigned n = 0;
    while (n < TURN_USER_ROOMS_MAX && r->hash[n])
        n++;
    return n;
}

/* Whether there is one that both have. */
static inline bool turn_rooms_meet(const struct turn_rooms *a, const struct turn_rooms *b)
{
    for (unsigned i = 0; i < TURN_USER_ROOMS_MAX && a->hash[i]; i++)
        for (unsigned k = 0; k < TURN_USER_ROOMS_MAX && b->hash[k]; k++)
            if (a->hash[i] == b->hash[k])
                return true;
    return false;
}

struct turn_grants;

/* Room for `max` grants, 1 to TURN_GRANTS_LIMIT. NULL when memory is short. */
struct turn_grants *turn_grants_new(uint32_t max);
void turn_grants_free(struct turn_grants *g);

/*
 * Admits a user to a room (not 0): CT_EFORBIDDEN when he is in TURN_USER_ROOMS_MAX others,
 * CT_ENOSPACE when `max` grants are there. *fresh: he was not in it before.
 */
enum ct_err turn_grants_put(struct turn_grants *g, uint64_t user, uint64_t room, bool *fresh);

/*
 * Takes it back; false when there was none. *ended: 0 while he is in another room, else a time as
 * of turn_grants_time(): what he was let in for before it is to end.
 */
bool turn_grants_take(struct turn_grants *g, uint64_t user, uint64_t room, uint64_t *ended);

/* The rooms that a user is in; NULL: none. Valid until the next change. */
const struct turn_rooms *turn_grants_of(const struct turn_grants *g, uint64_t user);

/* How many users have lost their last grant so far: which of two things came first. */
uint64_t turn_grants_time(const struct turn_grants *g);

/* Whoever has no grant yet may get one any moment, until this is called. */
void turn_grants_open(struct turn_grants *g);
bool turn_grants_are_open(const struct turn_grants *g);

uint32_t turn_grants_count(const struct turn_grants *g);

#endif
