/*
 * TCP allocations (RFC 6062): Connect, ConnectionBind, ConnectionAttempt, and the connections with
 * peers that they are about.
 *
 * A connection with a peer belongs to the worker that has its allocation; CONNECTION-ID names that
 * worker in its upper bits, the rest is random. A ConnectionBind that comes to another worker is
 * handed over together with the client's connection.
 */
#ifndef CT_CORE_TURN_TCP_H
#define CT_CORE_TURN_TCP_H

#include "core/turn_state.h"

enum {
    TURN_TCP_WORKER_BITS = 6,    /* of CONNECTION-ID */
    TURN_TCP_CONNECT_MS = 30000, /* §5.2: at least */
    TURN_TCP_BIND_MS = 30000,    /* §5.2, §5.3 */
};

/* Whether a client comes over a connection that can carry TCP allocations: TCP or TLS. */
static inline bool turn_tcp_carries(const struct turn_tuple *tuple)
{
    return tuple->transport == TURN_TCP || tuple->transport == TURN_TLS;
}

/*
 * Looks at a ConnectionBind before it is authenticated: r->alloc becomes the allocation that its
 * CONNECTION-ID is about, whose key may be all that still knows the client. True when request and
 * connection have been handed to the worker that has it.
 */
bool turn_tcp_find(struct turn_server *s, struct turn_request *r);

/* Handlers of authenticated requests: each answers, Connect when the peer has. */
void turn_connect(struct turn_server *s, struct turn_request *r);
void turn_connection_bind(struct turn_server *s, struct turn_request *r);

/* Whether the peer is this relayed transport address, by what clients are told or where we bind. */
bool turn_tcp_is(const struct turn_server *s, struct turn_port port, const struct addr *peer);

/* Whether the peer is a TCP port of ours that is relayed now. */
bool turn_tcp_relayed(const struct turn_server *s, const struct addr *peer);

/* How many connections with peers an allocation has, in whatever state. */
uint32_t turn_tcp_count(const struct turn_server *s, const struct turn_alloc *a);

/* Closes the connections of an allocation: all, with peers of a family, with refused peers. */
void turn_tcp_drop_all(struct turn_server *s, struct turn_alloc *a);
void turn_tcp_drop_family(struct turn_server *s, struct turn_alloc *a, uint8_t family);
void turn_tcp_enforce(struct turn_server *s, struct turn_alloc *a);

/* Ends the connection whose deadline this is; false when it is none's. */
bool turn_tcp_due(struct turn_server *s, struct deadline *d, struct turn_now now);

#endif
