/*
 * Relayed transport addresses: how they are opened and closed, and the second one of a dual
 * allocation (RFC 8656 §7.2, ADDITIONAL-ADDRESS-FAMILY).
 *
 * An allocation's first place is the one that lives longer: while it is live, the allocation is.
 */
#ifndef CT_CORE_TURN_PLACE_H
#define CT_CORE_TURN_PLACE_H

#include "core/likely.h"
#include "core/turn_alloc.h"

/* What is wanted of a relayed address. */
struct turn_wish {
    uint8_t family; /* enum addr_family; not looked at with a token */
    bool tcp;       /* RFC 6062: neither parity nor token then */
    enum turn_parity parity;
    struct span token; /* of a reservation; data NULL: none */
};

/*
 * Opens one for allocation number `alloc`: 0, 440 when nothing is relayed in that family, 508. With
 * TURN_EVEN_PORT_AND_NEXT the port after it is taken too.
 */
enum stun_error turn_place_open(struct turn_server *s, const struct turn_wish *wish, uint32_t alloc,
                                struct turn_place *out);
/* Closes it and gives its port back. */
void turn_place_close(struct turn_server *s, struct turn_place *place);

/*
 * Opens the second place: 0 or the error of ADDRESS-ERROR-CODE. It counts towards max_allocations,
 * as it takes a socket too, but not towards the user's quota. It expires when the first one does.
 */
enum stun_error turn_second_open(struct turn_server *s, struct turn_alloc *a,
                                 const struct turn_wish *wish);

/* The live second place; NULL when there is none. */
struct turn_second *turn_second_of(const struct turn_server *s, const struct turn_alloc *a,
                                   struct turn_now now);

/* The live place of this family; NULL when there is none. */
static inline const struct turn_place *turn_place_of(const struct turn_server *s,
                                                     const struct turn_alloc *a, uint8_t family,
                                                     struct turn_now now)
{
    if (a->place.relayed.family == family)
        return &a->place;
    const struct turn_second *second = a->second == SLAB_NONE ? NULL : turn_second_of(s, a, now);
    return second && second->place.relayed.family == family ? &second->place : NULL;
}

/*
 * The live place of a channel of the allocation; NULL when there is none. It is of the only place's
 * family: what the other place had went with it (turn_place_drop).
 */
static inline const struct turn_place *turn_chan_place(const struct turn_server *s,
                                                       const struct turn_alloc *a,
                                                       const struct turn_chan *c,
                                                       struct turn_now now)
{
    return likely(a->second == SLAB_NONE) ? &a->place : turn_place_of(s, a, c->peer.family, now);
}

/* Sets when a place of the allocation expires, and changes their order where that takes it. */
void turn_place_extend(struct turn_server *s, struct turn_alloc *a, uint8_t family,
                       uint64_t until_ms);

/* Closes one of two places, with the permissions and channels of its family (RFC 8656 §8.1). */
void turn_place_drop(struct turn_server *s, struct turn_alloc *a, uint8_t family);

/* The family of the second place, live or not; the allocation must have one. */
uint8_t turn_second_family(const struct turn_server *s, const struct turn_alloc *a);

/* Whether addresses of this family are relayed at all. */
bool turn_relays_family(const struct turn_server *s, uint8_t family);

/* The allocation whose second place has this deadline; NULL when it is an allocation's own. */
struct turn_alloc *turn_second_owner(const struct turn_server *s, const struct deadline *d);

#endif
