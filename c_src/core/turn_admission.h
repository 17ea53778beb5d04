/*
 * Admission: only users with a grant have allocations, and in scope `room` data goes only between
 * users who are in one room (ours: no RFC knows it).
 *
 * Grants are in turn_commons. Here is what a worker keeps of them for each allocation, so that no
 * packet needs the lock: brought up to date by turn_server_admission().
 */
#ifndef CT_CORE_TURN_ADMISSION_H
#define CT_CORE_TURN_ADMISSION_H

#include "core/turn_alloc.h"
#include "core/turn_grants.h"

/* Of an allocation, at its number: which others are the same user's, and since when it is there. */
struct turn_member {
    uint64_t since; /* turn_grants_time() when the user was let in */
    uint32_t next, previous;
};

/* False when memory is short; nothing is kept while admission is off. */
bool turn_admission_init(struct turn_server *s);
void turn_admission_free(struct turn_server *s);

/* A user who wants an allocation. */
struct turn_entrant {
    uint64_t user;  /* turn_commons_user() of the user id */
    uint64_t since; /* the rest is filled in by turn_admission_check() */
    struct turn_rooms rooms;
    bool refused; /* has no grant */
    bool early;   /* and grants are not complete */
};

/*
 * Whether the user has a grant, or needs none: else who->refused. To be called between the lock and
 * unlock effects that the user's allocations are counted in.
 */
bool turn_admission_check(const struct turn_server *s, struct turn_entrant *who);

/*
 * Counts and tells a refusal. False when the request is to stay unanswered, so that it comes again:
 * the grants are not complete.
 */
bool turn_admission_refuse(struct turn_server *s, const struct turn_request *r,
                           const struct turn_entrant *who);

/* From here on the allocation, whose user was let in so, follows what becomes of the grants. */
void turn_admission_join(struct turn_server *s, const struct turn_alloc *a,
                         const struct turn_entrant *who);
/* When it ends. */
void turn_admission_leave(struct turn_server *s, const struct turn_alloc *a);

/* The rooms that an allocation's data may go to; NULL: it is not bound to rooms. */
static inline const struct turn_rooms *turn_admission_rooms(const struct turn_server *s,
                                                            const struct turn_alloc *a)
{
    if (s->config->admission != TURN_ADMISSION_ROOM)
        return NULL;
    return slab_at(&s->rooms, turn_alloc_number(s, a));
}

/*
 * Whether data from who has these rooms, as of turn_admission_rooms() with another worker, may
 * reach allocation number `to`.
 */
static inline bool turn_admission_lets(const struct turn_server *s, const struct turn_rooms *from,
                                       uint32_t to)
{
    if (s->config->admission != TURN_ADMISSION_ROOM)
        return true;
    return from && turn_rooms_meet(from, slab_at(&s->rooms, to));
}

/* The same between two allocations of this worker. */
static inline bool turn_admission_joins(const struct turn_server *s, const struct turn_alloc *from,
                                        uint32_t to)
{
    return s->config->admission != TURN_ADMISSION_ROOM ||
           turn_rooms_meet(turn_admission_rooms(s, from), slab_at(&s->rooms, to));
}

#endif
