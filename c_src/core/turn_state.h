/*
 * What an engine holds: allocations, permissions and channels in slabs, found by 5-tuple; and the
 * request being handled. Internal to core/turn_*.c.
 */
#ifndef CT_CORE_TURN_STATE_H
#define CT_CORE_TURN_STATE_H

#include "core/deadline.h"
#include "core/hash.h"
#include "core/map.h"
#include "core/ratelimit.h"
#include "core/slab.h"
#include "core/stun_auth.h"
#include "core/stun_msg.h"
#include "core/turn_away.h"
#include "core/turn_commons.h"
#include "core/turn_ended.h"
#include "core/turn_keys.h"
#include "core/turn_server.h"

enum {
    /* Permissions and channels of an allocation hang in this many lists each: most hold one. */
    TURN_BUCKETS = 8,
    TURN_SHORT_NAME = 70, /* longer usernames take an object of their own */
};

/* A permission (RFC 8656 §9): an IP that may be reached and may reach us until it expires. */
struct turn_perm {
    uint64_t expires_ms;
    struct addr peer; /* port 0, as the client names it */
    uint32_t next;    /* in its bucket */
    bool ours;        /* one of our own relay IPs, */
    bool own;         /* of which only ports that are relayed addresses may be reached */
};

/* A channel binding (RFC 8656 §12); stays for a quarantine after it has expired. */
struct turn_chan {
    uint64_t expires_ms;
    struct addr peer;     /* as the client names it */
    uint32_t perm;        /* number of the permission for peer's IP, refreshed separately */
    uint32_t next_number; /* in its bucket by number */
    uint32_t next_peer;   /* in its bucket by peer */
    uint16_t number;
};

/* A relayed transport address (RFC 8656 §3.2). */
struct turn_place {
    union {
        struct turn_relay *relay;       /* NULL in switch mode */
        struct turn_acceptor *acceptor; /* where port.tcp */
    };
    struct addr relayed; /* what the client was told */
    struct turn_port port;
};

/* The other one of a dual allocation, of the other family, with a lifetime of its own. */
struct turn_second {
    struct deadline deadline; /* first, so that it is found from there */
    struct turn_place place;
    uint32_t alloc;
};

/* A move to another 5-tuple that no data has come from yet (RFC 8016 §3.2.2). */
struct turn_move {
    struct turn_tuple tuple;
    uint8_t tid[STUN_TID_SIZE]; /* of the Refresh that began it, to know its retransmissions */
};

enum turn_tcp_state {
    TURN_TCP_CONNECTING, /* a Connect request waits for its answer */
    TURN_TCP_PENDING,    /* the client has been told, and is to bind it */
    TURN_TCP_BOUND
};

/* A TCP connection with a peer (RFC 6062 §5.2, §5.3). */
struct turn_tcp {
    struct deadline deadline; /* first; not set when it is bound */
    struct turn_pipe *pipe;
    struct addr peer; /* as the client names it */
    uint32_t alloc;
    uint32_t next; /* in the allocation's list */
    uint32_t id;   /* CONNECTION-ID */
    uint8_t state; /* enum turn_tcp_state */
    /* of the Connect request that waits: what its answer takes */
    uint8_t reply; /* enum stun_integrity */
    bool fingerprint;
    uint8_t tid[STUN_TID_SIZE];
    struct stun_key key;
};

struct turn_alloc {
    struct deadline deadline; /* when it expires; first, so that it is found from there */
    struct turn_tuple tuple;
    uint64_t id;   /* never 0 in a slot that is in use */
    uint64_t user; /* turn_commons_user() of the user id */
    uint64_t created_ms;
    uint64_t up_packets, up_bytes, down_packets, down_bytes;
    struct turn_place place;
    uint32_t second;       /* SLAB_NONE: not dual */
    uint32_t move;         /* SLAB_NONE: on one 5-tuple only */
    uint32_t tcps;         /* list of connections with peers; SLAB_NONE: none */
    uint32_t meter;        /* SLAB_NONE: the user's bandwidth is not limited */
    uint32_t ticket;       /* serial number of the newest one; 0: has none */
    uint32_t token_s;      /* its ACCESS-TOKEN ends so long after created_ms; 0: needs none */
    struct stun_key key;   /* of the credentials that made it: they outlive their expiry */
    uint8_t key_algorithm; /* enum stun_password_algorithm; NONE: a token's mac_key */
    bool has_token : 1;    /* RESERVATION-TOKEN */
    bool adrift : 1;       /* connection and `tuple` are gone; a ticket may bring others */
    uint8_t icmp_count;
    uint8_t tid[STUN_TID_SIZE]; /* of the Allocate request, to know its retransmissions */
    uint8_t token[TURN_TOKEN_SIZE];
    uint16_t refused; /* ADDRESS-ERROR-CODE of the other family that was asked for, or 0 */
    uint16_t perm_count, chan_count;
    uint16_t icmp_second; /* in which icmp_count errors were told; wraps */
    uint32_t perms[TURN_BUCKETS];
    uint32_t chans_by_number[TURN_BUCKETS];
    uint32_t chans_by_peer[TURN_BUCKETS];
    uint32_t long_name; /* SLAB_NONE: the username is in short_name */
    uint16_t name_len;
    uint8_t short_name[TURN_SHORT_NAME];
};

struct turn_server {
    const struct turn_config *config;
    struct turn_commons *commons;
    struct crypto *crypto;
    struct turn_io *io;
    struct slab allocs, seconds, moves, perms, chans, names, meters, tcps;
    struct map by_tuple, meter_by_user, tcp_by_id;
    struct slab members, rooms; /* of allocations, at their numbers; empty without admission */
    struct map by_user;         /* the first of each user's */
    struct hash_seed seed;
    struct deadline_wheel wheel;
    struct ratelimit refusals;
    struct turn_keys keys;
    struct turn_counters counters;
    _Atomic uint32_t allocations; /* for other threads to read */
    uint64_t next_id;
    uint64_t random_state; /* of transaction ids of Data indications */
    bool draining;
    bool handed; /* the packet at hand came from another worker */
    uint16_t worker;
    struct turn_away away;
    struct turn_ended ended;
    uint8_t name[STUN_USERNAME_MAX]; /* of the request at hand, found by its USERHASH */
};

/* What the long-term credential check found (turn_auth.c). */
struct turn_auth {
    struct span username;
    struct stun_key key;
    uint8_t key_algorithm; /* enum stun_password_algorithm */
    uint32_t token_left;   /* seconds that the request's ACCESS-TOKEN is good for; 0: has none */
    bool protect;          /* the response carries integrity */
    enum stun_integrity reply; /* which */
};

/* What a Refresh with a MOBILITY-TICKET does. */
enum turn_ticket {
    TURN_TICKET_NONE,
    TURN_TICKET_MOVES,
    TURN_TICKET_AGAIN /* a retransmission of what moved it */
};

/* One request on its way through the server. */
struct turn_request {
    const struct turn_tuple *tuple;
    const struct stun_msg *msg;
    struct turn_alloc *alloc; /* on this 5-tuple; NULL when there is none */
    struct turn_auth auth;
    struct turn_now now;
    enum turn_ticket ticket;
    enum stun_error ticket_error; /* what is wrong with the MOBILITY-TICKET, or 0 */
};

static inline struct turn_alloc *turn_alloc_at(const struct turn_server *s, uint32_t number)
{
    return slab_at(&s->allocs, number);
}

/* Whether it relays TCP (RFC 6062). */
static inline bool turn_alloc_tcp(const struct turn_alloc *a)
{
    return a->place.port.tcp;
}

static inline struct turn_perm *turn_perm_at(const struct turn_server *s, uint32_t number)
{
    return slab_at(&s->perms, number);
}

static inline struct turn_chan *turn_chan_at(const struct turn_server *s, uint32_t number)
{
    return slab_at(&s->chans, number);
}

#endif
