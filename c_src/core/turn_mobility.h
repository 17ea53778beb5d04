/*
 * Mobility (RFC 8016): a ticket lets its owner take the allocation to another 5-tuple.
 *
 * A ticket names worker, allocation and its own number in the sequence of that allocation's
 * tickets, encrypted and authenticated under a key of this boot. Until data comes from the new
 * 5-tuple both are the allocation's, and peers' data goes to the old one (§3.2.2).
 */
#ifndef CT_CORE_TURN_MOBILITY_H
#define CT_CORE_TURN_MOBILITY_H

#include "core/turn_state.h"

enum {
    TURN_MOVES_MAX = 4096, /* allocations of a worker that are on two 5-tuples */
    TURN_AWAY_MAX = 8192,  /* 5-tuples whose allocation is with another worker */
};

/* 0 when the Allocate request may have a ticket or wants none; 400, 405. */
enum stun_error turn_mobility_wanted(const struct turn_server *s, const struct stun_msg *m,
                                     bool *wanted);

/*
 * Reads the ticket of a Refresh: r->alloc becomes what it names, r->ticket what is to be done with
 * it, or r->ticket_error what is wrong. To be told only to who is authenticated. True when the
 * request has been handed to the worker that it is for.
 */
bool turn_mobility_find(struct turn_server *s, struct turn_request *r);

/* Makes the request's 5-tuple the second one of its allocation: 0, 508, or 403 as for Allocate. */
enum stun_error turn_mobility_move(struct turn_server *s, struct turn_request *r);

/* Appends MOBILITY-TICKET with the newest ticket. */
void turn_mobility_put(struct turn_server *s, const struct turn_alloc *a, struct wbuf *w);

/* Data came from this 5-tuple: when it is the new one, the old one is dropped. */
void turn_mobility_arrived(struct turn_server *s, struct turn_alloc *a,
                           const struct turn_tuple *tuple, struct turn_now now);

/*
 * This 5-tuple of the allocation is gone with its connection: a move is completed when it was the
 * old one, and undone when it was the new one. Without another the allocation is adrift: until it
 * expires a ticket may bring one ("break before make", RFC 8016 §3.2.2). False when nobody has a
 * ticket for it: then it ends.
 */
bool turn_mobility_gone(struct turn_server *s, struct turn_alloc *a, const struct turn_tuple *tuple,
                        struct turn_now now);

/* Whether the allocation is found by this 5-tuple, the old or the new one. */
static inline bool turn_mobility_on(const struct turn_server *s, const struct turn_alloc *a,
                                    const struct turn_tuple *tuple)
{
    if (!a->adrift && turn_tuple_eq(&a->tuple, tuple))
        return true;
    if (a->move == SLAB_NONE)
        return false;
    const struct turn_move *move = slab_at(&s->moves, a->move);
    return turn_tuple_eq(&move->tuple, tuple);
}

/* Forgets a move that has not been completed. */
void turn_mobility_drop(struct turn_server *s, struct turn_alloc *a);

/*
 * Hands a packet from a 5-tuple without an allocation here to the worker that has it; false when
 * there is none.
 */
bool turn_mobility_forward(struct turn_server *s, const struct turn_tuple *tuple,
                           struct span packet, struct turn_now now);

/* The same for the end of the 5-tuple, of which no more is known here afterwards. */
void turn_mobility_forward_gone(struct turn_server *s, const struct turn_tuple *tuple,
                                struct turn_now now);

#endif
