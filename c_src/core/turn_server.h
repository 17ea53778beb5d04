/*
 * The TURN server as a state machine: one engine per worker, which owns all state of its clients.
 *
 * Nothing here blocks, reads a clock, opens a socket or allocates memory after turn_server_new().
 */
#ifndef CT_CORE_TURN_SERVER_H
#define CT_CORE_TURN_SERVER_H

#include "core/turn_config.h"
#include "core/turn_io.h"
#include "crypto/crypto.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* X(enumerator, name): one 64-bit counter each, per worker, summed by the reader. */
#define TURN_COUNTERS(X)                                                                          \
    X(TURN_N_UP_PACKETS, "up_packets")     /* client to peer, relayed */                          \
    X(TURN_N_UP_BYTES, "up_bytes")         /* payload bytes of those */                           \
    X(TURN_N_DOWN_PACKETS, "down_packets") /* peer to client, relayed */                          \
    X(TURN_N_DOWN_BYTES, "down_bytes")                                                            \
    X(TURN_N_ICMP, "icmp_errors")  /* told to clients in Data indications */                      \
    X(TURN_N_REQUESTS, "requests") /* STUN requests understood, Binding included */               \
    X(TURN_N_BINDINGS, "bindings")                                                                \
    X(TURN_N_CREATED, "allocations_created")                                                      \
    X(TURN_N_RELEASED, "allocations_released") /* by Refresh with lifetime 0 */                   \
    X(TURN_N_EXPIRED, "allocations_expired")                                                      \
    X(TURN_N_KILLED, "allocations_killed")                                                        \
    X(TURN_N_MOVED, "allocations_moved") /* to another 5-tuple, RFC 8016 */                       \
    X(TURN_N_REFRESHES, "refreshes")                                                              \
    X(TURN_N_PERMISSIONS, "permissions")         /* permissions installed or refreshed */         \
    X(TURN_N_CHANNELS, "channels")               /* channels bound or refreshed */                \
    X(TURN_N_CHALLENGES, "challenges")           /* 401 without credentials in the request */     \
    X(TURN_N_UNAUTHENTICATED, "unauthenticated") /* 401 for credentials that do not hold */       \
    X(TURN_N_STALE, "stale_nonces")                                                               \
    X(TURN_N_ERRORS, "errors")       /* all other error responses */                              \
    X(TURN_N_FORBIDDEN, "forbidden") /* 403 among them */                                         \
    X(TURN_N_DROP_MALFORMED, "drop_malformed")                                                    \
    X(TURN_N_DROP_UNEXPECTED, "drop_unexpected") /* method or class not served, responses */      \
    X(TURN_N_DROP_NO_ALLOCATION, "drop_no_allocation")                                            \
    X(TURN_N_DROP_NO_PERMISSION, "drop_no_permission")                                            \
    X(TURN_N_DROP_NO_CHANNEL, "drop_no_channel")                                                  \
    X(TURN_N_DROP_RATE, "drop_rate_limited")                                                      \
    X(TURN_N_DROP_SEND, "drop_send")       /* the kernel refused the datagram (the worker's) */   \
    X(TURN_N_DROP_RECEIVE, "drop_receive") /* datagram cut off by the buffer (the worker's) */    \
    X(TURN_N_CLOSED, "allocations_closed") /* ended with their client's connection */             \
    X(TURN_N_CONNECTIONS, "connections")   /* accepted (these are the worker's) */                \
    X(TURN_N_CONN_REFUSED, "connections_refused") /* too many */                                  \
    X(TURN_N_CONN_IDLE, "connections_idle")       /* closed: silent too long */                   \
    X(TURN_N_CONN_BROKEN, "connections_broken")   /* closed: bytes that make no sense */          \
    X(TURN_N_HANDSHAKES, "handshakes")            /* of TLS, completed */                         \
    X(TURN_N_DROP_QUEUE, "drop_queue")            /* client does not read, worker is full */      \
    X(TURN_N_PAIRED, "pair_packets")           /* of up_packets: to a relayed address of ours */  \
    X(TURN_N_DROP_RING, "drop_ring")           /* of those: the other worker is too far behind */ \
    X(TURN_N_DROP_BANDWIDTH, "drop_bandwidth") /* above what the user may relay */                \
    X(TURN_N_TCP_CONNECTED, "tcp_connected")   /* to peers, by Connect (RFC 6062) */              \
    X(TURN_N_TCP_FAILED, "tcp_failed")         /* 447 */                                          \
    X(TURN_N_TCP_ACCEPTED, "tcp_accepted")     /* from peers, told to the client */               \
    X(TURN_N_TCP_REFUSED, "tcp_refused")       /* from peers: no permission, no room */           \
    X(TURN_N_TCP_BOUND, "tcp_bound")           /* to a client's data connection */                \
    X(TURN_N_TCP_UNBOUND, "tcp_unbound")       /* closed, as none came in time */                 \
    X(TURN_N_TCP_CUT, "tcp_cut") /* data lost: no buffers, or nobody took it (the worker's) */    \
    X(TURN_N_REFUSED_ADMISSION, "refused_admission") /* of errors: 403 for want of a grant */     \
    X(TURN_N_DROP_EARLY, "drop_early") /* Allocate without one, while grants may yet come */      \
    X(TURN_N_WITHDRAWN, "allocations_withdrawn") /* ended with the user's last grant */           \
    X(TURN_N_DROP_OTHER_ROOM, "drop_other_room") /* data to or from who is in none of its rooms */

enum turn_counter {
#define TURN_COUNTER_ENUM(sym, name) sym,
    TURN_COUNTERS(TURN_COUNTER_ENUM)
#undef TURN_COUNTER_ENUM
    TURN_N_COUNT,
};

/* Written by one thread without locks, read by any other (each value by itself is exact). */
struct turn_counters {
    _Atomic uint64_t n[TURN_N_COUNT];
};

static inline void turn_count(struct turn_counters *c, enum turn_counter which, uint64_t add)
{
    uint64_t v = atomic_load_explicit(&c->n[which], memory_order_relaxed);
    atomic_store_explicit(&c->n[which], v + add, memory_order_relaxed);
}

const char *turn_counter_name(enum turn_counter which);

/* ---- events and snapshots ---- */

enum turn_end {
    TURN_END_RELEASED,
    TURN_END_EXPIRED,
    TURN_END_KILLED,
    TURN_END_SHUTDOWN,
    TURN_END_CLOSED,   /* the client's connection, and with it the 5-tuple, is gone */
    TURN_END_WITHDRAWN /* the user has no grant left */
};

enum turn_event_kind {
    TURN_EV_ALLOCATION_CREATED,
    TURN_EV_ALLOCATION_ENDED, /* `end` says why; the byte counts are final */
    /*
     * `peer` and the `rule` that refused it. Rule NULL: `reason` is "own_address", our own IP but
     * not a relayed port of it, or "switch_mode" or "admission", where it is none of our IPs.
     */
    TURN_EV_PEER_FORBIDDEN,
    TURN_EV_PERMISSION_CREATED, /* `peer` may be reached; where the configuration asks for it */
    TURN_EV_AUTH_FAILED,        /* credentials that do not hold; `reason` a closed word */
    TURN_EV_ADMISSION_REFUSED,  /* an Allocate request of a user without a grant */
};

/* One allocation, as events and lists show it. Pointers are valid during the call only. */
struct turn_alloc_info {
    uint64_t id; /* unique in this engine's life */
    struct span username;
    const struct turn_tuple *tuple;
    struct addr relayed; /* what clients were told */
    struct addr also;    /* the second one of a dual allocation; family ADDR_NONE: none */
    uint64_t age_ms;
    uint64_t expires_in_ms;
    uint64_t up_packets, up_bytes, down_packets, down_bytes;
    uint32_t permissions, channels;
    bool tcp;           /* relays TCP (RFC 6062), not UDP */
    uint32_t tcp_peers; /* connections with peers: under way, waiting for the client, joined */
};

struct turn_event {
    enum turn_event_kind kind;
    enum turn_end end;
    const struct turn_alloc_info *alloc; /* NULL for the last two kinds */
    const struct turn_tuple *tuple;
    struct span username;
    const struct addr *peer;
    const struct turn_rule *rule;
    const char *reason;
};

/* ---- what workers share ---- */

/*
 * Relayed ports in use, allocations per user and reservations: one for all engines, used between
 * the lock and unlock effects and only when allocations come and go.
 */
struct turn_commons;

/* NULL when memory is short. The configuration's relays, port range and max_allocations count. */
struct turn_commons *turn_commons_new(const struct turn_config *config);
void turn_commons_free(struct turn_commons *commons);

/* ---- the engine ---- */

struct turn_server;

struct turn_server_setup {
    const struct turn_config
        *config; /* must outlive the engine or the next turn_server_configure */
    struct turn_commons *commons;
    struct crypto *crypto; /* of the same thread */
    struct turn_io *io;
    uint16_t worker; /* which of the relay's engines this is: tickets name it (RFC 8016) */
};

/*
 * Memory for config->max_allocations is reserved at once and touched as it comes into use.
 * NULL when it cannot be had.
 */
struct turn_server *turn_server_new(const struct turn_server_setup *setup, struct turn_now now);

/* Ends every allocation (TURN_END_SHUTDOWN), closes its relays, frees everything. NULL is fine. */
void turn_server_free(struct turn_server *s, struct turn_now now);

/* A datagram or one frame from a client. */
void turn_server_from_client(struct turn_server *s, const struct turn_tuple *tuple,
                             struct turn_packet *packet, struct turn_now now);

/* A client's packet that another worker's engine handed over to this one. */
void turn_server_handed(struct turn_server *s, const struct turn_tuple *tuple,
                        struct turn_packet *packet, struct turn_now now);

/*
 * A datagram that another worker's engine gave to this one by pair_over(). It is dropped when its
 * port is no longer bound to the allocation that it names.
 */
void turn_server_paired(struct turn_server *s, const struct turn_pair *pair, struct turn_now now);

/* A datagram from a peer, arrived at the relayed transport address of allocation number `alloc`. */
void turn_server_from_peer(struct turn_server *s, uint32_t alloc, const struct addr *peer,
                           struct turn_packet *packet, struct turn_now now);

/* An ICMP error about a datagram that was sent to a peer (RFC 8656 §18.13), as the wire has it. */
struct turn_icmp {
    uint8_t type, code;
    uint32_t mtu; /* of the next hop, where the error is about that; else not looked at */
};

/*
 * The kernel has an ICMP error for the relayed transport address of `peer`'s family of allocation
 * number `alloc`; `peer` is where the datagram was meant to go. The client is told, if it may reach
 * that IP (§11.5), so and so often a second.
 */
void turn_server_icmp(struct turn_server *s, uint32_t alloc, const struct addr *peer,
                      const struct turn_icmp *icmp, struct turn_now now);

#define TURN_TCP_NONE UINT32_MAX

/*
 * A peer has connected to the acceptor of allocation number `alloc`. The connection's number, by
 * which the worker speaks of it from then on; or TURN_TCP_NONE: it is to be closed at once (RFC
 * 6062 §5.3). None of its data is to be read before tcp_join.
 */
uint32_t turn_server_accepted(struct turn_server *s, uint32_t alloc, const struct addr *peer,
                              struct turn_pipe *pipe, struct turn_now now);

/* How tcp_connect ended. When it failed the pipe is gone already. */
void turn_server_connected(struct turn_server *s, uint32_t tcp, bool connected,
                           struct turn_now now);

/* So much has been relayed, up to the peer and down to the client. */
void turn_server_tcp_moved(struct turn_server *s, uint32_t tcp, uint64_t up, uint64_t down);

/* A joined connection has ended on both sides; the pipe is gone. Never from within an effect. */
void turn_server_tcp_gone(struct turn_server *s, uint32_t tcp);

/*
 * A client's connection is closed: its allocation, if any, ends with it (TURN_END_CLOSED), since
 * nobody can come to that 5-tuple again (RFC 8656 §3.2). One that is moving goes on with the other
 * of its two, and one with a ticket waits for another until it expires (RFC 8016 §3.2.2). Never to
 * be called from within an effect.
 */
void turn_server_gone(struct turn_server *s, const struct turn_tuple *tuple, struct turn_now now);

/* The same of another worker's connection, whose packets were handed over. */
void turn_server_handed_gone(struct turn_server *s, const struct turn_tuple *tuple,
                             struct turn_now now);

/* Whether there is an allocation on this 5-tuple, or another worker may have it. */
bool turn_server_holds(const struct turn_server *s, const struct turn_tuple *tuple,
                       struct turn_now now);

/* Ends what has expired by now. To be called at turn_server_deadline(), or a little later. */
void turn_server_expire(struct turn_server *s, struct turn_now now);

/* When turn_server_expire() should next be called (monotonic ms); UINT64_MAX when nothing is due.
 */
uint64_t turn_server_deadline(const struct turn_server *s);

/*
 * Replaces the configuration while running: realm, secrets, lifetimes, quotas, policy. Relay
 * addresses, ports and max_allocations must be the old ones. Permissions and channels to peers that
 * the new policy refuses end at once; allocations stay.
 */
void turn_server_configure(struct turn_server *s, const struct turn_config *config);

/* While draining, new allocations are refused with 508; everything else goes on. */
void turn_server_drain(struct turn_server *s, bool on);

/* Calls visit for each allocation; visit must not call back into the engine. */
struct turn_visitor {
    void (*visit)(struct turn_visitor *v, const struct turn_alloc_info *info);
};
void turn_server_list(struct turn_server *s, struct turn_visitor *v, struct turn_now now);

/* Which allocations to end; an unset member selects all. */
struct turn_selector {
    uint64_t id;          /* 0: any */
    struct span username; /* data NULL: any; the whole USERNAME */
    struct span user;     /* data NULL: any; the user id within time-limited usernames */
};

/* Ends the selected allocations (TURN_END_KILLED); returns how many. */
uint32_t turn_server_kill(struct turn_server *s, const struct turn_selector *which,
                          struct turn_now now);

/* What has become of the grants of a user who had allocations when that happened. */
struct turn_grant_change {
    uint64_t user;  /* turn_commons_user() */
    uint64_t ended; /* as turn_grants_take() says */
};

/*
 * Ends the allocations of users whose last grant is gone (TURN_END_WITHDRAWN), but not what they
 * made since with a new one; lets those of others follow their rooms.
 */
void turn_server_admission(struct turn_server *s, const struct turn_grant_change *changes,
                           size_t count, struct turn_now now);

/* How many there are; any thread may ask. */
uint32_t turn_server_allocations(const struct turn_server *s);

/*
 * Valid as long as the engine; also counts what the worker itself drops. Any thread may read them.
 */
struct turn_counters *turn_server_counters(struct turn_server *s);

#endif
